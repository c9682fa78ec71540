// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"bytes"
	"errors"
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"pgregory.net/rapid"

	"github.com/volseal/volseal/internal/config"
	"github.com/volseal/volseal/internal/volume"
)

var update = flag.Bool("update", false, "rewrite what the golden files expect")

func orders() volume.Spec {
	return volume.Spec{
		Name: "orders", Mountpoint: "/var/lib/postgresql", Filesystem: "ext4", MountOptions: []string{"noatime"},
		DatabaseUnit: "postgresql@15-main.service", UnlockTimeout: 15 * time.Minute,
	}
}

func wal() volume.Spec {
	return volume.Spec{
		Name: "orders-wal", Mountpoint: "/srv/pg-wal", Filesystem: "xfs",
		DatabaseUnit: "postgresql@15-main.service", UnlockTimeout: 1500 * time.Millisecond,
	}
}

// TestGenerate protects every line of the units: each is there for a reason that units.go gives.
func TestGenerate(t *testing.T) {
	dir := t.TempDir()
	alone := volume.Spec{Name: "cache", Mountpoint: "/data", Filesystem: "xfs", UnlockTimeout: time.Minute}
	if err := Generate([]volume.Spec{orders(), wal(), alone}, dir); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/units.txtar", dir)
}

// TestGenerateRefuses protects the database whose volume the configuration got
// wrong: it must not start on the empty directory beneath, nor on another's volume.
func TestGenerateRefuses(t *testing.T) {
	dir := t.TempDir()
	if err := Generate([]volume.Spec{
		{Name: "nowhere", DatabaseUnit: "nowhere.service"},
		{Mountpoint: "/data/nameless", DatabaseUnit: "nameless.service"},
		{Name: "twice", Mountpoint: "/data/a", DatabaseUnit: "a.service"},
		{Name: "twice", Mountpoint: "/data/b", DatabaseUnit: "b.service"},
		{Name: "c", Mountpoint: "/data/c", DatabaseUnit: "c.service"},
		{Name: "d", Mountpoint: "/data/c", DatabaseUnit: "d.service"},
		{},
	}, dir); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/refusals.txtar", dir)
}

