// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/volseal/volseal/test/lab/guest"
)

const (
	unplugLimit = 30 * time.Second
	unplugRetry = 5 * time.Second // a guest that was busy booting misses a request
	askLimit    = 10 * time.Second
	orderLimit  = 10 * time.Second // for QEMU itself
)

var volumeID = regexp.MustCompile(`^vol-[0-9a-f]{8,17}$`)

// serialOf is the NVMe serial number by which EC2 shows a volume; it fits in the
// 20 characters there are.
func serialOf(id string) (string, error) {
	if !volumeID.MatchString(id) {
		return "", fmt.Errorf("%q is no volume id", id)
	}
	return strings.Replace(id, "-", "", 1), nil
}

// Plug makes the raw image a disk of the machine; it returns before the guest
// has seen it. Plugging what is plugged does nothing.
func (m *Machine) Plug(ctx context.Context, id, imagePath string) error {
	serial, err := serialOf(id)
	if err != nil {
		return fmt.Errorf("plug volume: %w", err)
	}
	b, err := m.await(ctx)
	if err != nil {
		return fmt.Errorf("plug volume %s: %w", id, err)
	}
	m.wiring.Lock()
	defer m.wiring.Unlock()
	if m.plugged(serial) {
		return nil
	}
	d := disk{slot: freeSlot(m.disks), serial: serial, image: imagePath}
	if d.slot < 0 {
		return fmt.Errorf("plug volume %s: all %d slots are taken", id, slots)
	}
	if err := m.addDisk(b.qmp, d); err != nil {
		return fmt.Errorf("plug volume %s: %w", id, err)
	}
	m.disks = append(m.disks, d)
	return nil
}

// Unplug takes the disk out and returns when the image is no longer open; QEMU
// does it to a disk in use as well. Unplugging what is not there does nothing.
func (m *Machine) Unplug(ctx context.Context, id string) error {
	serial, err := serialOf(id)
	if err != nil {
		return fmt.Errorf("unplug volume: %w", err)
	}
	b, err := m.await(ctx)
	if err != nil {
		return fmt.Errorf("unplug volume %s: %w", id, err)
	}
	m.wiring.Lock()
	defer m.wiring.Unlock()
	if !m.plugged(serial) {
		return nil
	}
	if err := removeDisk(ctx, b.qmp, serial); err != nil {
		return fmt.Errorf("unplug volume %s: %w", id, err)
	}
	m.disks = slices.DeleteFunc(m.disks, func(d disk) bool { return d.serial == serial })
	return nil
}

// InUse reports whether the guest has the disk, or a part of it, mounted or
// mapped.
func (m *Machine) InUse(ctx context.Context, id string) (bool, error) {
	serial, err := serialOf(id)
	if err != nil {
		return false, fmt.Errorf("ask for volume: %w", err)
	}
	var complaint strings.Builder
	cmd := guest.Command{Argv: []string{agentPath, "in-use", serial}, Timeout: askLimit}
	result, err := m.Exec(ctx, cmd, nil, &complaint)
	switch {
	case err != nil:
		return false, fmt.Errorf("ask for volume %s: %w", id, err)
	case result.Down:
		return false, fmt.Errorf("ask for volume %s: the machine is going down", id)
	case result.Code > 1:
		return false, fmt.Errorf("ask for volume %s: exit %d: %s", id, result.Code, complaint.String())
	}
	return result.Code == 0, nil
}

// Pause holds the guest still, for a copy of what its disks hold at one moment.
func (m *Machine) Pause(ctx context.Context) error { return m.order(ctx, "stop") }

// Resume lets the guest run on.
func (m *Machine) Resume(ctx context.Context) error { return m.order(ctx, "cont") }

func (m *Machine) order(ctx context.Context, command string) error {
	b, err := m.await(ctx)
	if err != nil {
		return err
	}
	return b.qmp.execute(ctx, command, nil)
}

// plugged reports whether a disk has a slot. wiring is held.
func (m *Machine) plugged(serial string) bool {
	return slices.ContainsFunc(m.disks, func(d disk) bool { return d.serial == serial })
}

// addDisk does not heed the caller's context: half of it must not remain.
func (m *Machine) addDisk(qmp *monitor, d disk) error {
	ctx, cancel := context.WithTimeout(m.ctx, orderLimit)
	defer cancel()
	if err := qmp.execute(ctx, "blockdev-add", blockNode(d)); err != nil {
		return err
	}
	err := qmp.execute(ctx, "device_add", map[string]any{
		"driver": "nvme", "id": d.serial, "drive": d.serial, "serial": d.serial, "bus": portID(d.slot), "msix_qsize": nvmeVectors,
	})
	if err != nil {
		return errors.Join(err, qmp.execute(ctx, "blockdev-del", map[string]string{"node-name": d.serial}))
	}
	return nil
}

// blockNode is the volume's image for QEMU. A flush of the guest's is one of the
// host's; what the guest wrote survives the end of QEMU even without.
func blockNode(d disk) map[string]any {
	cache := map[string]bool{"direct": false, "no-flush": false}
	return map[string]any{
		"driver": "raw", "node-name": d.serial, "discard": "unmap", "cache": cache,
		"file": map[string]any{"driver": "file", "filename": d.image, "discard": "unmap", "cache": cache},
	}
}

// removeDisk asks the guest to let the disk go, until it has.
func removeDisk(ctx context.Context, qmp *monitor, serial string) error {
	ctx, cancel := context.WithTimeout(ctx, unplugLimit)
	defer cancel()
	deleted, forget := qmp.expect("DEVICE_DELETED", serial)
	defer forget()
	again := time.NewTicker(unplugRetry)
	defer again.Stop()
	for waiting := true; waiting; {
		err := qmp.execute(ctx, "device_del", map[string]string{"id": serial})
		if refused(err, "not found") {
			break // gone since the last time that somebody asked
		}
		if err != nil && !refused(err, "already in the process of unplug") {
			return err
		}
		select {
		case <-deleted:
			waiting = false
		case <-again.C:
		case <-qmp.done:
			return errQMPGone
		case <-ctx.Done():
			return fmt.Errorf("the guest does not let go of %s: %w", serial, ctx.Err())
		}
	}
	err := qmp.execute(ctx, "blockdev-del", map[string]string{"node-name": serial})
	if refused(err, "Failed to find node") {
		return nil
	}
	return err
}
