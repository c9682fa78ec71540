// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The newest package is the one under test; without any, the error says which
// target makes it.
func TestNewestPackage(t *testing.T) {
	dist := t.TempDir()
	if _, err := newestPackage(dist); err == nil || !strings.Contains(err.Error(), "make package") {
		t.Errorf("error %v", err)
	}
	for i, name := range []string{"new.deb", "old.deb"} {
		path := filepath.Join(dist, name)
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-time.Duration(i) * time.Hour)
		if err := os.Chtimes(path, then, then); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := newestPackage(dist); err != nil || filepath.Base(got) != "new.deb" {
		t.Errorf("package %s, %v", got, err)
	}
}

func TestParseRun(t *testing.T) {
	o, err := parseRun([]string{"--keep", "--no-package", "--kernel=generic", "--cpus=1", "--timeout=3m", "a.sh", "b.sh"})
	if err != nil || !o.keep || !o.noPackage || o.timeout != 3*time.Minute || !slices.Equal(o.files, []string{"a.sh", "b.sh"}) {
		t.Errorf("options %+v, %v", o, err)
	}
	for _, args := range [][]string{{}, {"--bogus", "a.sh"}, {"--timeout=soon", "a.sh"}, {"--cpus=0", "a.sh"}} {
		if _, err := parseRun(args); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
	// The supervisor is started with what it understands.
	again, err := parseRun(o.forSupervisor()[1:])
	if err != nil || !again.noPackage || again.kernel != "generic" || again.cpus != 1 {
		t.Errorf("supervisor's options %+v, %v", again, err)
	}
}

func TestShellCommand(t *testing.T) {
	tests := map[string]struct {
		words, want []string
		stdin       string
	}{
		"one word is for a shell":   {words: []string{"a | b"}, want: []string{"bash", "-c", "a | b"}},
		"several are run as is":     {words: []string{"ls", "a b"}, want: []string{"ls", "a b"}},
		"a dash reads the script":   {words: []string{"-"}, want: []string{"bash", "-s"}, stdin: "true"},
		"an option is not a script": {words: []string{"ls", "-"}, want: []string{"ls", "-"}},
	}
	for name, test := range tests {
		cmd, err := shellCommand(test.words, strings.NewReader("true"))
		if err != nil || !slices.Equal(cmd.Argv, test.want) || string(cmd.Stdin) != test.stdin {
			t.Errorf("%s: %+v, %v", name, cmd, err)
		}
	}
	if _, err := shellCommand(nil, nil); err == nil {
		t.Error("nothing was accepted for a command")
	}
}
