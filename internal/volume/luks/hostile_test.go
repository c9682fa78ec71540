// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
	"github.com/volseal/volseal/test/lab/luksedit"
)

type object = map[string]any

// edit is an attack on the metadata, in both copies and with right checksums.
func edit(change func(m object)) func(luksedit.Header) error {
	return func(h luksedit.Header) error { return h.Edit(change) }
}

// rewrite is an attack on the metadata's text.
func rewrite(old, text string) func(luksedit.Header) error {
	return func(h luksedit.Header) error {
		raw := h.Text(luksedit.Primary)
		if !bytes.Contains(raw, []byte(old)) {
			return fmt.Errorf("%q is not in the metadata", old)
		}
		raw = bytes.Replace(raw, []byte(old), []byte(text), 1)
		if err := h.SetText(luksedit.Primary, raw); err != nil {
			return err
		}
		return h.SetText(luksedit.Secondary, raw)
	}
}

// inBoth changes a field of the binary header in both copies.
func inBoth(f luksedit.Field, value []byte) func(luksedit.Header) error {
	return func(h luksedit.Header) error {
		h.Set(luksedit.Primary, f, value)
		h.Set(luksedit.Secondary, f, value)
		return nil
	}
}

func clone(o object) object {
	raw, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var c object
	if err := d.Decode(&c); err != nil {
		panic(err)
	}
	return c
}

// keyslot1 adds a second keyslot beside the first, covered by the digest.
func keyslot1(m object, offset string) object {
	k := clone(luksedit.At(m, "keyslots", "0"))
	luksedit.At(k, "area")["offset"] = offset
	luksedit.At(m, "keyslots")["1"] = k
	luksedit.At(m, "digests", "0")["keyslots"] = []string{"0", "1"}
	return k
}

// token1 adds a second token of ours, bound to that keyslot.
func token1(m object, slot string) object {
	t := clone(luksedit.At(m, "tokens", "0"))
	t["keyslots"] = []string{slot}
	luksedit.At(m, "tokens")["1"] = t
	return t
}

func segment0(field string, value any) func(luksedit.Header) error {
	return edit(func(m object) { luksedit.At(m, "segments", "0")[field] = value })
}

func keyslot0(field string, value any) func(luksedit.Header) error {
	return edit(func(m object) { luksedit.At(m, "keyslots", "0")[field] = value })
}

func keyslot0In(part, field string, value any) func(luksedit.Header) error {
	return edit(func(m object) { luksedit.At(m, "keyslots", "0", part)[field] = value })
}

func digest0(field string, value any) func(luksedit.Header) error {
	return edit(func(m object) { luksedit.At(m, "digests", "0")[field] = value })
}

func token0(field string, value any) func(luksedit.Header) error {
	return edit(func(m object) { luksedit.At(m, "tokens", "0")[field] = value })
}

