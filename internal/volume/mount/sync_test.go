// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/volseal/volseal/internal/volume"
)

// TestUpToDate protects against mounting by the units of yesterday, and a
// database from being held back by a volume that is no longer configured.
func TestUpToDate(t *testing.T) {
	dir := t.TempDir()
	both := []volume.Spec{orders(), wal()}
	if err := Generate(both, dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "theirs.mount"), []byte("[Unit]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	edited := wal()
	edited.UnlockTimeout = time.Hour
	for name, c := range map[string]struct {
		specs []volume.Spec
		dir   string
		want  bool
	}{
		"as written":                {both, dir, true},
		"edited":                    {[]volume.Spec{orders(), edited}, dir, false},
		"removed":                   {[]volume.Spec{orders()}, dir, false},
		"all removed":               {nil, dir, false},
		"added":                     {[]volume.Spec{orders(), wal(), {Name: "c", Mountpoint: "/c"}}, dir, false},
		"nothing, and no directory": {nil, filepath.Join(dir, "nowhere"), true},
	} {
		if got := upToDate(c.specs, c.dir); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
