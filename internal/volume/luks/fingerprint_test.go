// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"os"
	"testing"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// TestFingerprint: any byte of what an unlock reads changes it, and data do not.
func TestFingerprint(t *testing.T) {
	l := newLUKS(t)
	dev := builtDisk(t)
	take := func() volume.Fingerprint {
		t.Helper()
		p, err := l.Fingerprint(t.Context(), dev)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	sound := take()
	for name, c := range map[string]struct {
		offset  int64
		changes bool
	}{
		"primary header":             {600, true},
		"secondary header":           {areaBytes + 600, true},
		"area of the first keyslot":  {metadataBytes + 100, true},
		"end of the third keyslot's": {metadataBytes + 3*stripedBytes - 1, true},
		"data":                       {headerBytes + 5, false},
	} {
		t.Run(name, func(t *testing.T) {
			flip(t, dev, c.offset)
			if got := take(); (got != sound) != c.changes {
				t.Errorf("changed: %v, want %v", got != sound, c.changes)
			}
			flip(t, dev, c.offset)
		})
	}
	if take() != sound {
		t.Error("one disk has two fingerprints")
	}
}

func flip(t *testing.T, dev volume.Device, offset int64) {
	t.Helper()
	f, err := os.OpenFile(dev.Path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err = f.ReadAt(b, offset); err == nil {
		b[0] ^= 1
		_, err = f.WriteAt(b, offset)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestFingerprintOfAnotherDevice: what took the place of the device is not read.
func TestFingerprintOfAnotherDevice(t *testing.T) {
	l := newLUKS(t)
	dev := blankDisk(t)
	dev.Minor = 7
	_, err := l.Fingerprint(t.Context(), dev)
	wantReason(t, err, fault.Unknown, "device-changed")
	_, err = l.Fingerprint(t.Context(), volume.Device{Path: dev.Path, Bytes: 4096})
	wantReason(t, err, fault.Integrity, string(ruleDeviceSize))
}

// TestTry finds a keyslot's area that was damaged, which no checksum covers.
func TestTry(t *testing.T) {
	l := newLUKS(t)
	dev := builtDisk(t)
	key := secretOf(t, 1)
	if err := l.Try(t.Context(), frozen(t, l, dev), 0, key); err != nil {
		t.Fatal(detail(err))
	}
	flip(t, dev, metadataBytes+100)
	wantReason(t, l.Try(t.Context(), frozen(t, l, dev), 0, key), fault.Integrity, string(rulePassphrase))
}

// BenchmarkFingerprint is what a mounted volume costs each probe interval.
func BenchmarkFingerprint(b *testing.B) {
	l := newLUKS(b)
	dev := builtDisk(b)
	for b.Loop() {
		if _, err := l.Fingerprint(b.Context(), dev); err != nil {
			b.Fatal(err)
		}
	}
}
