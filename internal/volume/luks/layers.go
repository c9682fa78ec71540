// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// While a reencryption is at work, the mapping lies on two devices of
// cryptsetup's, which lie on the disk:
//
//	volseal-NAME ──▶ volseal-NAME-overlay ──▶ the disk, under the new key and the old one
//	                           └──▶ volseal-NAME-hotzone-forward ──▶ the disk
//
// The hot zone is suspended while it is moved from one key to the other. All of it
// goes when cryptsetup ends. It stays if cryptsetup was killed, and then nobody
// ends a suspension: who writes there waits for ever.
const (
	overlaySuffix = "-overlay"
	hotzoneSuffix = "-hotzone-forward"
)

// lockDir is where cryptsetup keeps its locks.
const lockDir = "/run/cryptsetup"

// layer is one of the two devices.
type layer struct {
	name, dir string // dir is in sysfs
	suspended bool
}

// layersOf are those that exist for the mapping, the lower one last.
func (l *LUKS) layersOf(mapping, uuid string) ([]layer, error) {
	var found []layer
	for _, suffix := range []string{overlaySuffix, hotzoneSuffix} {
		name := mapping + suffix
		dir, err := l.findMapping(name)
		if err != nil {
			return nil, err
		}
		if dir == "" {
			continue
		}
		is, err := readLayer(dir, name, uuid)
		if gone(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found = append(found, is)
	}
	return found, nil
}

// readLayer insists that the device is one that cryptsetup made for this mapping.
func readLayer(dir, name, uuid string) (layer, error) {
	dmUUID, err := attribute(dir, "dm/uuid")
	if err != nil {
		return layer{}, err
	}
	if want := "CRYPT-SUBDEV-" + strings.ReplaceAll(uuid, "-", "") + "-" + name; dmUUID != want {
		return layer{}, &fault.Error{
			Class: fault.Unknown, Reason: "layer-foreign",
			Cause: "There is a device " + name + " that is not of this volume's reencryption.",
			Hint:  "See dmsetup info " + name + " for what it is, and rename it.",
			Err:   fmt.Errorf("uuid %.128q", dmUUID),
		}
	}
	suspended, err := attribute(dir, "dm/suspended")
	return layer{name: name, dir: dir, suspended: suspended != "0"}, err
}

// beneath tells what a mapping lies on. Layers are put in and taken out in one step,
// and what was read before that step is not to be put together with what was read
// after it: it looks again until the slaves have not changed meanwhile.
func (l *LUKS) beneath(m *volume.Mapping, dir, name string) error {
	const looks = 10
	for range looks {
		before, err := slaves(dir)
		if err != nil {
			return err
		}
		lookErr := l.through(m, dir, name, before)
		after, err := slaves(dir)
		switch {
		case err != nil:
			return err
		case slices.Equal(before, after):
			return lookErr
		}
	}
	return errors.New("read sysfs: the mapping " + name + " changes all the time")
}

// through follows a mapping's slaves to the disk, where it lies on layers of its
// own; in the moment in which they are put in or taken out it lies on both. A
// layer that leads nowhere was cut off the disk by FailLayers.
func (l *LUKS) through(m *volume.Mapping, dir, name string, slaves []string) (err error) {
	m.Layered, m.Halted = false, false
	onDM := func(s string) bool { return strings.HasPrefix(s, "dm-") }
	if m.Backing, err = backingOf(dir, slaves); err != nil || !slices.ContainsFunc(slaves, onDM) {
		return err
	}
	layers, err := l.layersOf(name, m.UUID)
	if err != nil {
		return err
	}
	all := m.Backing
	for _, is := range layers {
		m.Layered = m.Layered || slices.Contains(slaves, filepath.Base(is.dir))
		m.Halted = m.Halted || is.suspended
		under, err := backing(is.dir)
		if err != nil {
			return err
		}
		all = append(all, under...)
	}
	if !m.Layered {
		m.Halted = false
		return nil
	}
	m.Backing, err = withoutLayers(all, layers)
	return err
}

// withoutLayers leaves out what is a layer itself, and what is named twice.
func withoutLayers(all []volume.Backing, layers []layer) (under []volume.Backing, _ error) {
	for _, is := range layers {
		major, minor, err := deviceNumber(is.dir)
		if err != nil {
			return nil, err
		}
		all = slices.DeleteFunc(all, func(b volume.Backing) bool { return b == volume.Backing{Major: major, Minor: minor} })
	}
	for _, b := range all {
		if !slices.Contains(under, b) {
			under = append(under, b)
		}
	}
	return under, nil
}

// FailLayers has all I/O fail that waits for a reencryption whose process is gone.
// It refuses while anybody has the volume's reencryption in hand. It may be repeated.
func (l *LUKS) FailLayers(ctx context.Context, mapping, uuid string) error {
	free, err := l.holdReencryption(uuid)
	if err != nil {
		return err
	}
	defer free()
	layers, err := l.layersOf(mapping, uuid)
	if err != nil {
		return err
	}
	for i := len(layers) - 1; i >= 0; i-- { // first what is suspended
		if err := l.wipeTable(ctx, layers[i].name); err != nil {
			return err
		}
	}
	m, err := l.Mapping(ctx, mapping)
	if err == nil && m.Suspended {
		err = l.Abandon(ctx, mapping)
	}
	return err
}

func (l *LUKS) wipeTable(ctx context.Context, name string) error {
	c := command{tool: "dmsetup", limit: dmLimit, args: []string{"wipe_table", "--", name}}
	if _, err := l.tools.run(ctx, c); err != nil {
		return failed("fail the I/O of "+name, err)
	}
	return nil
}

// CloseLayers removes what a reencryption left behind that was killed. What is in
// use stays, and is an error.
func (l *LUKS) CloseLayers(ctx context.Context, mapping, uuid string) error {
	layers, err := l.layersOf(mapping, uuid)
	if err != nil || len(layers) == 0 {
		return err
	}
	free, err := l.holdReencryption(uuid)
	if err != nil {
		return err
	}
	defer free()
	for _, is := range layers {
		c := command{tool: "dmsetup", limit: dmLimit, args: []string{"remove", "--retry", "--", is.name}}
		if is.suspended {
			if err := l.wipeTable(ctx, is.name); err != nil {
				return err
			}
		}
		if _, err := l.tools.run(ctx, c); err != nil {
			return failed("remove "+is.name, err)
		}
	}
	return nil
}

// holdReencryption takes the lock that cryptsetup holds while it reencrypts.
func (l *LUKS) holdReencryption(uuid string) (free func(), _ error) {
	if err := validUUID(uuid); err != nil {
		return nil, err
	}
	path := filepath.Join(l.locks, "LN_LUKS2-reencryption-"+uuid)
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return func() {}, nil // nobody does, and nobody has since the boot
	}
	if err != nil {
		return nil, fmt.Errorf("look for cryptsetup's lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, &fault.Error{
			Class: fault.Unknown, Reason: "reencryption-held",
			Cause: "A cryptsetup has the volume's reencryption in hand, which is none of volseal's.",
			Hint:  "Find it with: fuser -v " + path, Err: err,
		}
	}
	return func() { f.Close() }, nil
}
