// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
	"github.com/volseal/volseal/test/lab/luksedit"
)

// begunImage is the sound header with a reencryption that has just begun, made by
// the real cryptsetup once for all tests.
var begunImage = sync.OnceValues(func() (string, error) {
	image, err := builtImage()
	if err != nil {
		return "", err
	}
	raw, err := os.ReadFile(image)
	if err != nil {
		return "", err
	}
	disk := filepath.Join(sharedDir, "begun-disk")
	if err := os.WriteFile(disk, raw, 0o600); err != nil {
		return "", err
	}
	if err := os.Truncate(disk, testBytes); err != nil {
		return "", err
	}
	dev := volume.Device{Path: disk, Bytes: testBytes}
	h, err := New(Options{}).Judge(dev, image)
	if err != nil {
		return "", err
	}
	passphrase, err := envelope.SecretFrom(bytes.Repeat([]byte{1}, secretBytes))
	if err != nil {
		return "", err
	}
	defer passphrase.Destroy()
	mac, err := envelope.SecretFrom(bytes.Repeat([]byte{2}, secretBytes))
	if err != nil {
		return "", err
	}
	defer mac.Destroy()
	path := filepath.Join(sharedDir, "images", "begun")
	keep := h.Candidates[0].Token
	return path, New(Options{}).BeginReencryption(context.Background(), dev, path, keep, passphrase, successor(keep, mac))
})

// successor seals the token of the new volume key as the reconciler does.
func successor(keep envelope.Token, mac *envelope.Secret) func(int, []byte) (envelope.Token, error) {
	return func(keyslot int, meaning []byte) (envelope.Token, error) {
		t := keep
		t.Keyslots, t.Generation, t.MAC = []string{string(rune('0' + keyslot))}, keep.Generation+1, nil
		return t, t.Seal(mac, meaning)
	}
}