func golden(t *testing.T, file, dir string) {
	t.Helper()
	got := txtar.Format(&txtar.Archive{Files: tree(t, dir)})
	if *update {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func tree(t *testing.T, dir string) (files []txtar.File) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		files = append(files, txtar.File{Name: strings.TrimPrefix(path, dir+"/"), Data: data})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestGeneratorFailsClosed protects databases over the whole way, from a bad
// file to the drop-in: every database named anywhere is held back.
func TestGeneratorFailsClosed(t *testing.T) {
	etc, units := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{
		"volseal.yaml":          "kms: {timeout: never}\n",
		"volumes.d/good.yaml":   "name: good\ndatabase: g\nmountpoint: /data/good\ndatabase_unit: good.service\nkey_arn: arn:aws:kms:us-east-1:111111111111:key/aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee\n",
		"volumes.d/typo.yaml":   "name: typo\nmuontpoint: /data/typo\ndatabase_unit: typo.service\n",
		"volumes.d/syntax.yaml": "name: [syntax\nmountpoint: /data/syntax\n\tdatabase_unit: syntax.service\n",
	} {
		path := filepath.Join(etc, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var log bytes.Buffer
	RunGenerator([]string{units, units, units}, func() ([]volume.Spec, error) { return config.Salvage(etc) }, filepath.Join(etc, "none"), &log)

	for file, want := range map[string]string{
		"good.service.d/50-volseal.conf":   "AssertPathIsMountPoint=/data/good\n",
		"typo.service.d/50-volseal.conf":   "AssertPathExists=!/\n",
		"syntax.service.d/50-volseal.conf": "AssertPathIsMountPoint=/data/syntax\n",
		"data-good.mount":                  "What=/dev/mapper/volseal-good\n",
		"data-syntax.mount":                "AssertPathExists=!/\n",
	} {
		data, err := os.ReadFile(filepath.Join(units, file))
		if err != nil || !strings.Contains(string(data), want) {
			t.Errorf("%s: no %q (%v)", file, want, err)
		}
	}
	first, _, _ := strings.Cut(log.String(), "\n")
	if !strings.HasPrefix(first, "<3>volseal-generator[") || !strings.Contains(first, "volseal config check") {
		t.Errorf("kernel log begins %q", first)
	}
	if n := strings.Count(log.String(), "\n"); n > maxReported+1 {
		t.Errorf("%d lines for the kernel log", n)
	}
}

// TestGeneratorSurvives protects the boot: whatever is wrong, the generator
// says so and goes on.
func TestGeneratorSurvives(t *testing.T) {
	load := func() ([]volume.Spec, error) { return []volume.Spec{orders()}, errors.New("no configuration") }
	var log bytes.Buffer
	last := filepath.Join(t.TempDir(), "units.json")
	if err := os.WriteFile(last, []byte("[{"), 0o600); err != nil {
		t.Fatal(err)
	}
	RunGenerator(nil, load, last, &log)
	RunGenerator([]string{filepath.Join(t.TempDir(), "missing", "\x00")}, load, last, &log)
	for _, want := range []string{"run by systemd", "no configuration", "make unit directory", "recall units"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("not logged: %s", want)
		}
	}
}

// TestGenerateNeverReplaces protects another generator's unit, that of
// /etc/fstab above all: which of the two is right is not ours to say.
func TestGenerateNeverReplaces(t *testing.T) {
	dir := t.TempDir()
	theirs := filepath.Join(dir, UnitName(orders().Mountpoint))
	if err := os.WriteFile(theirs, []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := Generate([]volume.Spec{orders(), wal()}, dir)
	if !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "/etc/fstab") {
		t.Errorf("error = %v", err)
	}
	if data, _ := os.ReadFile(theirs); string(data) != "theirs" {
		t.Error("it was replaced")
	}
	if _, err := os.Stat(filepath.Join(dir, UnitName(wal().Mountpoint))); err != nil {
		t.Error("the other volume's unit is missing")
	}
}

// TestEscape protects the names of units: they must be those that systemd computes.
func TestEscape(t *testing.T) {
	escape := need(t, "systemd-escape")
	paths := []string{"/var/lib/postgresql", "/data", "/srv/pg-wal", "/a/.b", "/.hidden/x", "/a.b_c:d", "/x@y/+z"}
	for range 30 {
		paths = append(paths, rapid.StringMatching(`(/[a-zA-Z0-9_.:@+-]{0,5}[a-z]){1,4}`).Example())
	}
	out, err := exec.CommandContext(t.Context(), escape, append([]string{"--path", "--suffix=mount", "--"}, paths...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range strings.Fields(string(out)) {
		if got := UnitName(paths[i]); got != want {
			t.Errorf("%s: %s, systemd says %s", paths[i], got, want)
		}
	}
}

// TestVerify protects against a unit that systemd would ignore in part: it
// complains of nothing in what is generated.
func TestVerify(t *testing.T) {
	analyze := need(t, "systemd-analyze")
	dir := t.TempDir()
	database := filepath.Join(dir, "postgresql@15-main.service")
	units := map[string]string{database: "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"}
	// The real ones: an ordering cycle would show between them and the mounts.
	for _, name := range []string{"volseal.service", "volseal.socket"} {
		text, err := os.ReadFile(filepath.Join("../../../packaging/systemd", name))
		if err != nil {
			t.Fatal(err)
		}
		units[filepath.Join(dir, name)] = strings.ReplaceAll(string(text), "/usr/bin/volseal", "/bin/true")
	}
	for path, text := range units {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	specs := []volume.Spec{orders(), wal(), {Mountpoint: "/data/nameless"}}
	if err := Generate(specs, dir); err != nil {
		t.Fatal(err)
	}
	args := []string{"verify", "--man=no", "--recursive-errors=yes", "--generators=no", database}
	for _, s := range specs {
		args = append(args, filepath.Join(dir, UnitName(s.Mountpoint)))
	}
	cmd := exec.CommandContext(t.Context(), analyze, args...)
	cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

func need(t *testing.T, tool string) string {
	t.Helper()
	path, err := exec.LookPath(tool)
	if err != nil {
		t.Skipf("%s is not installed", tool)
	}
	return path
}
