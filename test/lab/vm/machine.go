// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/volseal/volseal/test/lab/guest"
)

// bootLimit is for QEMU's start to the guest agent's hello: some seconds on an
// idle host, a minute on one that builds at the same time.
const bootLimit = 5 * time.Minute

var errClosed = errors.New("the machine is closed")

// Options of a machine. All are required.
type Options struct {
	Dir     string // scratch, for this machine alone
	Image   *Image
	Payload string // read-only disk, of Payload
	Accel   string // of Accelerator
	CPUs    int
	Log     *slog.Logger
}

// CPUs is how many processors a guest has that is by itself; beside others it is
// faster with one, as no processor of it then waits for one that the host has put
// aside.
const (
	CPUs    = 2
	MaxCPUs = 8
)

// Machine is the instance. It goes through boots:
//
//	        Start            hello
//	(new) ────────> booting ──────> up ──┐ Reboot, PowerCut
//	                   ^                 │
//	                   └── going down <──┘
//
// and is lost, for good, when QEMU ends without having been asked, or the guest
// does not answer. Methods may be called concurrently; those that need the guest
// wait until it is up.
type Machine struct {
	opts    Options
	overlay string
	socat   string
	ctx     context.Context // ends with Close: nothing outlives it
	cancel  context.CancelFunc
	watched sync.WaitGroup

	cycling sync.Mutex // one change of boot at a time
	wiring  sync.Mutex // one change of the disks at a time, and none while QEMU starts
	network Network

	mu      sync.Mutex
	boot    *boot         // the current one, also when it is going down
	err     error         // why the machine is lost
	changed chan struct{} // closed and replaced whenever boot, its state or err changes
	disks   []disk        // written under wiring as well
}

// boot is one run of QEMU; its flags are guarded by Machine.mu.
type boot struct {
	*process
	up      bool
	planned bool // it is going down because somebody asked
}

// New prepares a machine; Start boots it.
func New(opts Options) (*Machine, error) {
	if err := needTools("qemu-system-x86_64", "qemu-img", "socat"); err != nil {
		return nil, fmt.Errorf("prepare machine: %w", err)
	}
	socat, err := exec.LookPath("socat")
	if err != nil {
		return nil, fmt.Errorf("prepare machine: %w", err)
	}
	m := &Machine{opts: opts, overlay: filepath.Join(opts.Dir, "root.qcow2"), socat: socat, changed: make(chan struct{})}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	return m, nil
}

// Start boots the machine for the first time, on a fresh root disk, and waits
// until the guest answers.
func (m *Machine) Start(ctx context.Context, network Network) error {
	cmd := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", m.opts.Image.Root(), m.overlay)
	if err := runTool(cmd, "make root disk"); err != nil {
		return err
	}
	m.cycling.Lock()
	m.network = network
	err := m.startBoot()
	m.cycling.Unlock()
	if err != nil {
		return err
	}
	_, err = m.await(ctx)
	return err
}

// Close ends the machine as a power cut does.
func (m *Machine) Close() error {
	m.lose(errClosed) // before whatever the end of ctx makes fail
	m.cancel()
	m.cycling.Lock()
	defer m.cycling.Unlock()
	if b := m.current(); b != nil {
		b.kill()
	}
	m.watched.Wait()
	return nil
}

// Lost returns when the machine is lost, with the
// reason, or when ctx is done.
func (m *Machine) Lost(ctx context.Context) error {
	for {
		m.mu.Lock()
		err, changed := m.err, m.changed
		m.mu.Unlock()
		if err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Exec runs a command in the guest, as root. When the machine goes down under it
// because somebody asked, the result says Down; when it goes down by itself,
// there is an error.
func (m *Machine) Exec(ctx context.Context, cmd guest.Command, stdout, stderr io.Writer) (guest.Result, error) {
	b, err := m.await(ctx)
	if err != nil {
		return guest.Result{}, err
	}
	start := time.Now()
	result, err := b.guest.Exec(ctx, cmd, stdout, stderr)
	switch {
	case m.isPlanned(b):
		return guest.Result{Down: true, Duration: time.Since(start)}, nil
	case errors.Is(err, guest.ErrGone):
		m.lose(fmt.Errorf("run command: %w\n%s", err, m.Console(30)))
		return guest.Result{}, m.Lost(ctx)
	}
	return result, err
}

// Console is the end of what the kernel wrote to its console, in all boots.
func (m *Machine) Console(lines int) string {
	text, err := os.ReadFile(m.consolePath())
	if err != nil {
		return ""
	}
	return tail(string(text), lines)
}

func (m *Machine) consolePath() string { return filepath.Join(m.opts.Dir, "console.log") }

// startBoot starts QEMU with all disks in their slots, and watches over it.
// cycling is held.
func (m *Machine) startBoot() error {
	m.wiring.Lock()
	defer m.wiring.Unlock()
	start := time.Now()
	p, err := startProcess(m.ctx, hardware{
		accel: m.opts.Accel, cpus: m.opts.CPUs, kernel: m.opts.Image.Kernel(), initrd: m.opts.Image.Initrd(), overlay: m.overlay, payload: m.opts.Payload,
		console: m.consolePath(), socat: m.socat, network: m.network, disks: m.disks,
	}, filepath.Join(m.opts.Dir, "qemu.log"))
	if err != nil {
		m.lose(err)
		return err
	}
	b := &boot{process: p}
	m.update(func() { m.boot = b })
	m.watched.Go(func() { m.watch(b, start) })
	return nil
}

// watch follows one boot to its end.
func (m *Machine) watch(b *boot, start time.Time) {
	ctx, cancel := context.WithTimeout(m.ctx, bootLimit)
	hello, err := b.guest.Ready(ctx)
	cancel()
	switch {
	case err == nil:
		m.opts.Log.Debug("the guest answers", "boot", hello.BootID, "took", time.Since(start).Round(time.Millisecond))
		m.update(func() { b.up = true })
	case !m.isPlanned(b):
		m.lose(fmt.Errorf("boot guest: %w\n%s", err, m.Console(30)))
	}
	<-b.ended
	if !m.isPlanned(b) {
		m.lose(fmt.Errorf("the guest stopped by itself (a script reboots with `labctl host reboot`)\n%s", m.Console(30)))
	}
}

// await returns the current boot when its guest answers.
func (m *Machine) await(ctx context.Context) (*boot, error) {
	for {
		m.mu.Lock()
		b, err, changed := m.boot, m.err, m.changed
		ready := b != nil && b.up && !b.planned
		m.mu.Unlock()
		switch {
		case err != nil:
			return nil, err
		case ready:
			return b, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for guest: %w", ctx.Err())
		}
	}
}

// lose records why the machine is of no use any more; the first reason stays.
func (m *Machine) lose(err error) {
	m.update(func() {
		if m.err == nil {
			m.err = err
		}
	})
}

func (m *Machine) update(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *Machine) current() *boot {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.boot
}

func (m *Machine) isPlanned(b *boot) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return b.planned
}
