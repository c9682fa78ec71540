// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"sync"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/volseal/volseal/internal/config"
	"github.com/volseal/volseal/internal/control"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// policy is who may do what; a reload replaces it.
type policy struct {
	mu      sync.Mutex
	current control.Policy
}

// set grants what it can. With an error some group is missing on this host; a
// database must not stay down for that, and nobody gains by it.
func (p *policy) set(readers, operators string) error {
	next, err := control.NewPolicy(readers, operators)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.current = next
	return err
}

func (p *policy) permit(peer control.Peer) control.Permission {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.current.Permit(peer)
}

// Status implements control.Agent.
func (a *agent) Status() volume.Snapshot { return a.reconciler.Snapshot() }

// Volume implements control.Agent.
func (a *agent) Volume(name string) (volume.Status, bool) { return a.reconciler.Volume(name) }

// Do implements control.Agent.
func (a *agent) Do(_ context.Context, name string, order volume.Order, _ control.Peer) (uint64, error) {
	return a.reconciler.Do(name, order)
}

// Rotate implements control.Agent.
func (a *agent) Rotate(ctx context.Context, name string, order volume.RotateOrder, _ control.Peer) (volume.RotateAnswer, error) {
	return a.reconciler.Rotate(ctx, name, order)
}

// VerifyHeader implements control.Agent.
func (a *agent) VerifyHeader(ctx context.Context, name string) (volume.HeaderReport, error) {
	return a.reconciler.VerifyHeader(ctx, name)
}

// BackUpHeader implements control.Agent.
func (a *agent) BackUpHeader(ctx context.Context, name string) (volume.HeaderBackup, error) {
	return a.reconciler.BackUpHeader(ctx, name)
}

// RestoreHeader implements control.Agent.
func (a *agent) RestoreHeader(ctx context.Context, name string, order volume.HeaderOrder) (volume.HeaderRestored, error) {
	return a.reconciler.RestoreHeader(ctx, name, order)
}

// Changes implements control.Agent.
func (a *agent) Changes() (uint64, <-chan struct{}) { return a.reconciler.Changes() }

// FlushCache implements control.Agent.
func (a *agent) FlushCache(context.Context) error {
	a.keyring.Flush()
	a.log.Info("data-key cache flushed")
	return nil
}

// Reload implements control.Agent. A bad configuration changes nothing.
func (a *agent) Reload(ctx context.Context) error {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	notifyReloading()
	defer notify(daemon.SdNotifyReady)
	cfg, err := config.Load(a.dir)
	if err != nil {
		a.metrics.Reloaded(false)
		a.log.Error("reload refused; the old configuration stays", "error", err)
		a.reconciler.Doubt(&fault.Error{
			Class: fault.Misconfigured, Reason: "config-invalid",
			Cause: "The configuration in " + a.dir + " is invalid. The one before it is in use, and would not be after a reboot.",
			Hint:  "Run volseal config check, mend what it says, then volseal reload.", Err: err,
		})
		return invalidConfig(err)
	}
	// Units first: no worker may start a mount unit of the old configuration.
	if err := a.mounts.Sync(ctx, cfg.Volumes); err != nil {
		a.log.Error("mount units are not up to date", "error", err)
	}
	a.use(cfg)
	a.log.Info("configuration reloaded", "volumes", len(cfg.Volumes))
	return nil
}

func invalidConfig(err error) error {
	return &control.Error{
		Code: control.CodeInvalidConfig, Message: err.Error(),
		Hint: "Run volseal config check, mend what it says, and reload again. The old configuration stays in use.",
	}
}

// Healthy implements control.Agent: the locks that every pass takes are free.
func (a *agent) Healthy() bool {
	a.reconciler.Snapshot()
	return true
}

// Ready implements control.Agent.
func (a *agent) Ready() bool {
	for _, v := range a.reconciler.Snapshot().Volumes {
		if v.Phase != volume.Mounted {
			return false
		}
	}
	return true
}
