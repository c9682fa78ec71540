// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"bytes"
	"os/exec"
	"testing"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/test/lab/luksedit"
)

// fuzzHeader is the sound header, or a skip where cryptsetup is missing.
func fuzzHeader(f *testing.F) luksedit.Header {
	f.Helper()
	if _, err := exec.LookPath("/usr/sbin/cryptsetup"); err != nil {
		f.Skip("cryptsetup is not installed")
	}
	return builtHeader(f)
}

// judged holds for every input: a verdict, and nothing accepted that policy
// would have to refuse.
func judged(t *testing.T, h luksedit.Header) {
	t.Helper()
	got, err := judge(h)
	if err != nil {
		if err.Class != fault.Integrity || err.Reason == "" || err.Cause == "" || err.Hint == "" {
			t.Errorf("incomplete refusal: %+v", err)
		}
		return
	}
	if len(got.candidates) == 0 || validUUID(got.uuid) != nil {
		t.Fatalf("accepted without a candidate or a UUID: %+v", got)
	}
	for _, c := range got.candidates {
		for _, must := range []string{`"encryption":"aes-xts-plain64","iv_tweak":"0","offset":"16777216","sector_size":4096,"size":"dynamic","type":"crypt"`, `"requirements":[]`, got.uuid} {
			if !bytes.Contains(c.Meaning, []byte(must)) {
				t.Errorf("meaning lacks %s: %s", must, c.Meaning)
			}
		}
	}
}

// FuzzHeaderJSON: whatever the metadata says, with right checksums.
func FuzzHeaderJSON(f *testing.F) {
	sound := fuzzHeader(f)
	f.Add(sound.Text(luksedit.Primary))
	for _, a := range attacks {
		h := luksedit.Header(bytes.Clone(sound))
		if a.attack(h) == nil {
			f.Add(h.Text(luksedit.Primary))
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		h := luksedit.Header(bytes.Clone(sound))
		if h.SetText(luksedit.Primary, raw) != nil || h.SetText(luksedit.Secondary, raw) != nil {
			t.Skip("does not fit")
		}
		judged(t, h)
	})
}

// FuzzBinaryHeader: whatever the binary headers say, with right checksums or as
// they come.
func FuzzBinaryHeader(f *testing.F) {
	sound := fuzzHeader(f)
	f.Add([]byte(sound[:512]), []byte(sound[16384:16896]), true)
	f.Add([]byte(sound[:512]), []byte(sound[16384:16896]), false)
	f.Fuzz(func(t *testing.T, primary, secondary []byte, seal bool) {
		h := luksedit.Header(bytes.Clone(sound))
		copy(h[:4096], primary)
		copy(h[16384:16384+4096], secondary)
		if seal {
			h.Seal(luksedit.Primary)
			h.Seal(luksedit.Secondary)
		}
		judged(t, h)
	})
}