// attacks are headers that were edited with all checksums made right. Each is
// to be refused by the rule that stands beside it, and by no other.
var attacks = map[string]struct {
	attack func(luksedit.Header) error
	reason string
}{
	// CVE-2021-4122: a faked reencryption has cryptsetup decrypt the disk.
	"faked reencryption": {edit(func(m object) {
		luksedit.At(m, "config")["requirements"] = object{"mandatory": []string{"online-reencrypt-v2"}}
		luksedit.At(m, "keyslots")["1"] = object{
			"type": "reencrypt", "mode": "decrypt", "key_size": 1, "direction": "forward",
			"area": object{"type": "none", "offset": "290816", "size": "4096"},
		}
		s := clone(luksedit.At(m, "segments", "0"))
		s["flags"] = []string{"backup-previous"}
		luksedit.At(m, "segments")["1"] = s
	}), "requirements"},
	"unknown requirement":     {edit(func(m object) { luksedit.At(m, "config")["requirements"] = object{"mandatory": []string{"x"}} }), "requirements"},
	"empty requirements":      {edit(func(m object) { luksedit.At(m, "config")["requirements"] = object{} }), "requirements"},
	"stored activation flags": {edit(func(m object) { luksedit.At(m, "config")["flags"] = []string{"allow-discards"} }), "config-flags"},
	"other keyslots size":     {edit(func(m object) { luksedit.At(m, "config")["keyslots_size"] = "16740352" }), "config-size"},
	"null cipher in segment":  {segment0("encryption", "cipher_null-ecb"), "segment-cipher"}, // CVE-2025-59054
	"weak cipher in segment":  {segment0("encryption", "aes-cbc-plain64"), "segment-cipher"},
	"capi null cipher":        {segment0("encryption", "capi:ecb(cipher_null)-plain"), "segment-cipher"},
	"linear segment": {edit(func(m object) {
		luksedit.At(m, "segments")["0"] = object{"type": "linear", "offset": "16777216", "size": "dynamic"}
	}), "segment-type"},
	"two segments":              {edit(func(m object) { luksedit.At(m, "segments")["1"] = clone(luksedit.At(m, "segments", "0")) }), "segment-count"},
	"segment of another number": {edit(func(m object) { s := luksedit.At(m, "segments"); s["1"] = s["0"]; delete(s, "0") }), "segment-count"},
	"no segment":                {edit(func(m object) { m["segments"] = object{} }), "segment-count"},
	"segment over the header":   {segment0("offset", "0"), "segment-bounds"},
	"segment of fixed size":     {segment0("size", "4096"), "segment-bounds"},
	"small sectors":             {segment0("sector_size", 512), "segment-sector-size"},
	"shifted IV":                {segment0("iv_tweak", "8"), "segment-iv"},
	"integrity":                 {segment0("integrity", object{"type": "hmac(sha256)", "journal_encryption": "none", "journal_integrity": "none"}), "segment-integrity"},
	"segment flags":             {segment0("flags", []string{"in-reencryption"}), "segment-flags"},
	"unknown field in segment":  {segment0("x", "y"), "metadata-form"},
	"field in capitals":         {rewrite(`"iv_tweak"`, `"IV_Tweak"`), "metadata-form"},
	"missing field":             {edit(func(m object) { delete(luksedit.At(m, "keyslots", "0", "kdf"), "hash") }), "metadata-form"},
	"number as string":          {keyslot0In("kdf", "iterations", "1000"), "metadata-form"},
	"null for an object":        {edit(func(m object) { m["tokens"] = nil }), "metadata-form"},
	"unknown top-level object":  {edit(func(m object) { m["x"] = object{} }), "metadata-form"},
	"duplicate field":           {rewrite(`"encryption":"aes-xts-plain64"`, `"encryption":"aes-xts-plain64","encryption":"aes-xts-plain64"`), "metadata-json"},
	"fraction":                  {keyslot0In("kdf", "iterations", json.Number("1000.0")), "metadata-json"},
	"exponent":                  {keyslot0In("kdf", "iterations", json.Number("1e3")), "metadata-json"},
	"deep nesting": {edit(func(m object) {
		luksedit.At(m, "tokens")["1"] = json.RawMessage(strings.Repeat("[", 900) + strings.Repeat("]", 900))
	}), "metadata-json"},
	"text after the metadata":  {rewrite(`"keyslots_size":"16744448"}}`, `"keyslots_size":"16744448"}}{}`), "metadata-json"},
	"data behind the metadata": {rewrite(`"keyslots_size":"16744448"}}`, "\"keyslots_size\":\"16744448\"}}\x00{}"), "header-padding"},
	"no keyslot":               {edit(func(m object) { m["keyslots"] = object{} }), "keyslot-count"},
	"keyslot number spelt oddly": {edit(func(m object) {
		k := luksedit.At(m, "keyslots")
		k["00"] = k["0"]
		delete(k, "0")
	}), "keyslot-count"},
	"five keyslots": {edit(func(m object) {
		for i := range 4 {
			k := clone(luksedit.At(m, "keyslots", "0"))
			luksedit.At(k, "area")["offset"] = fmt.Sprint(32768 + 258048*(i+1))
			luksedit.At(m, "keyslots")[fmt.Sprint(i+1)] = k
		}
	}), "keyslot-count"},
	"null cipher in keyslot":     {keyslot0In("area", "encryption", "cipher_null-ecb"), "keyslot-cipher"},
	"short area key":             {keyslot0In("area", "key_size", 32), "keyslot-cipher"},
	"short volume key":           {keyslot0("key_size", 32), "keyslot-key-size"},
	"keyslot priority":           {keyslot0("priority", 2), "keyslot-priority"},
	"unknown keyslot type":       {keyslot0("type", "luks3"), "keyslot-type"},
	"area over the metadata":     {keyslot0In("area", "offset", "16384"), "keyslot-area"},
	"area in the data":           {keyslot0In("area", "offset", "16777216"), "keyslot-area"},
	"area across the data":       {keyslot0In("area", "offset", "16547840"), "keyslot-area"},
	"area beyond counting":       {keyslot0In("area", "offset", "18446744073709551615"), "keyslot-area"},
	"area unaligned":             {keyslot0In("area", "offset", "32769"), "keyslot-area"},
	"area of another size":       {keyslot0In("area", "size", "262144"), "keyslot-area"},
	"area spelt oddly":           {keyslot0In("area", "offset", "032768"), "keyslot-area"},
	"area of another type":       {keyslot0In("area", "type", "datashift"), "keyslot-area"},
	"areas overlap":              {edit(func(m object) { keyslot1(m, "36864"); token1(m, "1") }), "keyslot-area"},
	"few stripes":                {keyslot0In("af", "stripes", 1), "keyslot-af"},
	"weak split hash":            {keyslot0In("af", "hash", "sha1"), "keyslot-af"},
	"endless KDF":                {keyslot0In("kdf", "iterations", 2_000_000_000), "keyslot-kdf"},
	"one iteration":              {keyslot0In("kdf", "iterations", 1), "keyslot-kdf"},
	"weak KDF hash":              {keyslot0In("kdf", "hash", "sha1"), "keyslot-kdf"},
	"argon2":                     {keyslot0("kdf", object{"type": "argon2id", "time": 4, "memory": 4194304, "cpus": 4, "salt": strings.Repeat("A", 43) + "="}), "metadata-form"},
	"short KDF salt":             {keyslot0In("kdf", "salt", "AAAA"), "keyslot-kdf"},
	"no digest":                  {edit(func(m object) { m["digests"] = object{} }), "digest-count"},
	"two digests":                {edit(func(m object) { luksedit.At(m, "digests")["1"] = clone(luksedit.At(m, "digests", "0")) }), "digest-count"},
	"digest number 32":           {edit(func(m object) { d := luksedit.At(m, "digests"); d["32"] = d["0"]; delete(d, "0") }), "digest-count"},
	"weak digest":                {digest0("hash", "sha1"), "digest-kind"},
	"endless digest":             {digest0("iterations", 100_001), "digest-kind"},
	"short digest":               {digest0("digest", "AAAA"), "digest-kind"},
	"digest not over keyslot":    {digest0("keyslots", []string{}), "digest-coverage"},
	"digest over keyslot twice":  {digest0("keyslots", []string{"0", "0"}), "digest-coverage"},
	"digest not over segment":    {digest0("segments", []string{}), "digest-coverage"},
	"unbound extra keyslot":      {edit(func(m object) { keyslot1(m, "290816") }), "keyslot-unbound"},
	"no token":                   {edit(func(m object) { m["tokens"] = object{} }), "token-missing"},
	"token of another type only": {token0("type", "clevis"), "token-missing"},
	"our type in capitals":       {token0("type", "VOLSEAL-KMS"), "token-foreign"},
	"token of another version":   {token0("version", 2), "token-version"},
	"token with another field":   {token0("x", 1), "token-field"},
	"token for no keyslot":       {token0("keyslots", []string{}), "token-keyslots"},
	// cryptsetup would fetch a key named by the attacker from the kernel's keyring.
	"keyring token": {edit(func(m object) {
		luksedit.At(m, "tokens")["1"] = object{"type": "luks2-keyring", "keyslots": []string{"0"}, "key_description": "x"}
	}), "token-foreign"},
	"foreign token, no type":          {edit(func(m object) { luksedit.At(m, "tokens")["1"] = object{"keyslots": []string{}} }), "token-foreign"},
	"foreign token, no keyslot of it": {edit(func(m object) { luksedit.At(m, "tokens")["1"] = object{"type": "x", "keyslots": []string{"7"}} }), "token-foreign"},
	"token number 32":                 {edit(func(m object) { luksedit.At(m, "tokens")["32"] = object{"type": "x", "keyslots": []string{}} }), "token-foreign"},
	"three tokens of ours on a keyslot": {edit(func(m object) {
		token1(m, "0")
		luksedit.At(m, "tokens")["2"] = clone(luksedit.At(m, "tokens", "0"))
	}), "keyslot-tokens"},

	"label":                     {inBoth(luksedit.Label, []byte("x")), "header-label"},
	"subsystem":                 {inBoth(luksedit.Subsystem, []byte("x")), "header-label"},
	"UUID malformed":            {inBoth(luksedit.UUID, []byte("0A1B2C3D-4e5f-4a6b-8c7d-9e0f1a2b3c4d")), "header-uuid"},
	"UUID with a tail":          {inBoth(luksedit.UUID, []byte(testUUID+"\x00x")), "header-uuid"},
	"padding":                   {inBoth(luksedit.Padding, []byte("x")), "header-padding"},
	"padding to 4096":           {inBoth(luksedit.Padding4096, []byte("x")), "header-padding"},
	"other checksum":            {inBoth(luksedit.ChecksumKind, []byte("sha1")), "header-checksum-kind"},
	"LUKS1":                     {inBoth(luksedit.Version, []byte{0, 1}), "header-version"},
	"larger metadata area":      {inBoth(luksedit.HeaderSize, []byte{0, 0, 0, 0, 0, 0, 0x80, 0}), "header-area-size"},
	"primary says it is second": {inBoth(luksedit.HeaderOffset, []byte{0, 0, 0, 0, 0, 0, 0x40, 0}), "header-offset"},
	"no magic":                  {inBoth(luksedit.Magic, nil), "header-magic"},
	"secondary is a primary":    {inBoth(luksedit.Magic, []byte(primaryMagic)), "header-magic"},
	"secondary newer":           {func(h luksedit.Header) error { h.SetNumber(luksedit.Secondary, luksedit.Sequence, 99); return nil }, "header-copies"},
	"secondary of another UUID": {func(h luksedit.Header) error {
		h.Set(luksedit.Secondary, luksedit.UUID, []byte("00000000-0000-4000-8000-000000000000"))
		return nil
	}, "header-copies"},
	"secondary's metadata other": {func(h luksedit.Header) error { return h.SetText(luksedit.Secondary, []byte(`{}`)) }, "header-copies"},
	"checksum wrong":             {func(h luksedit.Header) error { h[5000] ^= 1; return nil }, "header-checksum"},
	"secondary checksum wrong":   {func(h luksedit.Header) error { h[luksedit.Bytes-1] ^= 1; return nil }, "header-checksum"},
}

