// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// host is the start of every table: a root, /proc, and a /var of its own.
const host = `1 0 259:1 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p1 rw
22 1 0:21 / /proc rw,nosuid shared:2 - proc proc rw
23 1 259:2 / /var rw,relatime shared:3 - ext4 /dev/nvme0n1p2 rw
`

// TestFind protects the answer to "is it mounted where it belongs?" against
// everything that merely looks like it.
func TestFind(t *testing.T) {
	ours := volume.Mapping{Present: true, Major: 254, Minor: 3}
	for name, c := range map[string]struct {
		mapping volume.Mapping
		mounts  string
		want    volume.MountFact
	}{
		"nothing": {ours, ``, volume.MountFact{}},
		"mounted": {
			ours, `50 23 254:3 / /var/lib/postgresql rw,nosuid shared:9 - ext4 /dev/mapper/volseal-orders rw`,
			volume.MountFact{Mounted: true, Filesystem: "ext4"},
		},
		"read-only mount": {
			ours, `50 23 254:3 / /var/lib/postgresql ro,nosuid shared:9 - ext4 /dev/mapper/volseal-orders rw`,
			volume.MountFact{Mounted: true, Filesystem: "ext4", ReadOnly: true},
		},
		"read-only after an error": {
			ours, `50 23 254:3 / /var/lib/postgresql rw,nosuid shared:9 - ext4 /dev/mapper/volseal-orders ro,errors=remount-ro`,
			volume.MountFact{Mounted: true, Filesystem: "ext4", ReadOnly: true},
		},
		"another device by our name": {
			ours, `50 23 254:7 / /var/lib/postgresql rw shared:9 - ext4 /dev/mapper/volseal-orders rw`,
			volume.MountFact{Occupied: true},
		},
		"mapping absent, number zero": {
			volume.Mapping{},
			`50 23 0:0 / /var/lib/postgresql rw shared:9 - tmpfs tmpfs rw`,
			volume.MountFact{Occupied: true},
		},
		"elsewhere": {
			ours, `50 23 254:3 / /mnt rw shared:9 - ext4 /dev/mapper/volseal-orders rw`,
			volume.MountFact{Others: []string{"/mnt"}},
		},
		"here and elsewhere": {
			ours, `50 23 254:3 / /var/lib/postgresql rw shared:9 - ext4 /dev/dm-3 rw
51 1 254:3 /base /srv/copy rw shared:9 - ext4 /dev/dm-3 rw`,
			volume.MountFact{Mounted: true, Filesystem: "ext4", Others: []string{"/srv/copy"}},
		},
		"only a directory of it": {
			ours, `50 23 254:3 /base /var/lib/postgresql rw shared:9 - ext4 /dev/dm-3 rw`,
			volume.MountFact{Others: []string{"/var/lib/postgresql"}, Occupied: true},
		},
		"covered by another": {
			ours, `50 23 254:3 / /var/lib/postgresql rw shared:9 - ext4 /dev/dm-3 rw
51 50 0:40 / /var/lib/postgresql rw - tmpfs tmpfs rw`,
			volume.MountFact{Others: []string{"/var/lib/postgresql"}, Occupied: true},
		},
		"on top of another, listed first": {
			ours, `51 50 254:3 / /var/lib/postgresql rw shared:9 - ext4 /dev/dm-3 rw
50 23 0:40 / /var/lib/postgresql rw - tmpfs tmpfs rw`,
			volume.MountFact{Mounted: true, Filesystem: "ext4"},
		},
		"beneath a mount on a parent directory": {
			ours, `50 23 254:3 / /var/lib/postgresql rw shared:9 - ext4 /dev/dm-3 rw
51 23 0:40 / /var/lib rw - tmpfs tmpfs rw`,
			volume.MountFact{Others: []string{"/var/lib/postgresql"}},
		},
		"beneath a mount on the root": {
			ours, `50 23 254:3 / /var/lib/postgresql rw shared:9 - ext4 /dev/dm-3 rw
51 1 0:40 / / rw - tmpfs tmpfs rw`,
			volume.MountFact{Others: []string{"/var/lib/postgresql"}},
		},
		"a path that begins alike": {
			ours, `50 23 254:3 / /var/lib/postgresql2 rw shared:9 - ext4 /dev/dm-3 rw`,
			volume.MountFact{Others: []string{"/var/lib/postgresql2"}},
		},
		"twice": {
			ours, `50 23 254:3 / /var/lib/postgresql rw shared:9 - ext4 /dev/dm-3 rw
51 50 254:3 / /var/lib/postgresql rw shared:9 - ext4 /dev/dm-3 rw`,
			volume.MountFact{Mounted: true, Filesystem: "ext4", Others: []string{"/var/lib/postgresql"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := New(Options{Table: table(t, host+strings.TrimLeft(c.mounts+"\n", "\n"))})
			got, err := m.Find(t.Context(), c.mapping, "/var/lib/postgresql")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestFindFailsClosed protects against reading "nothing is mounted" out of a
// table that is not one.
func TestFindFailsClosed(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "rootless": "50 23 254:3 / /data rw - ext4 /dev/dm-3 rw\n", "torn": host + "50 23 254:3 /\n",
	} {
		m := New(Options{Table: table(t, text)})
		if _, err := m.Find(t.Context(), volume.Mapping{}, "/data"); fault.ClassOf(err) != fault.Unknown {
			t.Errorf("%s: error = %v", name, err)
		}
	}
	if _, err := New(Options{Table: "/nowhere"}).Find(t.Context(), volume.Mapping{}, "/data"); fault.ReasonOf(err) != "mount-table" {
		t.Errorf("missing: error = %v", err)
	}
}

// TestFindHere reads this machine's own table: the parser must manage a real one.
func TestFindHere(t *testing.T) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || !strings.Contains(string(data), " /proc ") {
		t.Skip("no /proc of its own")
	}
	m := New(Options{Table: "/proc/self/mountinfo"})
	got, err := m.Find(t.Context(), volume.Mapping{}, "/proc")
	if err != nil || !got.Occupied || got.Mounted {
		t.Errorf("%+v, %v", got, err)
	}
}

func table(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mountinfo")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
