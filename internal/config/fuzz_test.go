// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/coreos/go-systemd/v22/unit"
	"github.com/rogpeppe/go-internal/txtar"
)

// FuzzDecode protects the agent and the boot from any file: decoding never
// fails but by reporting, problems lie within the file, and what is let through
// is safe to write into a unit.
func FuzzDecode(f *testing.F) {
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, archive := range archives {
		a, err := txtar.ParseFile(archive)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range a.Files {
			f.Add(file.Data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > maxFileBytes {
			data = data[:maxFileBytes]
		}
		g := &document{file: "volseal.yaml"}
		if root, ok := g.parse(data); ok {
			c := defaults()
			c.global(root)
		}
		d := &document{file: "volumes.d/a.yaml"}
		e := d.volume(data)
		within(t, data, g.problems)
		within(t, data, d.problems)
		safe(t, e)
		if len(d.problems) == 0 && (e.spec.Name == "" || e.spec.Mountpoint == "" || e.spec.KeyARN == "" || len(e.spec.Context) < 2 || e.spec.Filesystem == "") {
			t.Errorf("incomplete without a problem: %+v", e.spec)
		}
	})
}

func within(t *testing.T, data []byte, ps Problems) {
	t.Helper()
	// The library counts \r as the end of a line too.
	lines := bytes.Count(data, []byte("\n")) + bytes.Count(data, []byte("\r")) + 2
	for _, p := range ps {
		if p.Line < 0 || p.Line > lines || p.Message == "" {
			t.Errorf("problem outside of %d lines: %+v", lines, p)
		}
	}
}

func safe(t *testing.T, e entry) {
	t.Helper()
	s := e.spec
	for _, text := range append([]string{s.Name, s.Mountpoint, s.DatabaseUnit}, s.MountOptions...) {
		if bytes.ContainsAny([]byte(text), "\x00\n\r\t %\"'$,;#") {
			t.Errorf("%q is not safe in a unit file", text)
		}
	}
	if s.Mountpoint != "" && unit.UnitNamePathUnescape(unit.UnitNamePathEscape(s.Mountpoint)) != s.Mountpoint {
		t.Errorf("%q does not survive the name of a unit", s.Mountpoint)
	}
}
