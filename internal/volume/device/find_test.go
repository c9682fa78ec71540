// SPDX-License-Identifier: Apache-2.0

package device

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

const (
	ebs    = "Amazon Elastic Block Store"
	id     = "vol-0123456789abcdef0"
	serial = "vol0123456789abcdef0"
)

// sysfs is a fake tree: a path below it to a file's content, or to a link's
// target if that begins with "->".
type sysfs map[string]string

func (s sysfs) build(t *testing.T) *Finder {
	t.Helper()
	root := t.TempDir()
	for path, content := range s {
		full := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		target, isLink := strings.CutPrefix(content, "->")
		var err error
		if isLink {
			err = os.Symlink(filepath.Join(root, target), full)
		} else {
			err = os.WriteFile(full, []byte(content), 0o444)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return New(Options{Sys: root, Dev: "/dev", Models: []string{ebs}})
}

// with returns a copy with changes; an empty content removes a file.
func (s sysfs) with(changes sysfs) sysfs {
	all := sysfs{}
	for _, from := range []sysfs{s, changes} {
		for path, content := range from {
			all[path] = content
			if content == "" {
				delete(all, path)
			}
		}
	}
	return all
}

// controller is nvmeN, padded as NVMe pads, with its disk nvmeNn1 of 1 GiB.
func controller(n, serial, model, dev string) sysfs {
	c := "devices/pci0000:00/nvme/nvme" + n
	d := c + "/nvme" + n + "n1"
	return sysfs{
		c + "/serial": serial + strings.Repeat(" ", max(0, 20-len(serial))) + "\n", c + "/model": model + "              \n",
		d + "/dev": dev + "\n", d + "/size": "2097152\n", d + "/queue/logical_block_size": "512\n",
		d + "/device":           "->" + c,
		"class/nvme/nvme" + n:   "->" + c,
		"block/nvme" + n + "n1": "->" + d,
	}
}

// root is the system disk, which is always there.
func root() sysfs { return controller("0", "vol0aaaaaaaaaaaaaaaa", ebs, "259:0") }

// multipath is a disk as the kernel shows it with native multipathing.
func multipath() sysfs {
	c, subsystem := "devices/pci0000:00/nvme/nvme2", "devices/virtual/nvme-subsystem/nvme-subsys2"
	return root().with(sysfs{
		c + "/serial": serial, c + "/model": ebs, c + "/nvme2c2n1/size": "2097152", c + "/nvme2c2n1/device": "->" + c, c + "/nvme2c2n1/hidden": "1",
		subsystem + "/serial": serial, subsystem + "/model": ebs,
		subsystem + "/nvme2n1/dev": "259:5", subsystem + "/nvme2n1/size": "2097152", subsystem + "/nvme2n1/device": "->" + subsystem,
		"class/nvme/nvme2": "->" + c, "block/nvme2n1": "->" + subsystem + "/nvme2n1", "block/nvme2c2n1": "->" + c + "/nvme2c2n1",
	})
}

func TestFind(t *testing.T) {
	ours := controller("7", serial, ebs, "259:3")
	both := root().with(ours)
	disk := "devices/pci0000:00/nvme/nvme7/nvme7n1"
	want := volume.Device{Path: "/dev/nvme7n1", Major: 259, Minor: 3, Bytes: 1 << 30}
	for name, c := range map[string]struct {
		tree   sysfs
		want   volume.Device
		class  fault.Class
		reason string
		none   bool
	}{
		"found by serial, not by order":        {tree: both, want: want},
		"other disks do not matter":            {tree: both.with(sysfs{"block/loop0/size": "0", "block/dm-0/dm/name": "x", "block/sda/size": "1"}), want: want},
		"multipath: the disk, not its path":    {tree: multipath(), want: volume.Device{Path: "/dev/nvme2n1", Major: 259, Minor: 5, Bytes: 1 << 30}},
		"no such serial":                       {tree: root(), none: true},
		"no NVMe at all":                       {tree: sysfs{"block/sda/size": "1"}, none: true},
		"a serial that begins like ours":       {tree: root().with(controller("7", serial+"0", ebs, "259:3")), none: true},
		"a controller still without its disk":  {tree: both.with(sysfs{"block/nvme7n1": ""}), none: true},
		"gone before its serial could be read": {tree: both.with(sysfs{disk + "/device": "", "devices/pci0000:00/nvme/nvme7/serial": ""}), none: true},
		"two controllers, two disks":           {tree: both.with(controller("8", serial, ebs, "259:4")), class: fault.Integrity, reason: "serial-duplicate"},
		"two controllers, one disk":            {tree: both.with(sysfs{"class/nvme/nvme9/serial": serial}), class: fault.Integrity, reason: "serial-duplicate"},
		"two namespaces": {tree: both.with(sysfs{
			"devices/pci0000:00/nvme/nvme7/nvme7n2/device": "->devices/pci0000:00/nvme/nvme7", "block/nvme7n2": "->devices/pci0000:00/nvme/nvme7/nvme7n2",
		}), class: fault.Integrity, reason: "serial-duplicate"},
		"a disk without its controller": {tree: both.with(sysfs{"class/nvme/nvme7": ""}), class: fault.Unknown, reason: "sysfs"},
		"two disks without":             {tree: both.with(controller("8", serial, ebs, "259:4")).with(sysfs{"class/nvme/nvme7": "", "class/nvme/nvme8": ""}), class: fault.Unknown, reason: "sysfs"},
		"partitions":                    {tree: both.with(sysfs{disk + "/nvme7n1p1/partition": "1"}), class: fault.Integrity, reason: "device-partitions"},
		"instance store":                {tree: root().with(controller("7", serial, "Amazon EC2 NVMe Instance Storage", "259:3")), class: fault.Misconfigured, reason: "device-model"},
		"model unreadable":              {tree: both.with(sysfs{"devices/pci0000:00/nvme/nvme7/model": ""}), class: fault.Unknown, reason: "sysfs"},
		"number of a plain file":        {tree: both.with(sysfs{disk + "/dev": "0:0"}), class: fault.Integrity, reason: "device-number"},
		"number malformed":              {tree: both.with(sysfs{disk + "/dev": "259"}), class: fault.Integrity, reason: "device-number"},
		"size not yet known":            {tree: both.with(sysfs{disk + "/size": "0"}), class: fault.Unknown, reason: "sysfs"},
		"size malformed":                {tree: both.with(sysfs{disk + "/size": "-8"}), class: fault.Integrity, reason: "device-size"},
		"size beyond counting":          {tree: both.with(sysfs{disk + "/size": "18014398509481984"}), class: fault.Integrity, reason: "device-size"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.tree.build(t).Find(t.Context(), id)
			if errors.Is(err, volume.ErrNoDevice) != c.none {
				t.Fatalf("error %v; want ErrNoDevice: %v", err, c.none)
			}
			if !c.none && (fault.ClassOf(err) != c.class || fault.ReasonOf(err) != c.reason) {
				t.Errorf("class %q, reason %q (%v); want %q, %q", fault.ClassOf(err), fault.ReasonOf(err), err, c.class, c.reason)
			}
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// TestDuplicateMustLast: while a disk takes the place of another, both may be
// there for a moment; that must not quarantine the volume.
func TestDuplicateMustLast(t *testing.T) {
	f := root().with(controller("7", serial, ebs, "259:3")).with(controller("8", serial, ebs, "259:4")).build(t)
	// Reading the leaving disk's serial waits for a writer: after it has been
	// listed, and before anything else is looked at.
	leaving := filepath.Join(f.sys, "devices/pci0000:00/nvme/nvme8/serial")
	if err := errors.Join(os.Remove(leaving), unix.Mkfifo(leaving, 0o600)); err != nil {
		t.Fatal(err)
	}
	left := make(chan error, 1)
	go func() {
		w, err := os.OpenFile(leaving, os.O_WRONLY, 0)
		if err != nil {
			left <- err
			return
		}
		_, err = w.WriteString(serial)
		left <- errors.Join(err, os.Remove(filepath.Join(f.sys, "block/nvme8n1")), os.Remove(filepath.Join(f.sys, "class/nvme/nvme8")), w.Close())
	}()
	d, err := f.Find(t.Context(), id)
	if err := <-left; err != nil {
		t.Fatal(err)
	}
	if err != nil || d.Path != "/dev/nvme7n1" {
		t.Errorf("%+v, %v", d, err)
	}
}

// TestFindWantsAVolumeID: an empty or foreign id must never match a serial by accident.
func TestFindWantsAVolumeID(t *testing.T) {
	f := root().with(controller("7", "", ebs, "259:3")).build(t)
	for _, id := range []string{"", "vol-", "vol", "AWS1234", "vol-0123456789ABCDEF0", "vol-0123456789abcdef0 ", "../vol-12345678"} {
		if d, err := f.Find(t.Context(), id); err == nil || errors.Is(err, volume.ErrNoDevice) {
			t.Errorf("%q: %+v, %v", id, d, err)
		}
	}
}

// TestModelsMustBeListed: a Finder that was given no models finds nothing.
func TestModelsMustBeListed(t *testing.T) {
	f := root().with(controller("7", serial, ebs, "259:3")).build(t)
	f.Accept(nil)
	if _, err := f.Find(t.Context(), id); fault.ReasonOf(err) != "device-model" {
		t.Error(err)
	}
	f.Accept([]string{ebs}) // a reload lists it again
	if _, err := f.Find(t.Context(), id); err != nil {
		t.Error(err)
	}
}

func TestFindHearsCancellation(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := root().build(t).Find(ctx, id); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestFindReadsAnUnidentifiedControllerAgain: a controller that was plugged in a
// moment ago has no serial yet, and has one in the next moment.
func TestFindReadsAnUnidentifiedControllerAgain(t *testing.T) {
	const file = "devices/pci0000:00/nvme/nvme7/serial"
	f := root().with(controller("7", serial, ebs, "259:3")).with(sysfs{file: strings.Repeat(" ", 20) + "\n"}).build(t)
	if _, err := f.Find(t.Context(), id); !errors.Is(err, volume.ErrNoDevice) {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(filepath.Join(f.sys, file)), os.WriteFile(filepath.Join(f.sys, file), []byte(serial+"\n"), 0o444)); err != nil {
		t.Fatal(err)
	}
	if d, err := f.Find(t.Context(), id); err != nil || d.Path != "/dev/nvme7n1" {
		t.Errorf("%+v, %v", d, err)
	}
}

// TestFindSeesAnotherDiskUnderTheSameName protects against a serial that is
// remembered beyond the life of its disk: names are given again at once.
func TestFindSeesAnotherDiskUnderTheSameName(t *testing.T) {
	f := root().with(controller("7", serial, ebs, "259:3")).build(t)
	if _, err := f.Find(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	for _, class := range []string{"block/nvme7n1", "class/nvme/nvme7"} {
		if err := os.Remove(filepath.Join(f.sys, class)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.Find(t.Context(), id); !errors.Is(err, volume.ErrNoDevice) {
		t.Errorf("unplugged: %v", err)
	}
	other := "devices/pci0000:00/nvme/nvme7/serial"
	err := errors.Join(
		os.Remove(filepath.Join(f.sys, other)),
		os.WriteFile(filepath.Join(f.sys, other), []byte("vol0bbbbbbbbbbbbbbbb\n"), 0o444),
		os.Symlink(filepath.Join(f.sys, "devices/pci0000:00/nvme/nvme7/nvme7n1"), filepath.Join(f.sys, "block/nvme7n1")),
		os.Symlink(filepath.Join(f.sys, "devices/pci0000:00/nvme/nvme7"), filepath.Join(f.sys, "class/nvme/nvme7")),
	)
	if err != nil {
		t.Fatal(err)
	}
	if d, err := f.Find(t.Context(), id); !errors.Is(err, volume.ErrNoDevice) {
		t.Errorf("another disk: %+v, %v", d, err)
	}
	if d, err := f.Find(t.Context(), "vol-0bbbbbbbbbbbbbbbb"); err != nil || d.Path != "/dev/nvme7n1" {
		t.Errorf("another disk by its own serial: %+v, %v", d, err)
	}
}
