// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// loopDevice is a real block device over a sparse file, where the host allows it.
func loopDevice(t *testing.T) volume.Device {
	t.Helper()
	file := blankDisk(t)
	out, err := exec.Command("losetup", "--find", "--show", file.Path).CombinedOutput()
	if err != nil {
		t.Skipf("no loop devices here: %v %s", err, out)
	}
	dev := volume.Device{Path: strings.TrimSpace(string(out)), Bytes: file.Bytes}
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", dev.Path).CombinedOutput(); err != nil {
			t.Errorf("detach %s: %v %s", dev.Path, err, out)
		}
	})
	raw, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(dev.Path), "dev"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(string(raw), "%d:%d", &dev.Major, &dev.Minor); err != nil {
		t.Fatal(err)
	}
	return dev
}

// TestBlockDevice goes the way of init on a real block device: direct I/O in
// whole blocks, device numbers, exclusive opening.
func TestBlockDevice(t *testing.T) {
	t.Parallel()
	builtHeader(t)
	l, dev := newLUKS(t), loopDevice(t)
	image, _ := builtImage()
	if err := l.CheckBlank(t.Context(), dev, "", nil); err != nil {
		t.Fatal(detail(err))
	}
	if err := l.WriteHeader(t.Context(), dev, image); err != nil {
		t.Fatal(detail(err))
	}
	if err := l.CheckBlank(t.Context(), dev, image, nil); err != nil {
		t.Fatal(detail(err))
	}
	if h := frozen(t, l, dev); h.UUID != testUUID {
		t.Errorf("%+v", h)
	}
	if fact, err := l.Look(t.Context(), dev); err != nil || fact.State != volume.HeaderLUKS2 {
		t.Errorf("%+v, %v", fact, err)
	}
	other := dev
	other.Minor++
	_, err := l.Freeze(t.Context(), other, "orders")
	wantReason(t, err, fault.Unknown, "device-changed")
}

// TestBlockDeviceInUse: a device that somebody mounted or mapped is neither
// judged blank nor written to, but can still be looked at.
func TestBlockDeviceInUse(t *testing.T) {
	t.Parallel()
	builtHeader(t)
	l, dev := newLUKS(t), loopDevice(t)
	image, _ := builtImage()
	if used, err := l.InUse(t.Context(), dev); used || err != nil {
		t.Errorf("in use before it is: %v, %v", used, err)
	}
	held, err := os.OpenFile(dev.Path, os.O_RDONLY|unix.O_EXCL, 0) // as mount and device-mapper hold it
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if used, err := l.InUse(t.Context(), dev); !used || err != nil {
		t.Errorf("in use: %v, %v", used, err)
	}
	wantReason(t, l.CheckBlank(t.Context(), dev, "", nil), fault.Unknown, "busy")
	wantReason(t, l.WriteHeader(t.Context(), dev, image), fault.Unknown, "busy")
	if fact, err := l.Look(t.Context(), dev); err != nil || fact.State != volume.HeaderBlank {
		t.Errorf("%+v, %v", fact, err)
	}
}