// TestAttacks: a header that somebody edited is refused by the rule that names
// the edit, before any key is asked for.
func TestAttacks(t *testing.T) {
	sound := builtHeader(t)
	for name, a := range attacks {
		t.Run(name, func(t *testing.T) {
			h := luksedit.Header(bytes.Clone(sound))
			if err := a.attack(h); err != nil {
				t.Fatal(err)
			}
			if bytes.Equal(h, sound) {
				t.Fatal("the attack changed nothing")
			}
			got, err := judge(h)
			if err == nil {
				t.Fatalf("accepted: %+v", got)
			}
			wantReason(t, err, fault.Integrity, a.reason)
		})
	}
}

// TestEachLayoutRuleIsAttacked: a rule that no attack proves may not bite.
func TestEachLayoutRuleIsAttacked(t *testing.T) {
	attacked := map[string]bool{}
	for _, a := range attacks {
		attacked[a.reason] = true
	}
	elsewhere := []rule{ruleDeviceSize, ruleView, ruleChanged, rulePassphrase, ruleTable, ruleBlank, ruleReadBack, ruleFilesystem}
	for _, reason := range Reasons() {
		if !attacked[reason] && !slices.Contains(elsewhere, rule(reason)) {
			t.Errorf("no attack is refused by %q", reason)
		}
	}
}

