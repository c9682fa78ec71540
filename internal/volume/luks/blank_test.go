// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

func poke(t testing.TB, dev volume.Device, off int64, data []byte) {
	t.Helper()
	f, err := os.OpenFile(dev.Path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(data, off); err != nil {
		t.Fatal(err)
	}
}

// TestCheckBlank: one byte anywhere makes a volume somebody's.
func TestCheckBlank(t *testing.T) {
	t.Parallel()
	l, dev := newLUKS(t), blankDisk(t)
	var calls, last atomic.Int64
	err := l.CheckBlank(t.Context(), dev, "", func(done, total int64) {
		calls.Add(1)
		if total != dev.Bytes || done <= last.Load() {
			t.Errorf("progress %d of %d after %d", done, total, last.Load())
		}
		last.Store(done)
	})
	if err != nil || last.Load() != dev.Bytes || calls.Load() != testBytes/ioChunk {
		t.Errorf("%v; progress ended at %d after %d calls", err, last.Load(), calls.Load())
	}
	for _, off := range []int64{0, 511, headerBytes - 1, headerBytes, 40<<20 + 7, testBytes - 1} {
		dev := blankDisk(t)
		poke(t, dev, off, []byte{1})
		poke(t, dev, testBytes-1, []byte{1}) // the first is told, not the last
		err := l.CheckBlank(t.Context(), dev, "", nil)
		wantReason(t, err, fault.Integrity, "not-blank")
		if !strings.Contains(err.Error(), fmt.Sprintf("byte %d ", off)) {
			t.Errorf("byte %d: %v", off, err)
		}
	}
}

// TestCheckBlankOddSize: the last, short chunk is read too.
func TestCheckBlankOddSize(t *testing.T) {
	t.Parallel()
	dev := blankDisk(t)
	dev.Bytes = headerBytes + ioChunk + 4096
	if err := os.Truncate(dev.Path, dev.Bytes); err != nil {
		t.Fatal(err)
	}
	if err := newLUKS(t).CheckBlank(t.Context(), dev, "", nil); err != nil {
		t.Error(detail(err))
	}
	poke(t, dev, dev.Bytes-1, []byte{1})
	wantReason(t, newLUKS(t).CheckBlank(t.Context(), dev, "", nil), fault.Integrity, "not-blank")
}

// TestCheckBlankResidue: an interrupted WriteHeader leaves blocks of the image
// in their places, and nothing else may pass for that.
func TestCheckBlankResidue(t *testing.T) {
	t.Parallel()
	l, dev := newLUKS(t), builtDisk(t)
	path, _ := builtImage()
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block := func(at int64) []byte { return image[at : at+blockBytes] }
	for name, c := range map[string]struct {
		spoil func(volume.Device)
		ok    bool
	}{
		"whole":                      {func(volume.Device) {}, true},
		"primary missing":            {func(d volume.Device) { poke(t, d, 0, make([]byte, areaBytes)) }, true},
		"torn in the middle":         {func(d volume.Device) { poke(t, d, 5<<20, make([]byte, 11<<20)) }, true},
		"nothing yet":                {func(d volume.Device) { poke(t, d, 0, make([]byte, headerBytes)) }, true},
		"half a block":               {func(d volume.Device) { poke(t, d, 40960, make([]byte, 512)) }, false},
		"a block in another's place": {func(d volume.Device) { poke(t, d, 1<<20, block(2<<20)) }, false},
		"a byte of somebody's":       {func(d volume.Device) { poke(t, d, 70000, []byte{image[70000] ^ 1}) }, false},
		"a block behind the header":  {func(d volume.Device) { poke(t, d, headerBytes, block(1<<20)) }, false},
	} {
		poke(t, dev, 0, image)
		poke(t, dev, headerBytes, make([]byte, blockBytes))
		c.spoil(dev)
		err := l.CheckBlank(t.Context(), dev, path, nil)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, detail(err))
		}
		if werr := l.WriteHeader(t.Context(), dev, path); name != "a block behind the header" && (werr == nil) != c.ok {
			t.Errorf("%s: WriteHeader: %v", name, detail(werr))
		}
	}
	wantReason(t, l.CheckBlank(t.Context(), builtDisk(t), "", nil), fault.Integrity, "not-blank")
	wantReason(t, l.CheckBlank(t.Context(), dev, "/nonexistent", nil), fault.Unknown, "header-copy")
}

func TestCheckBlankHearsCancellation(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	err := newLUKS(t).CheckBlank(ctx, blankDisk(t), "", func(int64, int64) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestWriteHeader leaves exactly the image, and everything behind it alone.
func TestWriteHeader(t *testing.T) {
	t.Parallel()
	needCryptsetup(t)
	builtHeader(t)
	l, dev := newLUKS(t), blankDisk(t)
	path, _ := builtImage()
	for range 2 {
		if err := l.WriteHeader(t.Context(), dev, path); err != nil {
			t.Fatal(detail(err))
		}
	}
	got, err := os.ReadFile(dev.Path)
	if err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got[:headerBytes], image) || !isZero(got[headerBytes:]) {
		t.Error("the device holds something else than the image and zeros")
	}
}

// TestWriteHeaderRefuses: not over somebody's data, and not from a bad image.
func TestWriteHeaderRefuses(t *testing.T) {
	t.Parallel()
	l, dev := newLUKS(t), builtDisk(t) // a header of this image, then of another one
	path, _ := builtImage()
	poke(t, dev, 1<<20, bytes.Repeat([]byte{7}, blockBytes))
	before := sumOf(t, dev.Path)
	wantReason(t, l.WriteHeader(t.Context(), dev, path), fault.Integrity, "not-blank")
	bad := blankDisk(t)
	wantReason(t, l.WriteHeader(t.Context(), dev, bad.Path), fault.Integrity, "header-magic")
	if err := l.WriteHeader(t.Context(), dev, dev.Path); err == nil {
		t.Error("an image of the wrong size was written")
	}
	if sumOf(t, dev.Path) != before {
		t.Error("a refused device was written to")
	}
}

// TestTornWriteNeverLooksSound: at each point at which a power cut can stop
// WriteHeader, the device is either refused as a whole or complete, and the
// write can be taken up again.
func TestTornWriteNeverLooksSound(t *testing.T) {
	t.Parallel()
	builtHeader(t)
	l := newLUKS(t)
	path, _ := builtImage()
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, kept := range map[string][]span{
		"nothing":                {},
		"some keyslots":          {{metadataBytes, 3 << 20}},
		"all keyslots":           {{metadataBytes, headerBytes}},
		"half a secondary":       {{areaBytes + 4096, headerBytes}},
		"secondary":              {{areaBytes, headerBytes}},
		"primary without JSON":   {{0, binaryBytes}, {areaBytes, headerBytes}},
		"primary without binary": {{4096, headerBytes}},
	} {
		dev := blankDisk(t)
		for _, s := range kept {
			poke(t, dev, s.from, image[s.from:s.to])
		}
		if h, err := l.Freeze(t.Context(), dev, "orders"); fault.ClassOf(err) != fault.Integrity {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
		fact, err := l.Look(t.Context(), dev)
		if err != nil || (fact.State == volume.HeaderBlank) != (len(kept) == 0) {
			t.Errorf("%s: look: %+v, %v", name, fact, err)
		}
		if err := l.WriteHeader(t.Context(), dev, path); err != nil {
			t.Errorf("%s: write again: %v", name, detail(err))
		}
		frozen(t, l, dev)
	}
}
