// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/volume"
)

const (
	runLimit  = 30 * time.Second
	haltLimit = 3 * time.Minute // more than jobStopTimeout
	// jobStopTimeout is for a hot zone to be ended, which takes a second or so, on a
	// disk that is slow.
	jobStopTimeout = 2 * time.Minute
)

// JobUnit is the name of the unit in which a volume's job runs.
func JobUnit(name string) string { return "volseal-reencrypt-" + name + ".service" }

// Run has systemd start the job as a transient unit, which is nobody's child but
// its own. The secret is in a pipe whose end systemd hands to it: in no file, no
// argument, no property. Errors are *fault.Error, or ErrStopping.
func (m *Manager) Run(ctx context.Context, j volume.Job) error {
	ctx, cancel := context.WithTimeout(ctx, runLimit)
	defer cancel()
	in, err := pipeOf(j.Stdin)
	if err != nil {
		return err
	}
	defer in.Close()
	return m.with(ctx, func(b bus) error {
		state, err := b.state(ctx)
		if err != nil {
			return refused(JobUnit(j.Name), err)
		}
		if state == "stopping" {
			return ErrStopping
		}
		result, err := b.transient(ctx, JobUnit(j.Name), jobProperties(j, in))
		if err != nil {
			return refused(JobUnit(j.Name), err)
		}
		return outcome(start, JobUnit(j.Name), result)
	})
}

// Running reports whether the unit is anything but ended.
func (m *Manager) Running(ctx context.Context, name string) (running bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, runLimit)
	defer cancel()
	err = m.with(ctx, func(b bus) error {
		p, err := b.properties(ctx, JobUnit(name))
		if err != nil {
			return refused(JobUnit(name), err)
		}
		switch state, _ := p["ActiveState"].(string); state {
		case "inactive", "failed":
			return nil
		case "":
			return refused(JobUnit(name), errors.New("systemd tells no ActiveState"))
		}
		running = true
		return nil
	})
	return running, err
}

// Halt stops the unit. systemd tells it to end, and never kills it.
func (m *Manager) Halt(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, haltLimit)
	defer cancel()
	return m.with(ctx, func(b bus) error { return run(ctx, b, stop, JobUnit(name)) })
}

// jobProperties are those of systemd.service(5) and its relatives, by their D-Bus names.
func jobProperties(j volume.Job, in *os.File) []systemd.Property {
	property := func(name string, value any) systemd.Property {
		return systemd.Property{Name: name, Value: dbus.MakeVariant(value)}
	}
	type ioLimit struct {
		Path  string
		Bytes uint64
	}
	limit := []ioLimit{{j.Device, uint64(max(j.Rate, 0))}}
	return []systemd.Property{
		property("Description", "Encrypts volume "+j.Name+" under a new volume key"),
		property("Type", "exec"),
		property("ExecStart", []execCommand{{j.Command.Path, append([]string{j.Command.Path}, j.Command.Args...), false}}),
		property("StandardInputFileDescriptor", dbus.UnixFD(in.Fd())),
		property("StandardOutput", "journal"),
		property("StandardError", "journal"),
		// Killed in a hot zone it would leave writers waiting for ever.
		property("SendSIGKILL", false),
		property("TimeoutStopUSec", uint64(jobStopTimeout.Microseconds())),
		property("OOMScoreAdjust", int32(-1000)),
		property("OOMPolicy", "continue"),
		// Whoever takes the mount down, the host that stops too, ends the job first.
		property("BindsTo", []string{UnitName(j.Mountpoint)}),
		property("After", []string{UnitName(j.Mountpoint)}),
		property("CollectMode", "inactive-or-failed"), // so that it can be started anew under its name
		property("IOReadBandwidthMax", limit),
		property("IOWriteBandwidthMax", limit),
		property("CPUWeight", uint64(20)), // the database comes first; 100 is everybody's
		property("LimitCORE", uint64(0)),
		property("MemorySwapMax", uint64(0)),
		property("NoNewPrivileges", true),
		property("Environment", []string{"LC_ALL=C"}),
	}
}

// execCommand is an entry of ExecStart: D-Bus signature (sasb).
type execCommand struct {
	Path   string
	Argv   []string
	Ignore bool // that it fails
}

// pipeOf returns the read end of a pipe that holds the secret and then ends.
func pipeOf(s *envelope.Secret) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	_, err = w.Write(s.Bytes())
	if err := errors.Join(err, w.Close()); err != nil {
		r.Close()
		return nil, fmt.Errorf("fill pipe: %w", err)
	}
	return r, nil
}

var _ volume.Jobs = (*Manager)(nil)
