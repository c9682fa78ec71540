// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"os"
	"path/filepath"
	"testing"
)

// fakeTools makes a directory of shell scripts by the tools' names, to be used
// as Options.Path: what is really executed, with which arguments, environment
// and standard input, is what a test then sees.
func fakeTools(t testing.TB, scripts map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, body := range scripts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+body+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
