// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"github.com/volseal/volseal/test/lab/guest"
)

// shutdownLimit leaves systemd its 90 seconds for a unit that does not stop.
const shutdownLimit = 3 * time.Minute

// Reboot shuts the guest down cleanly and boots it again with the same disks. It
// first kills what Exec runs, whoever asked for the reboot included. It returns
// when the new boot is under way; ctx is not heeded, since it ends with the
// guest's own request.
func (m *Machine) Reboot(context.Context) error {
	return m.cycle(m.shutDown)
}

// PowerCut kills QEMU and boots again. What the guest has written to its disks is
// there: the cut tests what was in flight, not a volatile write cache.
func (m *Machine) PowerCut(context.Context) error {
	return m.cycle(func(b *boot) error {
		b.kill()
		return nil
	})
}

// hostLimit bounds a command on the host: a scenario may hash a disk, not more.
const hostLimit = time.Minute

// Host answers `labctl host ARG…` for what is neither of the two: "console" is
// the end of the guest's console, anything else a command of the host, for what
// only can be seen from there, such as the bytes of an attached disk.
func (m *Machine) Host(ctx context.Context, args ...string) ([]byte, error) {
	if len(args) == 1 && args[0] == "console" {
		return []byte(m.Console(500) + "\n"), nil
	}
	ctx, cancel := context.WithTimeout(ctx, hostLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return out, fmt.Errorf("labctl host: %s: %w", args[0], err)
	}
	return out, nil
}

func (m *Machine) cycle(takeDown func(*boot) error) error {
	m.cycling.Lock()
	defer m.cycling.Unlock()
	b, err := m.await(m.ctx)
	if err != nil {
		return fmt.Errorf("take machine down: %w", err)
	}
	m.update(func() { b.planned = true })
	if err := takeDown(b); err != nil {
		m.lose(err)
		b.kill()
		return err
	}
	return m.startBoot()
}

// shutDown asks systemd; QEMU ends where the firmware would take over.
func (m *Machine) shutDown(b *boot) error {
	ctx, cancel := context.WithTimeout(m.ctx, shutdownLimit)
	defer cancel()
	b.guest.Interrupt()
	start := time.Now()
	_, err := b.guest.Exec(ctx, guest.Command{Argv: []string{"systemctl", "reboot"}, Timeout: shutdownLimit}, nil, nil)
	if err != nil && !errors.Is(err, guest.ErrGone) {
		return fmt.Errorf("shut guest down: %w\n%s", err, m.Console(30))
	}
	select {
	case <-b.ended:
	case <-ctx.Done():
		return fmt.Errorf("shut guest down: not done after %s\n%s", time.Since(start).Round(time.Second), m.Console(30))
	}
	m.opts.Log.Debug("the guest has shut down", "took", time.Since(start).Round(time.Millisecond))
	b.close()
	if b.err != nil {
		return fmt.Errorf("shut guest down: QEMU: %w", b.err)
	}
	return nil
}