// TestFreezeRefuses takes some attacks through the device: nothing is left of a
// copy that was refused.
func TestFreezeRefuses(t *testing.T) {
	t.Parallel()
	l, dev := newLUKS(t), builtDisk(t)
	for _, name := range []string{"faked reencryption", "null cipher in segment", "secondary newer"} {
		h := builtHeader(t)
		if err := attacks[name].attack(h); err != nil {
			t.Fatal(err)
		}
		if err := h.Store(dev.Path); err != nil {
			t.Fatal(err)
		}
		_, err := l.Freeze(t.Context(), dev, "orders")
		wantReason(t, err, fault.Integrity, attacks[name].reason)
	}
	if left, _ := os.ReadDir(l.dir); len(left) != 0 {
		t.Errorf("%d refused copies were left behind", len(left))
	}
}

// harmless are headers that differ from ours in what cannot matter, and must
// work: refusing them would take a volume from its owner for nothing.
var harmless = map[string]struct {
	change     func(luksedit.Header) error
	candidates int
}{
	"untouched": {func(luksedit.Header) error { return nil }, 1},
	"31 tokens of other types": {edit(func(m object) {
		for i := 1; i < 32; i++ {
			luksedit.At(m, "tokens")[fmt.Sprint(i)] = object{"type": "junk", "keyslots": []string{}, "x": strings.Repeat("y", 200)}
		}
	}), 1},
	"a foreign token on our keyslot": {edit(func(m object) {
		luksedit.At(m, "tokens")["7"] = object{"type": "systemd-tpm2", "keyslots": []string{"0"}}
	}), 1},
	"our token under another number":       {edit(func(m object) { t := luksedit.At(m, "tokens"); t["31"] = t["0"]; delete(t, "0") }), 1},
	"a token of a later version beside it": {edit(func(m object) { token1(m, "0")["version"] = 2 }), 1},
	"a token for a keyslot that is gone":   {edit(func(m object) { token1(m, "0")["keyslots"] = []string{} }), 1},
	"a re-wrap under way":                  {edit(func(m object) { token1(m, "0")["generation"] = 2 }), 2},
	"a new data key under way":             {edit(func(m object) { keyslot1(m, "290816"); token1(m, "1")["generation"] = 2 }), 2},
	"written again": {func(h luksedit.Header) error {
		h.SetNumber(luksedit.Primary, luksedit.Sequence, 99)
		h.SetNumber(luksedit.Secondary, luksedit.Sequence, 99)
		return nil
	}, 1},
	"other spacing": {rewrite(`{"keyslots":`, "{ \n \"keyslots\" : "), 1},
}

