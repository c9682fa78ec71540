// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "rewrite what the golden files expect")

// TestProblems protects what an operator sees: each archive in testdata is a
// configuration, and its last file is the report on it, to the letter.
func TestProblems(t *testing.T) {
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no archives: %v", err)
	}
	for _, archive := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(archive), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(archive)
			if err != nil {
				t.Fatal(err)
			}
			last := len(a.Files) - 1
			dir := write(t, a.Files[:last])
			_, err = Load(dir)
			got := report(t, dir, err)
			if *update {
				a.Files[last].Data = []byte(got)
				if err := os.WriteFile(archive, txtar.Format(a), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(a.Files[last].Data), got); diff != "" {
				t.Errorf("the report changed (-want +got):\n%s", diff)
			}
		})
	}
}

func report(t *testing.T, dir string, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	var ps Problems
	if !errors.As(err, &ps) {
		t.Fatalf("error is a %T, not Problems: %v", err, err)
	}
	var b bytes.Buffer
	ps.Print(&b)
	return strings.ReplaceAll(b.String(), dir+"/", "")
}

// write makes a configuration directory. Only the modes that the checks look at matter.
func write(t *testing.T, files []txtar.File) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		path := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func archive(t *testing.T, text string) string {
	t.Helper()
	return write(t, txtar.Parse([]byte(text)).Files)
}
