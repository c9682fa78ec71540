// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
	"github.com/volseal/volseal/test/lab/luksedit"
)

// archived is an image of the sound header, as a backup is kept.
func archived(t testing.TB, l *LUKS, dev volume.Device) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "orders", "g1.img")
	if err := l.Save(t.Context(), dev, path); err != nil {
		t.Fatal(detail(err))
	}
	return path
}

// overwrite damages a device.
func overwrite(t testing.TB, dev volume.Device, at int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(dev.Path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// still is what the device is where nobody moves volumes about.
func still(context.Context) error { return nil }

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// TestSaveAndRestore: whatever becomes of the header area, an image brings it
// back to the byte, and with it the way to the volume key. Data are not touched.
func TestSaveAndRestore(t *testing.T) {
	t.Parallel()
	needCryptsetup(t)
	for name, damage := range map[string]func(t *testing.T, dev volume.Device){
		"nothing":           func(*testing.T, volume.Device) {},
		"primary":           func(t *testing.T, dev volume.Device) { overwrite(t, dev, 0, random(4096)) },
		"secondary":         func(t *testing.T, dev volume.Device) { overwrite(t, dev, areaBytes, random(4096)) },
		"keyslot":           func(t *testing.T, dev volume.Device) { overwrite(t, dev, metadataBytes, random(stripedBytes)) },
		"all of it, random": func(t *testing.T, dev volume.Device) { overwrite(t, dev, 0, random(headerBytes)) },
		"all of it, zeros":  func(t *testing.T, dev volume.Device) { overwrite(t, dev, 0, make([]byte, headerBytes)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, dev := newLUKS(t), builtDisk(t)
			overwrite(t, dev, headerBytes, []byte("rows"))
			image, before := archived(t, l, dev), sumOf(t, dev.Path)
			if info, err := os.Stat(image); err != nil || info.Size() != headerBytes || info.Mode().Perm() != 0o600 {
				t.Errorf("image: %v, %v", info, err)
			}
			damage(t, dev)
			if err := l.Restore(t.Context(), dev, image, "", still); err != nil {
				t.Fatal(detail(err))
			}
			if sumOf(t, dev.Path) != before {
				t.Error("the device is not what it was")
			}
			h := frozen(t, l, dev)
			if err := l.Try(t.Context(), h, 0, secretOf(t, 1)); err != nil {
				t.Error(detail(err))
			}
			printed, err := l.Print(image)
			onDisk, derr := l.Fingerprint(t.Context(), dev)
			if err != nil || derr != nil || printed != onDisk {
				t.Errorf("fingerprints differ: %v, %v", err, derr)
			}
		})
	}
}

// TestRestoreIsNeverBlank: a power cut at any point of a restoration leaves what
// is refused, and what does not look like an invitation to format. The header
// area began as zeros, the worst case.
func TestRestoreIsNeverBlank(t *testing.T) {
	t.Parallel()
	l, dev := newLUKS(t), builtDisk(t)
	image := archived(t, l, dev)
	raw, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	overwrite(t, dev, 0, make([]byte, headerBytes))
	order := writingOrder()
	for i, part := range order {
		overwrite(t, dev, part.from, raw[part.from:part.from+blockBytes]) // torn in this part
		fact, err := l.Look(t.Context(), dev)
		if err != nil || fact.State == volume.HeaderBlank {
			t.Errorf("torn in part %d: %+v, %v", i, fact, err)
		}
		if _, err := l.Freeze(t.Context(), dev, "orders"); fault.ClassOf(err) != fault.Integrity {
			t.Errorf("torn in part %d: accepted, or %v", i, err)
		}
		overwrite(t, dev, part.from, raw[part.from:part.to])
	}
	frozen(t, l, dev)
	for range 2 {
		if err := l.Restore(t.Context(), dev, image, "", still); err != nil {
			t.Error(detail(err))
		}
	}
}

// TestRestoreRefuses what Freeze would refuse, and a device that is in other use.
func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	l, dev := newLUKS(t), builtDisk(t)
	overwrite(t, dev, 0, random(blockBytes)) // what each restoration would change
	image, before := archived(t, l, builtDisk(t)), sumOf(t, dev.Path)
	sound := archived(t, l, builtDisk(t))
	if err := luksedit.EditFile(image, func(m map[string]any) { luksedit.At(m, "segments", "0")["encryption"] = "cipher_null-ecb" }); err != nil {
		t.Fatal(err)
	}
	wantReason(t, l.Restore(t.Context(), dev, image, "", still), fault.Integrity, "segment-cipher")
	_, err := l.Judge(dev, image)
	wantReason(t, err, fault.Integrity, "segment-cipher")
	if err := os.Truncate(image, headerBytes-blockBytes); err != nil {
		t.Fatal(err)
	}
	_, err = l.Judge(dev, image)
	wantReason(t, err, fault.Misconfigured, "image-size")
	if err := l.Restore(t.Context(), dev, image, "", still); err == nil {
		t.Error("a short image was restored")
	}
	if _, err := l.Judge(dev, t.TempDir()); err == nil {
		t.Error("a directory was judged sound")
	}
	moved := func(context.Context) error { return errors.New("another disk's by now") }
	if err := l.Restore(t.Context(), dev, sound, "", moved); err == nil {
		t.Error("written to another disk")
	}
	small := dev
	small.Bytes = headerBytes
	_, err = l.Judge(small, image)
	wantReason(t, err, fault.Integrity, "device-size")
	if sumOf(t, dev.Path) != before {
		t.Error("the device was written to")
	}
}

// TestRestoreUnderAMapping: a mounted volume's header is written only if its own
// mapping, and nothing else, holds the device.
func TestRestoreUnderAMapping(t *testing.T) {
	k := newKernel(t)
	if err := k.open(t.Context()); err != nil {
		t.Fatal(detail(err))
	}
	if err := k.Publish(t.Context(), pending, final); err != nil {
		t.Fatal(detail(err))
	}
	image := filepath.Join(t.TempDir(), "x", "g1.img")
	if err := k.Save(t.Context(), k.dev, image); err != nil {
		t.Fatal(detail(err))
	}
	overwrite(t, k.dev, 0, random(blockBytes))
	k.tools.path = New(Options{}).tools.path
	if err := k.Restore(t.Context(), k.dev, image, final, still); err != nil {
		t.Error(detail(err))
	}
	if _, err := k.Freeze(t.Context(), k.dev, "orders"); err != nil {
		t.Error(detail(err))
	}
	overwrite(t, k.dev, 0, random(blockBytes))
	before := sumOf(t, k.dev.Path)
	writeTree(t, k.root, map[string]string{"sys/dev/block/0:0/holders/dm-9/": ""})
	wantReason(t, k.Restore(t.Context(), k.dev, image, final, still), fault.Unknown, "device-shared")
	if sumOf(t, k.dev.Path) != before {
		t.Error("written to under another's mapping")
	}
}

// TestCopies tells which of the two copies is damaged, and that the other is sound.
func TestCopies(t *testing.T) {
	t.Parallel()
	l, dev := newLUKS(t), builtDisk(t)
	sound := func(c volume.HeaderCopy) bool { return c.Err == nil && c.UUID == testUUID && c.Sequence > 0 }
	c, err := l.Copies(t.Context(), dev)
	if err != nil || !sound(c.Primary) || !sound(c.Secondary) || c.Differ != nil || c.Primary.Sequence != c.Secondary.Sequence {
		t.Errorf("sound: %+v, %v", c, err)
	}
	overwrite(t, dev, 4096, []byte{0})
	c, err = l.Copies(t.Context(), dev)
	if err != nil || !sound(c.Secondary) || c.Differ == nil {
		t.Errorf("primary damaged: %+v, %v", c, err)
	}
	wantReason(t, c.Primary.Err, fault.Integrity, "header-checksum")
	overwrite(t, dev, 0, make([]byte, metadataBytes))
	c, err = l.Copies(t.Context(), dev)
	if err != nil {
		t.Fatal(err)
	}
	wantReason(t, c.Primary.Err, fault.Integrity, "header-magic")
	wantReason(t, c.Secondary.Err, fault.Integrity, "header-magic")
}

// rewrapped is a second token of the same keyslot, as a re-wrap makes it.
func rewrapped(t testing.TB, mac *envelope.Secret, c volume.Candidate) envelope.Token {
	t.Helper()
	next := c.Token
	next.Generation++
	next.KeyARN = "arn:aws:kms:us-east-1:222222222222:key/bbbbbbbb-bbbb-cccc-dddd-eeeeeeeeeeee"
	next.WrappedKey = bytes.Repeat([]byte{9}, 184)
	if err := next.Seal(mac, c.Meaning); err != nil {
		t.Fatal(err)
	}
	return next
}

// TestRetoken is a re-wrap's way through the header: the new token beside the
// old one, then alone. Each verifies whatever stands beside it, and the device
// is only read until Restore.
func TestRetoken(t *testing.T) {
	t.Parallel()
	needCryptsetup(t)
	l, dev := newLUKS(t), builtDisk(t)
	before, mac := sumOf(t, dev.Path), secretOf(t, 2)
	old := frozen(t, l, dev).Candidates[0]
	next := rewrapped(t, mac, old)
	image := filepath.Join(t.TempDir(), "orders", "intended.img")
	for _, tokens := range [][]envelope.Token{{old.Token, next}, {old.Token, next}, {next}, {next, old.Token}, {old.Token}} {
		if err := l.Retoken(t.Context(), dev, image, tokens); err != nil {
			t.Fatal(detail(err))
		}
		if sumOf(t, dev.Path) != before {
			t.Fatal("the device was written to")
		}
		if err := l.Restore(t.Context(), dev, image, "", still); err != nil {
			t.Fatal(detail(err))
		}
		before = sumOf(t, dev.Path)
		h := frozen(t, l, dev)
		if !sameTokens(h.Candidates, tokens) {
			t.Fatalf("tokens on the device: %+v", h.Candidates)
		}
		for _, c := range h.Candidates {
			if err := c.Token.Verify(mac, c.Meaning); err != nil || !bytes.Equal(c.Meaning, old.Meaning) {
				t.Errorf("generation %d: %v", c.Token.Generation, err)
			}
		}
		if err := l.Try(t.Context(), h, 0, secretOf(t, 1)); err != nil {
			t.Error(detail(err))
		}
		l.Discard(h)
	}
}

// TestRetokenFailureLeavesNothing: half an image must not be taken for one that
// is intended. A keyslot without a token is refused, and so are three for one.
func TestRetokenFailureLeavesNothing(t *testing.T) {
	t.Parallel()
	needCryptsetup(t)
	l, dev := newLUKS(t), builtDisk(t)
	old := frozen(t, l, dev).Candidates[0]
	second := rewrapped(t, secretOf(t, 2), old)
	third := rewrapped(t, secretOf(t, 2), volume.Candidate{Token: second, Meaning: old.Meaning})
	image := filepath.Join(t.TempDir(), "orders", "intended.img")
	wantReason(t, l.Retoken(t.Context(), dev, image, nil), fault.Integrity, "token-missing")
	wantReason(t, l.Retoken(t.Context(), dev, image, []envelope.Token{old.Token, second, third}), fault.Integrity, "keyslot-tokens")
	if err := l.Retoken(canceled(), dev, image, []envelope.Token{old.Token}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	if left, err := os.ReadDir(filepath.Dir(image)); err == nil && len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestRetokenClearsOurs: a malformed token of ours goes, and one of somebody
// else's stays.
func TestRetokenClearsOurs(t *testing.T) {
	t.Parallel()
	needCryptsetup(t)
	l, dev := newLUKS(t), builtDisk(t)
	old := frozen(t, l, dev).Candidates[0]
	if err := luksedit.EditFile(dev.Path, func(m map[string]any) {
		luksedit.At(m, "tokens")["5"] = map[string]any{"type": envelope.TokenType, "keyslots": []string{"0"}, "version": 2}
		luksedit.At(m, "tokens")["9"] = map[string]any{"type": "somebody", "keyslots": []string{}}
	}); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(t.TempDir(), "orders", "intended.img")
	next := rewrapped(t, secretOf(t, 2), old)
	if err := l.Retoken(t.Context(), dev, image, []envelope.Token{old.Token, next}); err != nil {
		t.Fatal(detail(err))
	}
	b, err := readMetadata(image)
	if err != nil {
		t.Fatal(err)
	}
	m, _, refused := judgeLayout(b)
	if refused != nil {
		t.Fatal(detail(refused))
	}
	if len(m.Tokens) != 3 || m.Tokens["9"] == nil || m.Tokens["5"] != nil || m.Tokens["1"] == nil {
		t.Errorf("tokens: %v", m.Tokens)
	}
}

// TestAddKeyslot is a new data key's way through the header: both passphrases open
// their own keyslot, then the new one alone. The device is only read until Restore, and then
// not written where the keyslot in use is.
func TestAddKeyslot(t *testing.T) {
	t.Parallel()
	needCryptsetup(t)
	l, dev := newLUKS(t), builtDisk(t)
	before, mac := sumOf(t, dev.Path), secretOf(t, 4)
	old := frozen(t, l, dev).Candidates[0]
	image := filepath.Join(t.TempDir(), "orders", "intended.img")
	seal := func(keyslot int, meaning []byte) (envelope.Token, error) {
		next := old.Token
		next.Generation, next.Keyslots = 2, []string{fmt.Sprint(keyslot)}
		err := next.Seal(mac, meaning)
		return next, err
	}
	if err := l.AddKeyslot(t.Context(), dev, image, old.Token, secretOf(t, 1), secretOf(t, 3), seal); err != nil {
		t.Fatal(detail(err))
	}
	if sumOf(t, dev.Path) != before {
		t.Fatal("the device was written to")
	}
	if err := l.Restore(t.Context(), dev, image, "", still); err != nil {
		t.Fatal(detail(err))
	}
	h := frozen(t, l, dev)
	if len(h.Candidates) != 2 || !bytes.Equal(h.Candidates[0].Meaning, old.Meaning) || h.Candidates[1].Keyslot != 1 {
		t.Fatalf("candidates %+v", h.Candidates)
	}
	if err := h.Candidates[1].Token.Verify(mac, h.Candidates[1].Meaning); err != nil {
		t.Error(err)
	}
	for slot, passphrase := range map[int]byte{0: 1, 1: 3} {
		if err := l.Try(t.Context(), h, slot, secretOf(t, passphrase)); err != nil {
			t.Errorf("keyslot %d: %v", slot, detail(err))
		}
	}
	if err := l.Retoken(t.Context(), dev, image, []envelope.Token{h.Candidates[1].Token}); err != nil {
		t.Fatal(detail(err))
	}
	if err := l.Restore(t.Context(), dev, image, "", still); err != nil {
		t.Fatal(detail(err))
	}
	h = frozen(t, l, dev)
	if len(h.Candidates) != 1 || h.Candidates[0].Keyslot != 1 {
		t.Fatalf("candidates %+v", h.Candidates)
	}
	if err := l.Try(t.Context(), h, 1, secretOf(t, 3)); err != nil {
		t.Error(detail(err))
	}
	if err := l.Try(t.Context(), h, 0, secretOf(t, 1)); err == nil {
		t.Error("the old keyslot opens")
	}
}

// TestAddKeyslotFailureLeavesNothing: with a wrong passphrase no image is made.
func TestAddKeyslotFailureLeavesNothing(t *testing.T) {
	t.Parallel()
	needCryptsetup(t)
	l, dev := newLUKS(t), builtDisk(t)
	old := frozen(t, l, dev).Candidates[0]
	image := filepath.Join(t.TempDir(), "orders", "intended.img")
	never := func(int, []byte) (envelope.Token, error) { t.Error("sealed"); return envelope.Token{}, nil }
	if err := l.AddKeyslot(t.Context(), dev, image, old.Token, secretOf(t, 3), secretOf(t, 4), never); err == nil {
		t.Error("a wrong passphrase is accepted")
	}
	if left, err := os.ReadDir(filepath.Dir(image)); err == nil && len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestUnlike: only what differs is written, from the first block to the last.
func TestUnlike(t *testing.T) {
	t.Parallel()
	a, b := make([]byte, 8*blockBytes), make([]byte, 8*blockBytes)
	whole := span{blockBytes, 7 * blockBytes}
	if s := whole.unlike(a, b); s.from != s.to {
		t.Errorf("equal: %+v", s)
	}
	b[0], b[3*blockBytes], b[5*blockBytes+1], b[7*blockBytes] = 1, 1, 1, 1
	if s := whole.unlike(a, b); s != (span{3 * blockBytes, 6 * blockBytes}) {
		t.Errorf("unlike: %+v", s)
	}
}
