// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/volseal/volseal/internal/fault"
)

// TestStatusSaysWhoActs protects whoever is woken: status passes on whose an
// error is, and a list that is never null.
func TestStatusSaysWhoActs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := formatted(t, dir)
		w.kms.answer(&fault.Error{
			Class: fault.Revoked, Reason: fault.ReasonDeniedByPlatform, Cause: "x.", Who: []fault.Owner{fault.Platform},
		})
		h := startHost(t, w, dir)
		defer h.stop()
		if s := h.status(); s.Who == nil {
			t.Error("who is null before the first pass")
		}
		s := h.await("refused", func(s Status) bool { return s.Class == fault.Revoked })
		if !slices.Equal(s.Who, []fault.Owner{fault.Platform}) {
			t.Errorf("who: %v", s.Who)
		}
		w.kms.answer(nil)
		if s := h.await("Mounted", func(s Status) bool { return s.Phase == Mounted }); s.Who == nil || len(s.Who) > 0 {
			t.Errorf("who, while all is well: %#v", s.Who)
		}
	})
}
