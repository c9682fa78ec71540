// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"encoding/binary"
	"strings"
	"testing"
)

// answer is what the kernel puts into the buffer for one target.
func answer(kind, parameters string) []byte {
	b := make([]byte, dmBuffer)
	binary.NativeEndian.PutUint32(b[dmDataStart:], dmHeader)
	binary.NativeEndian.PutUint32(b[dmTargetCount:], 1)
	target := b[dmHeader:]
	binary.NativeEndian.PutUint64(target, 0)
	binary.NativeEndian.PutUint64(target[targetLength:], 2064384)
	copy(target[targetType:], kind)
	copy(target[targetHeader:], parameters)
	return b
}

// TestTableText: the kernel's answer reads as dmsetup prints it, but for keys.
func TestTableText(t *testing.T) {
	hexadecimal, wiped := strings.Repeat("c0ffee42", 16), strings.Repeat("0", 2*keyBytes)
	for name, c := range map[string]struct {
		answer []byte
		want   string
	}{
		"keyring":      {answer("crypt", cipher+" :64:logon:x 0 259:3 32768"), "0 2064384 crypt " + cipher + " :64:logon:x 0 259:3 32768\n"},
		"key":          {answer("crypt", cipher+" "+hexadecimal+" 0 259:3 32768"), "0 2064384 crypt " + cipher + " (key) 0 259:3 32768\n"},
		"wiped key":    {answer("crypt", cipher+" "+wiped+" 0 259:3 32768"), "0 2064384 crypt " + cipher + " " + wiped + " 0 259:3 32768\n"},
		"other target": {answer("zoned", hexadecimal), "0 2064384 zoned \n"},
		"one word":     {answer("crypt", hexadecimal), "0 2064384 crypt \n"},
	} {
		got, err := tableText(c.answer)
		if err != nil || got != c.want {
			t.Errorf("%s: got %q, %v; want %q", name, got, err, c.want)
		}
	}
}

// TestTableTextDoubts: an answer that makes no sense is no table.
func TestTableTextDoubts(t *testing.T) {
	edited := func(off int, v uint32) []byte {
		b := answer("crypt", cipher+" :64:logon:x 0 259:3 32768")
		binary.NativeEndian.PutUint32(b[off:], v)
		return b
	}
	for name, b := range map[string][]byte{
		"too long":     edited(dmFlags, dmBufferFull),
		"no target":    edited(dmTargetCount, 0),
		"many targets": edited(dmTargetCount, maxTargets+1),
		"a second target": func() []byte { // beyond the end
			b := edited(dmTargetCount, 2)
			binary.NativeEndian.PutUint32(b[dmHeader+targetNext:], dmBuffer)
			return b
		}(),
		"begins too soon": edited(dmDataStart, dmHeader-1),
		"begins too late": edited(dmDataStart, dmBuffer-targetHeader+1),
		"begins nowhere":  edited(dmDataStart, 1<<32-1),
		"no end":          answer("crypt", strings.Repeat("x", dmBuffer)),
	} {
		if got, err := tableText(b); err == nil {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestLiveTableAsksForOursOnly: and it fails where there is no device-mapper.
func TestLiveTableAsksForOursOnly(t *testing.T) {
	l := New(Options{Dev: t.TempDir()})
	for _, name := range []string{"vg-root", pending} {
		if got, err := l.liveTable(name); err == nil {
			t.Errorf("%s: %q", name, got)
		}
	}
}
