// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"flag"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/volseal/volseal/test/lab/luksedit"
)

var makeFixture = flag.Bool("make-fixture", false, "write testdata/v1.* anew from a fresh header; only for a format never released")

const (
	fixtureHeader  = "testdata/v1.header"
	fixtureMeaning = "testdata/v1.meaning"
)

// TestFormat1 protects every volume out there: a header made by the first
// version is accepted, means the same to the byte, and its MAC (key: 32 bytes of
// 2) holds. If this fails, volumes do not open after the upgrade.
func TestFormat1(t *testing.T) {
	if *makeFixture {
		writeFixture(t)
	}
	raw, err := os.ReadFile(fixtureHeader)
	if err != nil {
		t.Fatal(err)
	}
	h, refused := judge(raw)
	if refused != nil {
		t.Fatal(detail(refused))
	}
	want, err := os.ReadFile(fixtureMeaning)
	if err != nil {
		t.Fatal(err)
	}
	if len(h.candidates) != 1 {
		t.Fatalf("%d candidates", len(h.candidates))
	}
	c := h.candidates[0]
	if diff := cmp.Diff(string(want), string(c.Meaning)); diff != "" {
		t.Error(diff)
	}
	if err := c.Token.Verify(secretOf(t, 2), c.Meaning); err != nil {
		t.Error(detail(err))
	}
}

func writeFixture(t *testing.T) {
	t.Helper()
	h := builtHeader(t)
	c, refused := judge(h)
	if refused != nil {
		t.Fatal(detail(refused))
	}
	for path, data := range map[string][]byte{fixtureHeader: h[:luksedit.Bytes], fixtureMeaning: c.candidates[0].Meaning} {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