func begunHeader(t testing.TB) luksedit.Header {
	t.Helper()
	needCryptsetup(t)
	image, err := begunImage()
	if err != nil {
		t.Fatalf("begin: %v", detail(err))
	}
	h, err := luksedit.Load(image)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// dataBytes is the size of what is encrypted on the disks of these tests.
const dataBytes = testBytes - headerBytes

// halfway is the header when cryptsetup has done 16 MiB; with hot, in the middle of
// the next 8. It was copied from what cryptsetup 2.6.1 writes.
func halfway(h luksedit.Header, hot bool) {
	stretchOf := func(from, size int, flags ...string) map[string]any {
		s := map[string]any{
			"type": "crypt", "offset": num(headerBytes + from), "size": num(size), "iv_tweak": num(from / 512),
			"encryption": cipher, "sector_size": 4096,
		}
		if len(flags) > 0 {
			s["flags"] = flags
		}
		return s
	}
	whole := func(flag string) map[string]any {
		s := stretchOf(0, 0, flag)
		s["size"] = "dynamic"
		return s
	}
	const mib = 1 << 20
	editOf(h, func(m map[string]any) {
		var old, fresh []string
		segments := map[string]any{}
		segments["0"], fresh = stretchOf(0, 16*mib), append(fresh, "0")
		if hot {
			segments["1"] = stretchOf(16*mib, 8*mib, "in-reencryption")
			segments["2"] = stretchOf(24*mib, dataBytes-24*mib)
			segments["3"], segments["4"] = whole("backup-previous"), whole("backup-final")
			old, fresh = []string{"1", "2", "3"}, []string{"1", "0", "4"}
		} else {
			segments["1"] = stretchOf(16*mib, dataBytes-16*mib)
			segments["2"], segments["3"] = whole("backup-previous"), whole("backup-final")
			old, fresh = []string{"1", "2"}, append(fresh, "3")
		}
		m["segments"] = segments
		luksedit.At(m, "digests", "0")["segments"] = old
		luksedit.At(m, "digests", "1")["segments"] = fresh
	})
}

func num(n int) string { b, _ := json.Marshal(n); return string(b) }

func editOf(h luksedit.Header, change func(map[string]any)) {
	if err := h.Edit(change); err != nil {
		panic(err)
	}
}

// What the real cryptsetup makes of a header of ours is admitted by who knows of it,
// and by nobody else; and each of its two tokens speaks for the header that it will
// be alone in.
func TestBeginReencryption(t *testing.T) {
	t.Parallel()
	h := begunHeader(t)
	if _, err := judge(h); err == nil || err.Reason != string(ruleRequirements) {
		t.Errorf("a stranger admits it: %v", err)
	}
	is, err := judgeAny(h)
	if err != nil {
		t.Fatal(detail(err))
	}
	w := is.work
	if w == nil || len(w.stretches) != 1 || w.done(dataBytes) != 0 || !w.ends(dataBytes) || len(is.areas) != 2 {
		t.Fatalf("%+v", w)
	}
	mac := secretOf(t, 2)
	for _, c := range is.candidates {
		if err := c.Token.Verify(mac, c.Meaning); err != nil {
			t.Errorf("keyslot %d: %v", c.Keyslot, err)
		}
	}
	before, _ := judge(builtHeader(t))
	if !reflect.DeepEqual(w.before, before.candidates[0]) {
		t.Error("the old side is not the header from before")
	}
}

// The token of the new volume key is sealed before there is a header that holds that
// key alone. When cryptsetup is done, that header verifies; and the token that has
// lost its keyslot is in nobody's way.
func TestReencryptedHeader(t *testing.T) {
	t.Parallel()
	h := begunHeader(t)
	begun, err := judgeAny(h)
	if err != nil {
		t.Fatal(detail(err))
	}
	finished(h)
	is, err := judge(h)
	if err != nil {
		t.Fatal(detail(err))
	}
	if len(is.candidates) != 1 || is.candidates[0].Keyslot != 1 || is.candidates[0].Token.Generation != 2 {
		t.Fatalf("%+v", is.candidates)
	}
	if err := is.candidates[0].Token.Verify(secretOf(t, 2), is.candidates[0].Meaning); err != nil {
		t.Error(err)
	}
	before, _ := judge(builtHeader(t))
	if is.key == "" || is.key == before.key || is.key != begun.work.newKey {
		t.Error("it has no key of its own, or not the one that was announced")
	}
}

// finished is what cryptsetup leaves at the end.
func finished(h luksedit.Header) {
	editOf(h, func(m map[string]any) {
		delete(luksedit.At(m, "keyslots"), "0")
		delete(luksedit.At(m, "keyslots"), "2")
		delete(luksedit.At(m, "digests"), "0")
		delete(luksedit.At(m, "digests"), "2")
		delete(luksedit.At(m, "config"), "requirements")
		segments := luksedit.At(m, "segments")
		delete(segments, "1")
		delete(segments, "2")
		luksedit.At(m, "digests", "1")["segments"] = []string{"0"}
		luksedit.At(m, "tokens", "0")["keyslots"] = []string{}
	})
}

// TestHalfway: the border between the keys, and a hot zone, are read as cryptsetup writes them.
func TestHalfway(t *testing.T) {
	t.Parallel()
	for _, hot := range []bool{false, true} {
		h := begunHeader(t)
		halfway(h, hot)
		is, err := judgeAny(h)
		if err != nil {
			t.Fatal(detail(err))
		}
		const mib = 1 << 20
		want := []stretch{{0, 16 * mib, 1, false}, {16 * mib, dataBytes, 0, false}}
		if hot {
			want = []stretch{{0, 16 * mib, 1, false}, {16 * mib, 24 * mib, 1, true}, {24 * mib, dataBytes, 0, false}}
		}
		if !reflect.DeepEqual(is.work.stretches, want) || is.work.done(dataBytes) != 16*mib || !is.work.ends(dataBytes) || is.work.ends(dataBytes+4096) {
			t.Errorf("hot %v: %+v", hot, is.work.stretches)
		}
		begun, _ := judgeAny(begunHeader(t))
		if !bytes.Equal(is.work.identity, begun.work.identity) {
			t.Error("its identity changes with how far it is")
		}
	}
}

// A header that only claims to hold an unfinished reencryption of ours is refused,
// whatever an attacker with the raw disk does to a real one (CVE-2021-4122).
func TestFakedReencryption(t *testing.T) {
	t.Parallel()
	at := luksedit.At
	for name, c := range map[string]struct {
		change func(map[string]any)
		rule   rule
	}{
		"the flag alone": {func(m map[string]any) {
			delete(at(m, "keyslots"), "2")
			delete(at(m, "digests"), "2")
		}, ruleKeyslotCount},
		"an older flag": {func(m map[string]any) { at(m, "config", "requirements")["mandatory"] = []string{"online-reencrypt"} }, ruleRequirements},
		"another demand beside it": {func(m map[string]any) {
			at(m, "config", "requirements")["mandatory"] = []string{"online-reencrypt-v2", "inline-hw-tags"}
		}, ruleRequirements},
		"no demand":             {func(m map[string]any) { at(m, "config", "requirements")["mandatory"] = []string{} }, ruleRequirements},
		"decryption":            {func(m map[string]any) { at(m, "keyslots", "2")["mode"] = "decrypt" }, ruleRequirements},
		"encryption":            {func(m map[string]any) { at(m, "keyslots", "2")["mode"] = "encrypt" }, ruleRequirements},
		"backwards":             {func(m map[string]any) { at(m, "keyslots", "2")["direction"] = "backward" }, ruleRequirements},
		"no resilience":         {func(m map[string]any) { at(m, "keyslots", "2", "area")["type"] = "none" }, ruleKeyslotArea},
		"a journal":             {func(m map[string]any) { at(m, "keyslots", "2", "area")["type"] = "journal" }, ruleKeyslotArea},
		"the area in the data":  {func(m map[string]any) { at(m, "keyslots", "2", "area")["offset"] = "16777216" }, ruleKeyslotArea},
		"the area over a key":   {func(m map[string]any) { at(m, "keyslots", "2", "area")["offset"] = "290816" }, ruleKeyslotArea},
		"the area endless":      {func(m map[string]any) { at(m, "keyslots", "2", "area")["size"] = "9223372036854775807" }, ruleKeyslotArea},
		"a key in the metadata": {func(m map[string]any) { at(m, "keyslots", "2")["key"] = "x" }, ruleKeyslotType},
		"decrypted data at the end": {func(m map[string]any) {
			at(m, "segments", "2")["type"] = "linear"
			delete(at(m, "segments", "2"), "encryption")
		}, ruleRequirements},
		"null cipher at the end":        {func(m map[string]any) { at(m, "segments", "2")["encryption"] = "cipher_null-ecb" }, ruleSegmentCipher},
		"null cipher at the beginning":  {func(m map[string]any) { at(m, "segments", "1")["encryption"] = "cipher_null-ecb" }, ruleSegmentCipher},
		"null cipher in use":            {func(m map[string]any) { at(m, "segments", "0")["encryption"] = "cipher_null-ecb" }, ruleSegmentCipher},
		"plain data in use":             {func(m map[string]any) { at(m, "segments", "0")["type"] = "linear" }, ruleSegmentType},
		"the data moved":                {func(m map[string]any) { at(m, "segments", "0")["offset"] = "16781312" }, ruleSegmentBounds},
		"the data moved in the backup":  {func(m map[string]any) { at(m, "segments", "2")["offset"] = "16781312" }, ruleSegmentBounds},
		"other sectors":                 {func(m map[string]any) { at(m, "segments", "0")["sector_size"] = 512 }, ruleSectorSize},
		"shifted":                       {func(m map[string]any) { at(m, "segments", "0")["iv_tweak"] = "8" }, ruleSegmentIV},
		"no key for what is in use":     {func(m map[string]any) { at(m, "digests", "0")["segments"] = []string{"1"} }, ruleDigestCoverage},
		"a key for a segment not there": {func(m map[string]any) { at(m, "digests", "0")["segments"] = []string{"0", "1", "7"} }, ruleSegmentCount},
		"both sides one key": {func(m map[string]any) {
			at(m, "digests", "0")["segments"] = []string{"0", "1", "2"}
			at(m, "digests", "1")["segments"] = []string{}
		}, ruleDigestCoverage},
		"no way back": {func(m map[string]any) { delete(at(m, "segments"), "1") }, ruleSegmentFlags},
		"a flag more": {func(m map[string]any) { at(m, "segments", "0")["flags"] = []string{"in-reencryption"} }, ruleDigestCoverage},
		"a hole": {func(m map[string]any) {
			at(m, "segments")["3"] = at(m, "segments", "0")
			delete(at(m, "segments"), "0")
		}, ruleSegmentCount},
		"a keyslot of somebody's": {func(m map[string]any) { at(m, "keyslots")["5"] = at(m, "keyslots", "1") }, ruleKeyslotCount},
		"a digest of somebody's":  {func(m map[string]any) { at(m, "digests")["5"] = at(m, "digests", "1") }, ruleDigestCoverage},
		"a token of somebody's": {func(m map[string]any) {
			at(m, "tokens")["9"] = map[string]any{"type": "clevis", "keyslots": []string{"1"}}
		}, ruleTokenForeign},
		"a token of cryptsetup's": {func(m map[string]any) {
			at(m, "tokens")["9"] = map[string]any{"type": "luks2-keyring", "keyslots": []string{"1"}, "key_description": "x"}
		}, ruleTokenForeign},
		"no token for the new key": {func(m map[string]any) { delete(at(m, "tokens"), "1") }, ruleTokenMissing},
		"no token for the old key": {func(m map[string]any) { delete(at(m, "tokens"), "0") }, ruleTokenMissing},
		"one token for both": {func(m map[string]any) {
			at(m, "tokens", "0")["keyslots"] = []string{"0", "1"}
			delete(at(m, "tokens"), "1")
		}, ""},
		"tokens of two data keys":  {func(m map[string]any) { at(m, "tokens", "1")["wrapped_key"] = "AAAA" }, ruleKeyslotTokens},
		"tokens of one generation": {func(m map[string]any) { at(m, "tokens", "1")["generation"] = 1 }, ruleKeyslotTokens},
		"its digest of another":    {func(m map[string]any) { at(m, "digests", "2")["keyslots"] = []string{"0"} }, ruleDigestCoverage},
		"its digest over data":     {func(m map[string]any) { at(m, "digests", "2")["segments"] = []string{"0"} }, ruleDigestCoverage},
		"its digest too dear":      {func(m map[string]any) { at(m, "digests", "2")["iterations"] = 1 << 30 }, ruleDigestKind},
	} {
		t.Run(name, func(t *testing.T) {
			h := begunHeader(t)
			editOf(h, c.change)
			is, err := judgeAny(h)
			if err == nil {
				t.Fatalf("admitted: %+v", is.work.stretches)
			}
			if err.Class != fault.Integrity || c.rule != "" && err.Reason != string(c.rule) {
				t.Errorf("refused by %q (%v), want %q", err.Reason, detail(err), c.rule)
			}
		})
	}
}

// What policy cannot tell, because the value is one that volseal could have made,
// the MAC of one of the two tokens does.
func TestForgedReencryption(t *testing.T) {
	t.Parallel()
	at := luksedit.At
	other := "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	for name, change := range map[string]func(map[string]any){
		"another old volume key": func(m map[string]any) { at(m, "digests", "0")["digest"] = other },
		"another new volume key": func(m map[string]any) { at(m, "digests", "1")["digest"] = other },
		"another new keyslot":    func(m map[string]any) { at(m, "keyslots", "1", "kdf")["salt"] = other },
		"the keys exchanged": func(m map[string]any) {
			k := at(m, "keyslots")
			k["0"], k["1"] = k["1"], k["0"]
		},
		"the sides exchanged": func(m map[string]any) {
			d := at(m, "digests")
			d["0"], d["1"] = d["1"], d["0"]
			at(m, "digests", "0")["keyslots"], at(m, "digests", "1")["keyslots"] = []string{"0"}, []string{"1"}
			at(m, "digests", "0")["segments"], at(m, "digests", "1")["segments"] = []string{"0", "1"}, []string{"2"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := begunHeader(t)
			editOf(h, change)
			is, refused := judgeAny(h)
			if refused != nil {
				t.Fatalf("refused already: %v", detail(refused))
			}
			mac, verified := secretOf(t, 2), 0
			for _, c := range is.candidates {
				if c.Token.Verify(mac, c.Meaning) == nil {
					verified++
				}
			}
			if verified == 2 {
				t.Error("both tokens verify")
			}
		})
	}
}

