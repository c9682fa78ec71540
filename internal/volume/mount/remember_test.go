// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/volseal/volseal/internal/config"
	"github.com/volseal/volseal/internal/volume"
)

// units runs the generator on these files of the configuration.
func units(t *testing.T, files map[string]string, last string) map[string]string {
	t.Helper()
	etc, dir := t.TempDir(), t.TempDir()
	if err := os.Mkdir(filepath.Join(etc, "volumes.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		path := filepath.Join(etc, "volumes.d", name)
		target, isLink := strings.CutPrefix(text, "->")
		var err error
		if isLink {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	RunGenerator([]string{dir}, func() ([]volume.Spec, error) { return config.Salvage(etc) }, last, new(bytes.Buffer))
	found := map[string]string{}
	for _, f := range tree(t, dir) {
		found[f.Name] = string(f.Data)
	}
	return found
}

// TestLastSoundConfigurationStays protects a database whose file cannot be read
// at all: nothing there tells that it exists, and it must not start on the empty
// directory beneath its mount point.
func TestLastSoundConfigurationStays(t *testing.T) {
	last := filepath.Join(t.TempDir(), "units.json")
	for range 2 {
		if err := remember(last, []volume.Spec{orders(), wal()}); err != nil {
			t.Fatal(err)
		}
	}
	sound := unitFiles([]volume.Spec{orders(), wal()})
	for name, file := range map[string]string{
		"dangling link": "->/nonexistent",
		"irregular":     "->/dev/zero",
		"flow style":    "{name: orders, mountpoint: /var/lib/postgresql, database_unit: postgresql@15-main.service,",
		"empty":         "",
	} {
		if diff := cmp.Diff(sound, units(t, map[string]string{"orders.yaml": file}, last)); diff != "" {
			t.Errorf("%s: (-want +got):\n%s", name, diff)
		}
	}
}

// TestSalvagedJoinsLastSound: what a file says anew holds databases back too,
// but is never a second place to mount a volume that the agent mounts elsewhere.
func TestSalvagedJoinsLastSound(t *testing.T) {
	last := filepath.Join(t.TempDir(), "units.json")
	if err := remember(last, []volume.Spec{orders()}); err != nil {
		t.Fatal(err)
	}
	got := units(t, map[string]string{
		"broken.yaml": "->/nonexistent",
		"moved.yaml":  "name: orders\nmountpoint: /data/moved\ndatabase_unit: postgresql@15-main.service\n",
		"new.yaml":    "name: new\nmountpoint: /data/new\ndatabase_unit: new.service\n",
	}, last)
	want := unitFiles([]volume.Spec{orders()})
	maps.Copy(want, unitFiles([]volume.Spec{{Name: "new", Mountpoint: "/data/new", DatabaseUnit: "new.service", Filesystem: "ext4", UnlockTimeout: orders().UnlockTimeout}}))
	want["data-moved.mount"] = refusal("/data/moved")
	want["postgresql@15-main.service.d/50-volseal.conf"] = databaseDropIn([]string{"/data/moved", "/var/lib/postgresql"})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestSoundConfigurationForgets: a volume that was removed on purpose no longer
// holds back anything.
func TestSoundConfigurationForgets(t *testing.T) {
	last := filepath.Join(t.TempDir(), "units.json")
	if err := remember(last, []volume.Spec{orders()}); err != nil {
		t.Fatal(err)
	}
	if got := units(t, nil, last); len(got) != 0 {
		t.Errorf("units: %v", got)
	}
	if info, err := os.Stat(last); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(last), ".*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
