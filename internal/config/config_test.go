// SPDX-License-Identifier: Apache-2.0

package config

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/volume"
)

// TestLoad protects the meaning of every key.
func TestLoad(t *testing.T) {
	a, err := txtar.ParseFile("testdata/good.txtar")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Load(write(t, a.Files))
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Region:          "us-east-1",
		InstanceID:      "i-0123456789abcdef0",
		MetricsListen:   "127.0.0.1:9797",
		KMS:             KMS{Timeout: 5 * time.Second, ProofMaxAge: 10 * time.Second, ProbeInterval: time.Minute},
		Cache:           Cache{TTL: 5 * time.Minute, MaxVolumesPerDataKey: 16},
		OnRevocation:    volume.DenyNew,
		RevocationGrace: 15 * time.Minute,
		OperatorGroup:   "volseal-operators",
		NVMeModels:      []string{"Amazon Elastic Block Store", "QEMU NVMe Ctrl"},
		Volumes: []volume.Spec{{
			Name:         "orders",
			Database:     "db-7f3a",
			VolumeID:     "vol-0123456789abcdef0",
			KeyARN:       "arn:aws:kms:us-east-1:111111111111:key/aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
			Mountpoint:   "/var/lib/postgresql",
			Filesystem:   "ext4",
			MountOptions: []string{"noatime"},
			Context: envelope.Context{
				"volseal:purpose": "luks2-data-key-v1", "volseal:database": "db-7f3a", "customer": "acme",
			},
			Attach:               true,
			RequireEBSEncryption: true,
			DatabaseUnit:         "postgresql.service",
			UnlockTimeout:        15 * time.Minute,
			OnRevocation:         volume.DenyNew,
			RevocationGrace:      15 * time.Minute,
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestDefaults protects the promise that every key of volseal.yaml is optional,
// the file too, and that the defaults of a volume are the safe ones.
func TestDefaults(t *testing.T) {
	got, err := Load(archive(t, `
-- volumes.d/a.yaml --
name: a
database: a
key_arn: arn:aws:kms:us-east-1:111111111111:key/aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee
mountpoint: /data
`))
	if err != nil {
		t.Fatal(err)
	}
	want := defaults()
	got.Volumes, want.Volumes = nil, nil
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	got, err = Load(archive(t, "-- volumes.d/README --\n"))
	if err != nil || len(got.Volumes) != 0 {
		t.Errorf("no volumes: %v, %v", got, err)
	}
}

// TestPolicyOfAVolume: its own word goes before that of the host.
func TestPolicyOfAVolume(t *testing.T) {
	got, err := Load(archive(t, `
-- volseal.yaml --
on_revocation: lock-graceful
revocation_grace: 1h
-- volumes.d/a.yaml --
name: a
database: a
key_arn: arn:aws:kms:us-east-1:111111111111:key/aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee
mountpoint: /srv/a
-- volumes.d/b.yaml --
name: b
database: b
key_arn: arn:aws:kms:us-east-1:111111111111:key/aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee
mountpoint: /srv/b
on_revocation: lock-freeze
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []volume.Policy{volume.LockGraceful, volume.LockFreeze}
	for i, s := range got.Volumes {
		if s.OnRevocation != want[i] || s.RevocationGrace != time.Hour {
			t.Errorf("%s: %s after %s", s.Name, s.OnRevocation, s.RevocationGrace)
		}
	}
}

// TestProofOutlivesTheRequest protects against a configuration under which no proof could ever be fresh.
func TestProofOutlivesTheRequest(t *testing.T) {
	_, err := Load(archive(t, "-- volseal.yaml --\nkms: {timeout: 10s, proof_max_age: 10s}\n"))
	if err == nil || !strings.Contains(err.Error(), "volseal.yaml:1: kms.timeout: must be shorter than proof_max_age") {
		t.Errorf("error = %v", err)
	}
}

// TestMissingDirectory protects the class of the commonest mistake: a wrong DIR.
func TestMissingDirectory(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "nowhere"))
	if err == nil || !strings.Contains(err.Error(), "nowhere: cannot be read: no such file or directory") {
		t.Errorf("error = %v", err)
	}
}

// TestSalvage protects the databases of a host whose configuration has a
// mistake: what each file still says is enough to keep them from starting on
// an empty directory.
func TestSalvage(t *testing.T) {
	specs, err := Salvage(archive(t, `
-- volseal.yaml --
kms: {
-- volumes.d/a.yaml --
name: a
mountpoint: /data/a
database_unit: a.service
filesystem: btrfs
-- volumes.d/b.yaml --
name: b
	mountpoint: /data/b
database_unit: b.service
mount_options: [noatime, suid]
-- volumes.d/c.yaml --
name: C
mountpoint: "/data/c
  database_unit: c.service
-- volumes.d/d.yaml --
<<<<<<< HEAD
name: d
=======
name: e
>>>>>>> theirs
mountpoint: /data/d
mountpoint: /data/e
`))
	if err == nil {
		t.Fatal("no error")
	}
	type told struct{ Name, Mountpoint, Unit, Options string }
	var got []told
	for _, s := range specs {
		got = append(got, told{s.Name, s.Mountpoint, s.DatabaseUnit, strings.Join(s.MountOptions, ",")})
	}
	want := []told{
		{"a", "/data/a", "a.service", ""},
		{"b", "/data/b", "b.service", "noatime"},
		{"", "", "c.service", ""},
		{"e", "/data/e", "", ""},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestDoubts protects the choice of key and mount point from other users of the host.
func TestDoubts(t *testing.T) {
	for name, c := range map[string]struct {
		uid  uint32
		mode fs.FileMode
		self int
		want int
	}{
		"root's own":            {0, 0o644, 0, 0},
		"one's own":             {1000, 0o600, 1000, 0},
		"another's":             {1000, 0o644, 0, 1},
		"group may write":       {0, 0o664, 0, 1},
		"anybody may write":     {0, 0o646, 0, 1},
		"another's, and anyone": {1000, 0o666, 0, 2},
	} {
		if got := doubts(fake{c.uid, c.mode}, c.self); len(got) != c.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

type fake struct {
	uid  uint32
	mode fs.FileMode
}

func (f fake) Mode() fs.FileMode  { return f.mode }
func (f fake) Sys() any           { return &syscall.Stat_t{Uid: f.uid} }
func (f fake) Name() string       { return "" }
func (f fake) Size() int64        { return 0 }
func (f fake) ModTime() time.Time { return time.Time{} }
func (f fake) IsDir() bool        { return false }

// TestFiles protects against what is not an ordinary, bounded file of root's.
func TestFiles(t *testing.T) {
	dir := archive(t, "-- volumes.d/big.yaml --\nname: a\n-- volumes.d/open.yaml --\n-- elsewhere --\n")
	at := func(name string) string { return filepath.Join(dir, "volumes.d", name) }
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(os.WriteFile(at("big.yaml"), []byte(strings.Repeat("# long\n", maxFileBytes)), 0o600))
	check(os.Chmod(at("open.yaml"), 0o666))
	check(os.Symlink(filepath.Join(dir, "elsewhere"), at("link.yaml")))
	check(os.Symlink(filepath.Join(dir, "nowhere"), at("dangling.yaml")))
	check(syscall.Mkfifo(at("fifo.yaml"), 0o600))
	check(os.Mkdir(at("dir.yaml"), 0o755))
	_, err := Load(dir)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"big.yaml: is longer than 64 KiB",
		"open.yaml: can be written by others (mode 0666)",
		"link.yaml: is a symbolic link",
		"dangling.yaml: is a symbolic link",
		"dangling.yaml: cannot be read: no such file or directory",
		"fifo.yaml: is not a regular file",
		"dir.yaml: is not a regular file",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("not reported: %s", want)
		}
	}
}

// TestProblemsAreBounded protects the log and the generator from a file that is nothing but problems.
func TestProblemsAreBounded(t *testing.T) {
	_, err := Load(archive(t, "-- volseal.yaml --\n"+strings.Repeat("nonsense: 1\n", 1000)))
	if n := strings.Count(err.Error(), "\n") + 1; n != maxProblems+1 || !strings.Contains(err.Error(), "more problems follow") {
		t.Errorf("%d problems", n)
	}
}

// TestSystemDirectories protects the host from a volume over its own directories.
func TestSystemDirectories(t *testing.T) {
	for _, dir := range []string{
		"/", "/usr", "/etc", "/etc/volseal", "/var", "/boot", "/proc", "/sys/fs", "/dev/shm", "/run/x", "/tmp", "/var/lib", "/home",
		"/var/lib/volseal", "/usr/bin", "/usr/lib/systemd", "/var/log/journal",
	} {
		if !systemDirectory(dir) {
			t.Errorf("%s is allowed", dir)
		}
	}
	for _, dir := range []string{
		"/data", "/srv", "/mnt", "/srv/pg", "/var/lib/postgresql", "/var/lib/mysql", "/usr/local/pgsql/data", "/home/db", "/opt/mongodb", "/var/log/db", "/tmpdata", "/runner",
	} {
		if systemDirectory(dir) {
			t.Errorf("%s is refused", dir)
		}
	}
}