// TestHarmless also protects the meaning: none of these changes what the MAC of
// the first token covers.
func TestHarmless(t *testing.T) {
	t.Parallel()
	l, dev := newLUKS(t), builtDisk(t)
	sound := builtHeader(t)
	mac := secretOf(t, 2)
	for name, c := range harmless {
		t.Run(name, func(t *testing.T) {
			h := luksedit.Header(bytes.Clone(sound))
			if err := c.change(h); err != nil {
				t.Fatal(err)
			}
			if err := h.Store(dev.Path); err != nil {
				t.Fatal(err)
			}
			got := frozen(t, l, dev)
			if len(got.Candidates) != c.candidates {
				t.Fatalf("%d candidates, want %d", len(got.Candidates), c.candidates)
			}
			if first := got.Candidates[0]; first.Keyslot != 0 || first.Token.Verify(mac, first.Meaning) != nil {
				t.Errorf("the first candidate is not the sealed one: %+v", first)
			}
		})
	}
}

// TestMAC: what policy must allow, because it differs from volume to volume,
// the MAC protects.
func TestMAC(t *testing.T) {
	sound := builtHeader(t)
	other := strings.Repeat("A", 43) + "="
	for name, change := range map[string]func(luksedit.Header) error{
		"UUID":            inBoth(luksedit.UUID, []byte("00000000-0000-4000-8000-000000000000")),
		"keyslot's salt":  keyslot0In("kdf", "salt", other),
		"keyslot's work":  keyslot0In("kdf", "iterations", 2000),
		"keyslot's place": keyslot0In("area", "offset", "290816"),
		"digest":          digest0("digest", other),
		"digest's salt":   digest0("salt", other),
		"digest's work":   digest0("iterations", 2000),
		"digest's number": edit(func(m object) { d := luksedit.At(m, "digests"); d["1"] = d["0"]; delete(d, "0") }),
		"keyslot's number": edit(func(m object) {
			k := luksedit.At(m, "keyslots")
			k["1"] = k["0"]
			delete(k, "0")
			luksedit.At(m, "digests", "0")["keyslots"] = []string{"1"}
			luksedit.At(m, "tokens", "0")["keyslots"] = []string{"1"}
		}),
		"token's ARN":        token0("key_arn", strings.Replace(testARN, "key/a", "key/b", 1)),
		"token's context":    edit(func(m object) { luksedit.At(m, "tokens", "0", "encryption_context")["customer"] = "other" }),
		"token's key":        token0("wrapped_key", "AAAA"),
		"token's salt":       token0("salt", other),
		"token's MAC":        token0("mac", other),
		"token's generation": token0("generation", 2),
	} {
		t.Run(name, func(t *testing.T) {
			h := luksedit.Header(bytes.Clone(sound))
			if err := change(h); err != nil {
				t.Fatal(err)
			}
			got, err := judge(h)
			if err != nil {
				t.Fatal(detail(err))
			}
			c := got.candidates[0]
			wantReason(t, c.Token.Verify(secretOf(t, 2), c.Meaning), fault.Integrity, "mac")
		})
	}
}

