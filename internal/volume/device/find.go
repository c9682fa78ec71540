// SPDX-License-Identifier: Apache-2.0

package device

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// Options say where sysfs and the device nodes are, and which NVMe models pass
// for EBS. Empty paths mean /sys and /dev; no models means none.
type Options struct {
	Sys    string
	Dev    string
	Models []string // exact, without the padding; on EC2 "Amazon Elastic Block Store"
}

// Finder implements volume.Devices. Each call looks at what is there now.
type Finder struct {
	sys, dev string
	serials  memo
	mu       sync.Mutex
	models   []string
}

var _ volume.Devices = (*Finder)(nil)

// New does no I/O.
func New(o Options) *Finder {
	f := &Finder{sys: o.Sys, dev: o.Dev, models: slices.Clone(o.Models)}
	if f.sys == "" {
		f.sys = "/sys"
	}
	if f.dev == "" {
		f.dev = "/dev"
	}
	return f
}

// Accept replaces the list of models, for a reload.
func (f *Finder) Accept(models []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.models = slices.Clone(models)
}

// volumeID is the form of EC2's volume ids: 8 hexadecimal digits once, 17 now.
var volumeID = regexp.MustCompile(`^vol-([0-9a-f]{8}|[0-9a-f]{17})$`)

// Find returns the whole disk whose NVMe serial is the volume id without its
// dash (AWS: "Amazon EBS and NVMe"). volume.ErrNoDevice if there is none.
// Doubts are of class Integrity, with Reason "serial-duplicate",
// "device-partitions", "device-number" or "device-size"; another model is
// Misconfigured, "device-model". What appears or vanishes while it is looked at
// is of class Unknown, "sysfs".
func (f *Finder) Find(ctx context.Context, id string) (volume.Device, error) {
	if !volumeID.MatchString(id) {
		return volume.Device{}, fmt.Errorf("volume id %q is malformed", id)
	}
	if err := ctx.Err(); err != nil {
		return volume.Device{}, err
	}
	return f.insist(ctx, id)
}

// A second device of one serial is believed once it has been seen this often,
// so far apart: a disk that is taking another's place is no reason for a quarantine.
const (
	looks     = 3
	lookPause = 100 * time.Millisecond
)

func (f *Finder) insist(ctx context.Context, id string) (volume.Device, error) {
	pause := time.NewTicker(lookPause)
	defer pause.Stop()
	for again := looks - 1; ; again-- {
		d, err := f.look(id)
		if err != nil {
			f.serials.forget() // no doubt, and no absence, rests on what was remembered
		}
		if again == 0 || fault.ReasonOf(err) != reasonDuplicate {
			return d, err
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			return volume.Device{}, ctx.Err()
		}
	}
}

const reasonDuplicate = "serial-duplicate"

// look is one look at the host's devices.
func (f *Finder) look(id string) (volume.Device, error) {
	serial := strings.Replace(id, "-", "", 1)
	// Disks first: a disk has its controller already, while one that appears
	// between the two looks would be a disk without.
	disks, err := f.withSerial(filepath.Join(f.sys, "block"), "device/serial", serial)
	if err != nil {
		return volume.Device{}, unreadable(err)
	}
	controllers, err := f.withSerial(filepath.Join(f.sys, "class", "nvme"), "serial", serial)
	if err != nil {
		return volume.Device{}, unreadable(err)
	}
	switch {
	case len(disks) == 0:
		// A controller alone: its namespace is still being scanned, or being removed.
		return volume.Device{}, volume.ErrNoDevice
	case len(controllers) == 0:
		return volume.Device{}, unreadable(errors.New("the disk's controller is gone"))
	case len(disks) > 1 || len(controllers) > 1:
		return volume.Device{}, doubt(reasonDuplicate,
			fmt.Sprintf("%d disks and %d NVMe controllers carry the serial of %s.", len(disks), len(controllers), id),
			"EBS gives a volume one controller with one disk. Find the other (nvme list) and remove it.")
	}
	return f.describe(id, disks[0])
}

// withSerial returns the directories below class whose attribute has this
// serial. The hidden paths of a multipath disk (nvme0c0n1) are no disks; the
// disk they lead to is listed itself, with its subsystem as its device.
func (f *Finder) withSerial(class, attribute, serial string) ([]string, error) {
	names, err := list(class)
	if errors.Is(err, fs.ErrNotExist) { // no NVMe driver is loaded
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var found []string
	for _, name := range names {
		if !strings.HasPrefix(name, "nvme") || hiddenPath.MatchString(name) {
			continue
		}
		dir := filepath.Join(class, name)
		s, err := f.serials.read(dir, attribute)
		if vanished(err) {
			continue // unplugged while we looked; if it was ours, there is no device
		}
		if err != nil {
			return nil, err
		}
		if s == serial {
			found = append(found, dir)
		}
	}
	return found, nil
}

var hiddenPath = regexp.MustCompile(`^nvme[0-9]+c[0-9]+n[0-9]+$`)

// describe checks and reads one disk.
func (f *Finder) describe(id, dir string) (volume.Device, error) {
	if err := f.checkModel(id, dir); err != nil {
		return volume.Device{}, err
	}
	parts, err := partitions(dir)
	if err != nil {
		return volume.Device{}, unreadable(err)
	}
	if len(parts) > 0 {
		return volume.Device{}, doubt("device-partitions",
			"The disk of "+id+" has partitions, which volseal does not make.",
			"Check that volume_id names the right volume. volseal uses whole disks only.")
	}
	d := volume.Device{Path: filepath.Join(f.dev, filepath.Base(dir))}
	if d.Major, d.Minor, err = number(dir); err != nil {
		return volume.Device{}, err
	}
	if d.Bytes, err = size(dir); err != nil {
		return volume.Device{}, err
	}
	return d, nil
}

func (f *Finder) checkModel(id, dir string) error {
	model, err := read(dir, "device/model")
	if err != nil {
		return unreadable(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if slices.Contains(f.models, model) {
		return nil
	}
	return misconfigured("device-model",
		"The disk with the serial of "+id+" is not of an allowed NVMe model.",
		"On EC2 the model of an EBS volume is \"Amazon Elastic Block Store\" (cat /sys/class/nvme/*/model). Where it is another on purpose, list it under nvme_models.")
}

func misconfigured(reason, cause, hint string) error {
	return &fault.Error{Class: fault.Misconfigured, Reason: reason, Cause: cause, Hint: hint}
}

func doubt(reason, cause, hint string) error {
	return &fault.Error{Class: fault.Integrity, Reason: reason, Cause: cause, Hint: hint}
}

// unreadable is no doubt about the device: it may just have gone.
func unreadable(err error) error {
	return &fault.Error{
		Class: fault.Unknown, Reason: "sysfs",
		Cause: "Could not read the NVMe devices of this host.",
		Hint:  "A device is being attached or detached; the next attempt looks afresh.",
		Err:   err,
	}
}
