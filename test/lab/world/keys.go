// SPDX-License-Identifier: Apache-2.0

package world

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/volseal/volseal/test/lab/world/control"
)

func (w *World) createKey(_ context.Context, c call[control.CreateKey]) (control.Key, error) {
	arn, err := w.KMS.CreateKey(cmp.Or(c.in.Account, CustomerAccount), cmp.Or(c.in.Region, Region), c.in.Spec, c.in.Origin, !c.in.Unshared)
	return control.Key{ARN: arn}, err
}

func (w *World) showKey(_ context.Context, c call[control.Key]) (control.KeyState, error) {
	info, err := w.KMS.Describe(c.in.ARN)
	if err != nil {
		return control.KeyState{}, err
	}
	out := control.KeyState{ARN: info.ARN, State: info.State, Spec: info.Spec, Origin: info.Origin, Grants: info.Grants}
	if !info.Deletion.IsZero() {
		out.Deletion = &info.Deletion
	}
	return out, nil
}

func (w *World) changeKey(_ context.Context, c call[control.KeyChange]) (none, error) {
	changes := map[string]func(arn string) error{
		"enable":            func(arn string) error { return w.KMS.SetEnabled(arn, true) },
		"disable":           func(arn string) error { return w.KMS.SetEnabled(arn, false) },
		"schedule-deletion": func(arn string) error { return w.KMS.ScheduleDeletion(arn, 0) },
		"cancel-deletion":   w.KMS.CancelDeletion,
		"delete":            w.KMS.Delete,
		"import":            w.KMS.ImportMaterial,
		"rotate":            w.KMS.Rotate,
	}
	change, ok := changes[c.in.Change]
	if !ok {
		return none{}, refuse(http.StatusBadRequest, "NoSuchChange", "%q is none of %s", c.in.Change,
			strings.Join(slices.Sorted(maps.Keys(changes)), ", "))
	}
	return none{}, change(c.in.ARN)
}

func (w *World) setKeyPolicy(_ context.Context, c call[control.KeyPolicy]) (none, error) {
	return none{}, w.KMS.PutPolicy(c.in.ARN, c.in.Policy)
}

func (w *World) denyKey(_ context.Context, c call[control.KeyDeny]) (none, error) {
	return none{}, w.KMS.Deny(c.in.ARN, c.in.Actions...)
}

func (w *World) allowKey(_ context.Context, c call[control.Key]) (none, error) {
	return none{}, w.KMS.Allow(c.in.ARN)
}

func (w *World) unwrapKey(_ context.Context, c call[control.Wrapped]) (control.DataKey, error) {
	plain, err := w.KMS.Unwrap(c.in.ARN, c.in.Wrapped, c.in.Context)
	return control.DataKey{Plain: plain}, err
}
