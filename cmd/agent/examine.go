// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"slices"
	"time"

	"github.com/volseal/volseal/internal/config"
	"github.com/volseal/volseal/internal/control"
	"github.com/volseal/volseal/internal/doctor"
	"github.com/volseal/volseal/internal/envelope"
)

// examineLimit stays below what a client waits for.
const examineLimit = 25 * time.Second

// Doctor implements control.Agent.
func (a *agent) Doctor(ctx context.Context) (control.Report, error) {
	if !a.examining.TryLock() {
		return control.Report{}, busyExamining()
	}
	defer a.examining.Unlock()
	ctx, cancel := context.WithTimeout(ctx, examineLimit)
	defer cancel()
	return control.NewReport(a.connector.inside(ctx).Examine(ctx)), nil
}

// inside is what the agent reaches at the moment.
func (c *connector) inside(ctx context.Context) doctor.Inside {
	cfg, _, _ := c.settings()
	in := doctor.Inside{Keys: keysOf(cfg), Volume: attachable(cfg)}
	n, err := c.connect(ctx)
	if err != nil {
		in.SelfErr = err
		return in
	}
	in.Self, in.SelfErr = n.self(ctx)
	in.Cloud, in.KMS = n.cloud, n.kms
	return in
}

// keysOf are the configured CMKs, each once, with the context of a volume under it.
func keysOf(cfg config.Config) (refs []envelope.Ref) {
	for _, v := range cfg.Volumes {
		if !slices.ContainsFunc(refs, func(r envelope.Ref) bool { return r.KeyARN == v.KeyARN }) {
			refs = append(refs, envelope.Ref{KeyARN: v.KeyARN, Context: v.Context})
		}
	}
	return refs
}

// attachable is a volume that the agent would attach, "" if there is none.
func attachable(cfg config.Config) string {
	for _, v := range cfg.Volumes {
		if v.Attach && v.VolumeID != "" {
			return v.VolumeID
		}
	}
	return ""
}