// cryptsetup writes one copy of the header and then the other: a power cut
// between the two, or in the middle of one, leaves the newer sound one to go by. Two
// that are further apart, or differ at the same age, were not written by it.
func TestCopiesOfAReencryption(t *testing.T) {
	t.Parallel()
	begun, half := begunHeader(t), begunHeader(t)
	halfway(half, false)
	mixed := func(primary, secondary luksedit.Header) luksedit.Header {
		h := append(luksedit.Header{}, primary[:areaBytes]...)
		return append(h, secondary[areaBytes:]...)
	}
	aged := func(h luksedit.Header, by uint64) luksedit.Header {
		h = append(luksedit.Header{}, h...)
		for _, c := range []luksedit.Copy{luksedit.Primary, luksedit.Secondary} {
			h.SetNumber(c, luksedit.Sequence, 10+by)
		}
		return h
	}
	torn := aged(half, 1)
	clear(torn[6000:7000])
	for name, c := range map[string]struct {
		h    luksedit.Header
		done int64 // -1 is refused
	}{
		"equal":                  {aged(half, 0), 16 << 20},
		"the primary is newer":   {mixed(aged(half, 1), aged(begun, 0)), 16 << 20},
		"the secondary is newer": {mixed(aged(begun, 0), aged(half, 1)), 16 << 20},
		"the primary is torn":    {mixed(torn, aged(begun, 0)), 0},
		"two ages apart":         {mixed(aged(half, 2), aged(begun, 0)), -1},
		"of one age, and unlike": {mixed(aged(half, 0), aged(begun, 0)), -1},
		"the end, and not quite": {func() luksedit.Header {
			done := aged(half, 1)
			editOf(done, func(map[string]any) {})
			return mixed(done, aged(begun, 0))
		}(), 16 << 20},
	} {
		is, err := judgeAny(c.h)
		switch {
		case c.done < 0 && (err == nil || err.Reason != string(ruleCopies)):
			t.Errorf("%s: %v", name, err)
		case c.done >= 0 && (err != nil || is.work.done(dataBytes) != c.done):
			t.Errorf("%s: %+v, %v", name, is, detail(err))
		}
	}
}

