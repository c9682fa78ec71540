// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/volseal/volseal/internal/fault"
)

const at = "/var/lib/postgresql"

func manager(t *testing.T, p *pid1) *Manager {
	t.Helper()
	return New(Options{Socket: p.socket})
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// TestStartAndStop protects the words of the requests: the mount unit of the
// mount point, replacing conflicting jobs.
func TestStartAndStop(t *testing.T) {
	p := newPID1(t)
	m := manager(t, p)
	if err := errors.Join(m.Start(deadline(t), at), m.Stop(deadline(t), at), m.Reload(deadline(t))); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"StartUnit var-lib-postgresql.mount replace", "StopUnit var-lib-postgresql.mount replace", "Reload"} {
		if got := <-p.calls; got != want {
			t.Errorf("call %q, want %q", got, want)
		}
	}
}

// TestResults protects the class of each way in which a job can end: waiting
// does not mend an invalid configuration, and may mend everything else.
func TestResults(t *testing.T) {
	p := newPID1(t)
	m := manager(t, p)
	for result, want := range map[string]fault.Class{
		"done": fault.None, "failed": fault.Unknown, "timeout": fault.Unknown, "canceled": fault.Unknown, "dependency": fault.Unknown,
		"skipped": fault.Unknown, "assert": fault.Misconfigured, "unsupported": fault.Misconfigured, "invalid": fault.Misconfigured, "collected": fault.Unknown,
	} {
		p.answers(result, "")
		err := m.Start(deadline(t), at)
		classified(t, result, err, want)
	}
	p.answers("skipped", "")
	if err := m.Stop(deadline(t), at); err != nil {
		t.Errorf("stop of a stopped unit: %v", err)
	}
}

// TestRefusals protects the class of each way in which systemd can refuse.
func TestRefusals(t *testing.T) {
	p := newPID1(t)
	m := manager(t, p)
	for name, want := range map[string]fault.Class{
		"NoSuchUnit": fault.Misconfigured, "UnitMasked": fault.Misconfigured, "BadUnitSetting": fault.Misconfigured, "JobTypeNotApplicable": fault.Unknown,
	} {
		p.answers("", "org.freedesktop.systemd1."+name)
		classified(t, name, m.Start(deadline(t), at), want)
	}
	p.answers("", "org.freedesktop.systemd1.TransactionIsDestructive")
	if err := m.Start(deadline(t), at); !errors.Is(err, ErrStopping) {
		t.Errorf("error = %v", err)
	}
	p.answers("", "org.freedesktop.systemd1.NoSuchUnit")
	if err := m.Stop(deadline(t), at); err != nil {
		t.Errorf("stop of an unknown unit: %v", err)
	}
	classified(t, "reload", m.Reload(deadline(t)), fault.Unknown)
}

func classified(t *testing.T, name string, err error, want fault.Class) {
	t.Helper()
	if got := fault.ClassOf(err); got != want {
		t.Errorf("%s: class %q, want %q (%v)", name, got, want, err)
	}
	var e *fault.Error
	if err != nil && (!errors.As(err, &e) || e.Reason == "" || e.Cause == "") {
		t.Errorf("%s: not a whole fault: %#v", name, err)
	}
}

// TestStartAtShutdown protects the shutdown: no mount is asked for any more.
func TestStartAtShutdown(t *testing.T) {
	p := newPID1(t)
	p.is("stopping")
	m := manager(t, p)
	if err := m.Start(deadline(t), at); !errors.Is(err, ErrStopping) {
		t.Errorf("error = %v", err)
	}
	if err := m.Stop(deadline(t), at); err != nil {
		t.Errorf("stop: %v", err)
	}
	if got := <-p.calls; got != "StopUnit var-lib-postgresql.mount replace" {
		t.Errorf("first call %q", got)
	}
}

// TestBounded protects the worker from a job that does not end.
func TestBounded(t *testing.T) {
	p := newPID1(t)
	p.answers("", "")
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-p.calls; cancel() }()
	err := manager(t, p).Start(ctx, at)
	classified(t, "endless job", err, fault.Unknown)
	if fault.ReasonOf(err) != "timeout" {
		t.Errorf("reason %q", fault.ReasonOf(err))
	}
}

// TestReconnect protects against systemd's re-execution: the job under way ends
// with an error, and the next one finds a new connection.
func TestReconnect(t *testing.T) {
	p := newPID1(t)
	m := manager(t, p)
	p.answers("", "")
	go func() { <-p.calls; p.hangUp() }()
	err := m.Start(deadline(t), at)
	if fault.ReasonOf(err) != "systemd-lost" {
		t.Errorf("error = %v", err)
	}
	p.answers("done", "")
	if err := m.Start(deadline(t), at); err != nil {
		t.Errorf("after the loss: %v", err)
	}
}

// TestDisconnected protects an idle host: systemd has nobody to tell of the
// changes of its units.
func TestDisconnected(t *testing.T) {
	p := newPID1(t)
	m := manager(t, p)
	if err := errors.Join(m.Start(deadline(t), at), m.Stop(deadline(t), at)); err != nil {
		t.Fatal(err)
	}
	if m.lent != nil {
		t.Error("a connection stays")
	}
	p.serving.Wait() // until the last one has ended
}

// TestShared protects systemd from a connection for each volume, and each of
// them from being cut off by another that is done.
func TestShared(t *testing.T) {
	p := newPID1(t)
	m := manager(t, p)
	p.answers("", "")
	ctx, cancel := context.WithCancel(deadline(t))
	ended := make(chan error)
	go func() { ended <- m.Start(ctx, at) }()
	<-p.calls
	p.answers("done", "")
	lent := m.lent
	if err := m.Stop(deadline(t), at); err != nil {
		t.Error(err)
	}
	if m.lent != lent || !lent.alive() {
		t.Error("the second call did not share the connection, or closed it")
	}
	cancel()
	if err := <-ended; fault.ReasonOf(err) != "timeout" {
		t.Error(err)
	}
}

// TestUnreachable protects the class where there is no systemd at all, or a mute one.
func TestUnreachable(t *testing.T) {
	m := New(Options{Socket: filepath.Join(t.TempDir(), "private")})
	if err := m.Start(deadline(t), at); fault.ReasonOf(err) != "systemd-unreachable" {
		t.Errorf("error = %v", err)
	}
}
