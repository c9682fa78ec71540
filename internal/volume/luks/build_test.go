// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/volume"
)

// TestBuildWriteFreeze is a header's whole life with the real cryptsetup: what
// was sealed is what a later boot reads, and its MAC holds.
func TestBuildWriteFreeze(t *testing.T) {
	t.Parallel()
	needCryptsetup(t)
	l, dev := newLUKS(t), blankDisk(t)
	image := filepath.Join(t.TempDir(), "images", "orders")
	if err := l.BuildHeader(t.Context(), image, testUUID, dev, secretOf(t, 1), sealer(secretOf(t, 2), 1)); err != nil {
		t.Fatalf("build: %v", detail(err))
	}
	if err := l.WriteHeader(t.Context(), dev, image); err != nil {
		t.Fatalf("write: %v", detail(err))
	}
	h := frozen(t, l, dev)
	if h.UUID != testUUID || len(h.Candidates) != 1 || h.Candidates[0].Keyslot != 0 {
		t.Fatalf("header is %+v", h)
	}
	c := h.Candidates[0]
	if err := c.Token.Verify(secretOf(t, 2), c.Meaning); err != nil {
		t.Error("the MAC does not hold after the way through the disk:", err)
	}
	if c.Token.Verify(secretOf(t, 3), c.Meaning) == nil {
		t.Error("another key verifies too")
	}
	for path, mode := range map[string]os.FileMode{h.Path: 0o600, image: 0o600, filepath.Dir(h.Path): 0o700, filepath.Dir(image): 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v; want mode %o", path, info.Mode(), err, mode)
		}
	}
	if fact, err := l.Look(t.Context(), dev); err != nil || fact != (volume.HeaderFact{State: volume.HeaderLUKS2, UUID: testUUID}) {
		t.Errorf("look: %+v, %v", fact, err)
	}
	l.Discard(h)
	l.Discard(h)
	l.Discard(nil)
	if _, err := os.Stat(h.Path); !errors.Is(err, os.ErrNotExist) {
		t.Error("discarded copy is still there")
	}
}

// TestBuildLeavesDeviceAlone: building must not write a byte to the device, nor
// leave anything in the image that is not in the header.
func TestBuildLeavesDeviceAlone(t *testing.T) {
	t.Parallel()
	needCryptsetup(t)
	l, dev := newLUKS(t), blankDisk(t)
	before := sumOf(t, dev.Path)
	image := filepath.Join(t.TempDir(), "images", "orders")
	for range 2 { // and repeating it is harmless
		if err := l.BuildHeader(t.Context(), image, testUUID, dev, secretOf(t, 1), sealer(secretOf(t, 2), 1)); err != nil {
			t.Fatal(detail(err))
		}
	}
	if sumOf(t, dev.Path) != before {
		t.Error("the device changed")
	}
	if info, err := os.Stat(image); err != nil || info.Size() != headerBytes {
		t.Errorf("image: %v, %v", info, err)
	}
}

// TestBuildFailureLeavesNothing: an image that is not complete must not look like one.
func TestBuildFailureLeavesNothing(t *testing.T) {
	t.Parallel()
	needCryptsetup(t)
	l, dev := newLUKS(t), blankDisk(t)
	dir := filepath.Join(t.TempDir(), "images")
	image := filepath.Join(dir, "orders")
	no := errors.New("no")
	wrong := func(int, []byte) (envelope.Token, error) { return envelope.Token{}, no }
	if err := l.BuildHeader(t.Context(), image, testUUID, dev, secretOf(t, 1), wrong); !errors.Is(err, no) {
		t.Errorf("refused seal: %v", err)
	}
	otherSlot := func(_ int, meaning []byte) (envelope.Token, error) {
		return sealer(secretOf(t, 2), 1)(1, meaning)
	}
	if err := l.BuildHeader(t.Context(), image, testUUID, dev, secretOf(t, 1), otherSlot); err == nil {
		t.Error("a token for another keyslot was accepted")
	}
	if err := l.BuildHeader(canceled(), image, testUUID, dev, secretOf(t, 1), wrong); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestSweep: a crash-looping agent must not fill /run with copies of headers.
func TestSweep(t *testing.T) {
	t.Parallel()
	l := newLUKS(t)
	if err := l.Sweep(); err != nil {
		t.Fatal("sweep of nothing:", err)
	}
	h := frozen(t, l, builtDisk(t))
	if err := l.Sweep(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(h.Path); !errors.Is(err, os.ErrNotExist) {
		t.Error("stale copy survives a sweep")
	}
}
