// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"
)

// What a killed lab left is removed by the next; a running lab keeps its own.
func TestScratchOfKilledLabs(t *testing.T) {
	parent := t.TempDir()
	running, err := makeScratch(parent)
	if err != nil {
		t.Fatal(err)
	}
	killed, err := makeScratch(parent)
	if err != nil {
		t.Fatal(err)
	}
	if err := killed.lock.Close(); err != nil { // as the end of the process does
		t.Fatal(err)
	}
	starting := filepath.Join(parent, scratchPrefix+"starting")
	if err := os.Mkdir(starting, 0o700); err != nil {
		t.Fatal(err)
	}
	next, err := makeScratch(parent)
	if err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]bool{running.dir: true, killed.dir: false, starting: true, next.dir: true} {
		if _, err := os.Stat(dir); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", filepath.Base(dir), err == nil, want)
		}
	}
	for _, s := range []*scratch{running, next} {
		if err := s.remove(); err != nil {
			t.Error(err)
		}
	}
}
