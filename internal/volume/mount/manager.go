// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"errors"
	"sync"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// ErrStopping is Start's answer while the host shuts down: nothing is wrong,
// and nothing is to be mounted any more.
var ErrStopping = errors.New("the host is shutting down")

// Options say where systemd and files are found. Zero values mean the
// running host's.
type Options struct {
	Socket string // systemd's own D-Bus socket
	Table  string // the mount table of the host's namespace
	Last   string // where to keep the last sound configuration's part in units
}

// Manager implements volume.Mounts through systemd. It is safe for concurrent
// use. It is connected only while it asks for something: over its own socket
// systemd tells of every change of every unit, whether one wants to know or not.
type Manager struct {
	table string
	last  string
	dial  func(context.Context) (bus, error)

	mu   sync.Mutex
	lent *loan // the connection in use, or nil
}

// loan is a connection and how many use it at the moment.
type loan struct {
	bus
	users int
}

var _ volume.Mounts = (*Manager)(nil)

// New returns a manager that has not connected yet.
func New(o Options) *Manager {
	if o.Socket == "" {
		o.Socket = systemdSocket
	}
	if o.Table == "" {
		o.Table = hostTable
	}
	if o.Last == "" {
		o.Last = LastSound
	}
	return &Manager{table: o.Table, last: o.Last, dial: func(ctx context.Context) (bus, error) { return dial(ctx, o.Socket) }}
}

// Stopping reports whether the host shuts down. Errors are *fault.Error.
func (m *Manager) Stopping(ctx context.Context) (stopping bool, err error) {
	err = m.with(ctx, func(b bus) error {
		state, err := b.state(ctx)
		if err != nil {
			return refused("system state", err)
		}
		stopping = state == "stopping"
		return nil
	})
	return stopping, err
}

// Start starts the mount unit and waits for its job, for at most as long as ctx
// lasts; the job itself goes on. Errors are *fault.Error, or ErrStopping.
func (m *Manager) Start(ctx context.Context, mountpoint string) error {
	return m.with(ctx, func(b bus) error {
		state, err := b.state(ctx)
		if err != nil {
			return refused(UnitName(mountpoint), err)
		}
		// systemd would refuse as well, but as if the unit were at fault.
		if state == "stopping" {
			return ErrStopping
		}
		return run(ctx, b, start, UnitName(mountpoint))
	})
}

// Stop stops the mount unit, and before it those that require it, and waits
// like Start. A unit that systemd does not know is stopped. Errors are those of Start.
func (m *Manager) Stop(ctx context.Context, mountpoint string) error {
	return m.with(ctx, func(b bus) error { return run(ctx, b, stop, UnitName(mountpoint)) })
}

func run(ctx context.Context, b bus, v verb, unit string) error {
	result, err := b.job(ctx, v, unit)
	switch {
	case err != nil && v == stop && unknownUnit(err):
		return nil
	case err != nil:
		return refused(unit, err)
	}
	return outcome(v, unit, result)
}

// Reload has systemd run the generators again and take up their units. It is
// due after each change of the configuration. Errors are *fault.Error.
func (m *Manager) Reload(ctx context.Context) error {
	return m.with(ctx, func(b bus) error {
		if err := b.reload(ctx); err != nil {
			return &fault.Error{
				Class: fault.Unknown, Reason: "systemd-reload",
				Cause: "systemd did not reload its units.",
				Hint:  "Run: systemctl daemon-reload",
				Err:   err,
			}
		}
		return nil
	})
}

func (m *Manager) with(ctx context.Context, use func(bus) error) error {
	l, err := m.borrow(ctx)
	if err != nil {
		return &fault.Error{
			Class: fault.Unknown, Reason: "systemd-unreachable",
			Cause: "systemd cannot be reached.",
			Hint:  "See whether systemctl works: systemctl is-system-running",
			Err:   err,
		}
	}
	defer m.giveBack(l)
	return use(l)
}

// borrow connects unless others are connected. A connection that was lost, as
// when systemd re-executes itself, is left to those who still use it.
func (m *Manager) borrow(ctx context.Context) (*loan, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lent == nil || !m.lent.alive() {
		b, err := m.dial(ctx)
		if err != nil {
			return nil, err
		}
		m.lent = &loan{bus: b}
	}
	m.lent.users++
	return m.lent, nil
}

func (m *Manager) giveBack(l *loan) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l.users--
	if l.users > 0 {
		return
	}
	l.close()
	if m.lent == l {
		m.lent = nil
	}
}