// TestSettleCopies: what a power cut at the very end leaves is made whole before it
// is edited.
func TestSettleCopies(t *testing.T) {
	t.Parallel()
	for _, newer := range []luksedit.Copy{luksedit.Primary, luksedit.Secondary} {
		begun, done := begunHeader(t), begunHeader(t)
		finished(done)
		h := append(luksedit.Header{}, begun...)
		h.SetNumber(luksedit.Primary, luksedit.Sequence, 10)
		h.SetNumber(luksedit.Secondary, luksedit.Sequence, 10)
		done.SetNumber(newer, luksedit.Sequence, 11)
		from := int(newer) * areaBytes
		copy(h[from:from+areaBytes], done[from:from+areaBytes])
		path := filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(path, append(h, make([]byte, headerBytes-len(h))...), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := settleCopies(path); err != nil {
			t.Fatal(err)
		}
		if is, err := judgeFile(path, judge); err != nil || is.candidates[0].Keyslot != 1 {
			t.Errorf("newer %v: %v", newer, detail(err))
		}
	}
}

// A power cut while the header with two keys is being written may tear the copy that is
// written first. The volume opens by the other one, and the reencryption begins again.
func TestBeginAfterATornWrite(t *testing.T) {
	t.Parallel()
	h := builtHeader(t)
	whole, refused := judge(h)
	if refused != nil {
		t.Fatal(detail(refused))
	}
	clear(h[areaBytes+5000 : areaBytes+6000])
	disk := filepath.Join(t.TempDir(), "disk")
	image, err := builtImage()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	copy(raw, h)
	if err := os.WriteFile(disk, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, testBytes); err != nil {
		t.Fatal(err)
	}
	dev, l := volume.Device{Path: disk, Bytes: testBytes}, newLUKS(t)
	keep := whole.candidates[0].Token
	frozen, err := l.FreezeAny(t.Context(), dev, "orders")
	if err != nil {
		t.Fatal(detail(err))
	}
	if err := l.Try(t.Context(), frozen, 0, secretOf(t, 1)); err != nil {
		t.Errorf("it does not open: %v", detail(err))
	}
	path := filepath.Join(t.TempDir(), "images", "begun")
	if err := l.BeginReencryption(t.Context(), dev, path, keep, secretOf(t, 1), successor(keep, secretOf(t, 2))); err != nil {
		t.Fatal(detail(err))
	}
}

// Two power cuts in a row, in cryptsetup's last write of a header and then in ours that
// takes the old token out, leave a header that opens: no two copies of it were ever
// more than one age apart.
func TestEndAfterATornWrite(t *testing.T) {
	t.Parallel()
	begun, done := begunHeader(t), begunHeader(t)
	finished(done)
	h := append(luksedit.Header{}, begun...)
	h.SetNumber(luksedit.Secondary, luksedit.Sequence, 10)
	done.SetNumber(luksedit.Primary, luksedit.Sequence, 11)
	copy(h[:areaBytes], done[:areaBytes])
	image, err := begunImage()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	copy(raw, h)
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(disk, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, testBytes); err != nil {
		t.Fatal(err)
	}
	is, refused := judgeAny(h)
	if refused != nil {
		t.Fatal(detail(refused))
	}
	path := filepath.Join(t.TempDir(), "images", "ended")
	dev := volume.Device{Path: disk, Bytes: testBytes}
	if err := newLUKS(t).Retoken(t.Context(), dev, path, []envelope.Token{is.candidates[0].Token}); err != nil {
		t.Fatal(detail(err))
	}
	ended, err := luksedit.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	copy(h[areaBytes:], ended[areaBytes:metadataBytes]) // which is written first
	if is, err := judgeAny(h); err != nil || len(is.candidates) != 1 {
		t.Errorf("%+v, %v", is, detail(err))
	}
}