// TestSecondTokenKeepsFirstMeaning: a rotation adds before it removes, so what
// the old token's MAC covers must not change when the new one comes.
func TestSecondTokenKeepsFirstMeaning(t *testing.T) {
	t.Parallel()
	l, dev := newLUKS(t), builtDisk(t)
	before := frozen(t, l, dev).Candidates[0].Meaning
	if err := luksedit.EditFile(dev.Path, func(m object) { keyslot1(m, "290816"); token1(m, "1") }); err != nil {
		t.Fatal(err)
	}
	after := frozen(t, l, dev).Candidates
	if len(after) != 2 || !bytes.Equal(after[0].Meaning, before) || bytes.Equal(after[1].Meaning, before) {
		t.Errorf("meaning was %s, candidates are %+v", before, after)
	}
}

// TestViewsDiffer: cryptsetup reading something else than we do is refused, as
// is its not accepting the file; what it opened meanwhile is closed again.
func TestViewsDiffer(t *testing.T) {
	for name, c := range map[string]struct {
		dump   string
		class  fault.Class
		reason string
	}{
		"another header":                    {`echo '{"keyslots":{},"tokens":{},"segments":{},"digests":{},"config":{}}'`, fault.Integrity, "cryptsetup-view"},
		"no JSON":                           {`echo no`, fault.Integrity, "cryptsetup-view"},
		"refusal":                           {`echo "Device is not a valid LUKS device." >&2; exit 1`, fault.Integrity, "cryptsetup-view"},
		"nothing":                           {`exit 0`, fault.Integrity, "cryptsetup-view"},
		"no memory does not blame the disk": {`exit 3`, fault.Unknown, "tool"},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKernel(t)
			writeTree(t, k.root, map[string]string{"bin/dump": "#!/bin/sh\n" + c.dump})
			if err := os.Chmod(filepath.Join(k.root, "bin/dump"), 0o700); err != nil {
				t.Fatal(err)
			}
			k.scripts(`case $1 in luksDump) exec $R/bin/dump;; esac; `+openOK, dmsetup(renameOK, removeOK))
			wantReason(t, k.open(t.Context()), c.class, c.reason)
			if k.has(pending) {
				t.Error("the mapping stays")
			}
		})
	}
	t.Run("a missing tool does not blame the disk", func(t *testing.T) {
		k := newKernel(t)
		k.tools.path = t.TempDir()
		wantReason(t, k.open(t.Context()), fault.Misconfigured, "tool-missing")
	})
}

