// SPDX-License-Identifier: Apache-2.0

// Package controltest has an agent that does as a test tells it, for tests of
// the server, the client and the command line. It knows no volumes but those
// it is given, and nothing of how a real one acts.
package controltest

import (
	"context"
	"sync"

	"github.com/volseal/volseal/internal/control"
	"github.com/volseal/volseal/internal/volume"
)

// Call is one wish as the agent received it.
type Call struct {
	volume.Order
	Name string
	By   control.Peer
}

// Agent is a control.Agent of what a test sets. The zero value has no volumes
// and is neither healthy nor ready.
type Agent struct {
	// OnDo, if set, is called without any lock after a wish was numbered. Its
	// error refuses the wish.
	OnDo func(a *Agent, c Call, wish uint64) error
	// OnRotate, if set, is called as OnDo is, and its answer is completed with the wish.
	OnRotate func(a *Agent, name string, order volume.RotateOrder, wish uint64) (volume.RotateAnswer, error)
	// OnHeader, if set, answers the three requests about a header: verb is the last
	// word of the path, and the answer of the type that belongs to it.
	OnHeader func(verb, name string, order volume.HeaderOrder) (any, error)
	// OnHeaderContext, if set, is called first, with the context of the work.
	OnHeaderContext func(ctx context.Context)
	// ReloadError and FlushError are what Reload and FlushCache return.
	ReloadError, FlushError error
	IsHealthy, IsReady      bool
	// OnCheckKey and OnDoctor, if set, are CheckKey and Doctor.
	OnCheckKey func(arn string) (control.KeyReport, error)
	OnDoctor   func() (control.Report, error)

	mu       sync.Mutex
	snapshot volume.Snapshot
	calls    []Call
	revision uint64
	changed  chan struct{}
}

var _ control.Agent = (*Agent)(nil)

// Set replaces the status and tells those who wait.
func (a *Agent) Set(s volume.Snapshot) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.snapshot = s
	a.bump()
}

// Change edits one volume's status and tells those who wait.
func (a *Agent) Change(name string, edit func(*volume.Status)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	volumes := append([]volume.Status(nil), a.snapshot.Volumes...)
	for i := range volumes {
		if volumes[i].Name == name {
			edit(&volumes[i])
		}
	}
	a.snapshot.Volumes = volumes
	a.bump()
}

// Calls are the wishes so far.
func (a *Agent) Calls() []Call {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]Call(nil), a.calls...)
}

// Status is the last one set.
func (a *Agent) Status() volume.Snapshot {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.snapshot
}

// Volume is the status of one volume.
func (a *Agent) Volume(name string) (volume.Status, bool) {
	for _, v := range a.Status().Volumes {
		if v.Name == name {
			return v, true
		}
	}
	return volume.Status{}, false
}

// Do numbers the wish and has OnDo act on it.
func (a *Agent) Do(_ context.Context, name string, order volume.Order, by control.Peer) (uint64, error) {
	v, ok := a.Volume(name)
	if !ok {
		return 0, volume.ErrNoSuchVolume
	}
	c := Call{Order: order, Name: name, By: by}
	a.mu.Lock()
	a.calls = append(a.calls, c)
	a.mu.Unlock()
	wish := v.WishSeq + 1
	if a.OnDo != nil {
		if err := a.OnDo(a, c, wish); err != nil {
			return 0, err
		}
	}
	return wish, nil
}

// Rotate numbers the wish and has OnRotate act on it.
func (a *Agent) Rotate(_ context.Context, name string, order volume.RotateOrder, _ control.Peer) (answer volume.RotateAnswer, err error) {
	v, ok := a.Volume(name)
	if !ok {
		return answer, volume.ErrNoSuchVolume
	}
	if err := order.Validate(); err != nil {
		return answer, err
	}
	wish := v.WishSeq + 1
	if a.OnRotate != nil {
		answer, err = a.OnRotate(a, name, order, wish)
	}
	answer.Wish = wish
	return answer, err
}

// VerifyHeader is OnHeader's answer.
func (a *Agent) VerifyHeader(ctx context.Context, name string) (volume.HeaderReport, error) {
	return answerOf[volume.HeaderReport](ctx, a, "verify", name, volume.HeaderOrder{})
}

// BackUpHeader is OnHeader's answer.
func (a *Agent) BackUpHeader(ctx context.Context, name string) (volume.HeaderBackup, error) {
	return answerOf[volume.HeaderBackup](ctx, a, "backup", name, volume.HeaderOrder{})
}

// RestoreHeader is OnHeader's answer.
func (a *Agent) RestoreHeader(ctx context.Context, name string, order volume.HeaderOrder) (volume.HeaderRestored, error) {
	return answerOf[volume.HeaderRestored](ctx, a, "restore", name, order)
}

func answerOf[T any](ctx context.Context, a *Agent, verb, name string, order volume.HeaderOrder) (T, error) {
	var nothing T
	if _, ok := a.Volume(name); !ok {
		return nothing, volume.ErrNoSuchVolume
	}
	if a.OnHeaderContext != nil {
		a.OnHeaderContext(ctx)
	}
	if a.OnHeader == nil {
		return nothing, nil
	}
	answer, err := a.OnHeader(verb, name, order)
	if err != nil {
		return nothing, err
	}
	return answer.(T), nil
}

// FlushCache returns FlushError.
func (a *Agent) FlushCache(context.Context) error { return a.FlushError }

// Reload returns ReloadError.
func (a *Agent) Reload(context.Context) error { return a.ReloadError }

// CheckKey asks OnCheckKey.
func (a *Agent) CheckKey(_ context.Context, arn string) (control.KeyReport, error) {
	if a.OnCheckKey == nil {
		return control.KeyReport{ARN: arn}, nil
	}
	return a.OnCheckKey(arn)
}

// Doctor asks OnDoctor.
func (a *Agent) Doctor(context.Context) (control.Report, error) {
	if a.OnDoctor == nil {
		return control.Report{}, nil
	}
	return a.OnDoctor()
}

// Changes is the number of the latest change, and the bell of the next.
func (a *Agent) Changes() (uint64, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.changed == nil {
		a.changed = make(chan struct{})
	}
	return a.revision, a.changed
}

// bump is called with a.mu held.
func (a *Agent) bump() {
	a.revision++
	if a.changed != nil {
		close(a.changed)
	}
	a.changed = make(chan struct{})
}

// Healthy is IsHealthy.
func (a *Agent) Healthy() bool { return a.IsHealthy }

// Ready is IsReady.
func (a *Agent) Ready() bool { return a.IsReady }