// TestFreezeRefusesTheDevice: wrong number, size or name, and a directory that others can read.
func TestFreezeRefusesTheDevice(t *testing.T) {
	l, dev := newLUKS(t), builtDisk(t)
	changed := func(change func(*volume.Device)) volume.Device { d := dev; change(&d); return d }
	for name, c := range map[string]struct {
		dev    volume.Device
		class  fault.Class
		reason string
	}{
		"another number": {changed(func(d *volume.Device) { d.Major, d.Minor = 259, 3 }), fault.Unknown, "device-changed"},
		"another size":   {changed(func(d *volume.Device) { d.Bytes -= 4096 }), fault.Unknown, "device-changed"},
		"a char device":  {volume.Device{Path: "/dev/zero", Major: 1, Minor: 5, Bytes: testBytes}, fault.Unknown, "device-changed"},
		"no device":      {volume.Device{Path: "/dev/nvme99n1", Bytes: testBytes}, fault.Unknown, "device-open"},
		"too small":      {volume.Device{Path: dev.Path, Bytes: headerBytes}, fault.Integrity, "device-size"},
		"odd size":       {volume.Device{Path: dev.Path, Bytes: testBytes - 512}, fault.Integrity, "device-size"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := l.Freeze(t.Context(), c.dev, "orders")
			wantReason(t, err, c.class, c.reason)
		})
	}
	for _, name := range []string{"", "../x", "a/b", "A"} {
		if _, err := l.Freeze(t.Context(), dev, name); err == nil {
			t.Errorf("name %q was accepted", name)
		}
	}
	open := filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(open, 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := New(Options{Dir: open}).Freeze(t.Context(), dev, "orders")
	wantReason(t, err, fault.Unknown, "header-copy")
}

// TestFreezeCopiesWhatOpeningReads: metadata and keyslots' areas to the byte, and
// nothing of what else somebody may have put into the 16 MiB.
func TestFreezeCopiesWhatOpeningReads(t *testing.T) {
	l, dev := newLUKS(t), builtDisk(t)
	disk, err := os.ReadFile(dev.Path)
	if err != nil {
		t.Fatal(err)
	}
	copied, err := os.ReadFile(frozen(t, l, dev).Path)
	if err != nil {
		t.Fatal(err)
	}
	const keyslotEnd = metadataBytes + stripedBytes // of the one that BuildHeader makes
	if len(copied) != headerBytes || !bytes.Equal(copied[:keyslotEnd], disk[:keyslotEnd]) || !isZero(copied[keyslotEnd:]) {
		t.Errorf("the copy of %d bytes is another", len(copied))
	}
}
