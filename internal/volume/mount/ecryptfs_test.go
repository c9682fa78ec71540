// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/volseal/volseal/internal/volume"
)

const pgVolume = "50 23 254:3 / /var/lib/postgresql rw shared:9 - ext4 /dev/mapper/volseal-orders rw\n"

// TestFindEcryptfs: the platform's layer is seen wherever it lies on the volume,
// is no reason to take the volume for covered, and is not seen where it is not.
func TestFindEcryptfs(t *testing.T) {
	ours := volume.Mapping{Present: true, Major: 254, Minor: 3}
	mounted := func(list ...volume.Ecryptfs) volume.MountFact {
		return volume.MountFact{Mounted: true, Filesystem: "ext4", Ecryptfs: list}
	}
	const root = "/var/lib/postgresql"
	for name, c := range map[string]struct {
		mounts string
		want   volume.MountFact
	}{
		"none": {pgVolume, mounted()},
		"over a directory of it": {
			pgVolume + "60 50 0:50 / /var/lib/postgresql/15 rw shared:30 - ecryptfs /var/lib/postgresql/15 rw,ecryptfs_sig=0123\n",
			mounted(volume.Ecryptfs{Path: root + "/15", Lower: root + "/15"}),
		},
		"mounted elsewhere": {
			pgVolume + "60 1 0:50 / /srv/pg rw - ecryptfs /var/lib/postgresql/lower rw\n",
			mounted(volume.Ecryptfs{Path: "/srv/pg", Lower: root + "/lower"}),
		},
		"of another directory, mounted in it": {
			pgVolume + "60 50 0:50 / /var/lib/postgresql/a rw - ecryptfs /home/a rw\n",
			mounted(volume.Ecryptfs{Path: root + "/a", Lower: "/home/a"}),
		},
		"named by a relative path": {
			pgVolume + "60 50 0:50 / /var/lib/postgresql/a rw - ecryptfs a rw\n",
			mounted(volume.Ecryptfs{Path: root + "/a", Lower: "a"}),
		},
		"over the whole of it": {
			pgVolume + "60 50 0:50 / /var/lib/postgresql rw - ecryptfs /var/lib/postgresql rw\n",
			mounted(volume.Ecryptfs{Path: root, Lower: root}),
		},
		"over the whole of it, twice, listed first": {
			"61 60 0:51 / /var/lib/postgresql rw - ecryptfs /var/lib/postgresql rw\n60 50 0:50 / /var/lib/postgresql rw - ecryptfs /var/lib/postgresql/lower rw\n" + pgVolume,
			mounted(volume.Ecryptfs{Path: root, Lower: root}, volume.Ecryptfs{Path: root, Lower: root + "/lower"}),
		},
		"over it, but of something else": {
			pgVolume + "60 50 0:50 / /var/lib/postgresql rw - ecryptfs /home/a rw\n",
			volume.MountFact{Others: []string{root}, Occupied: true},
		},
		"over a tmpfs that covers it": {
			pgVolume + "60 50 0:40 / /var/lib/postgresql rw - tmpfs tmpfs rw\n61 60 0:50 / /var/lib/postgresql rw - ecryptfs /var/lib/postgresql rw\n",
			volume.MountFact{Others: []string{root}, Occupied: true},
		},
		"beneath it": {
			"40 23 0:50 / /var/lib/postgresql rw - ecryptfs /home/a rw\n" + strings.Replace(pgVolume, "50 23", "50 40", 1), mounted(),
		},
		"on the bare mount point": {
			"60 23 0:50 / /var/lib/postgresql rw - ecryptfs /var/lib/postgresql rw\n", volume.MountFact{Occupied: true},
		},
		"beside it": {
			pgVolume + "60 23 0:50 / /var/lib/postgresql2 rw - ecryptfs /var/lib/postgresql2 rw\n", mounted(),
		},
		"another file system in it": {
			pgVolume + "60 50 0:50 / /var/lib/postgresql/a rw - tmpfs /var/lib/postgresql/a rw\n", mounted(),
		},
		"escapes": {
			pgVolume + `60 50 0:50 / /var/lib/postgresql/a\040b\011c\134d rw - ecryptfs /var/lib/postgresql/a\040b rw` + "\n",
			mounted(volume.Ecryptfs{Path: root + `/a b\011c\134d`, Lower: root + "/a b"}),
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := New(Options{Table: table(t, host+c.mounts)}).Find(t.Context(), ours, root)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestEcryptfsIsBounded: nobody makes status long by mounting much, or by a name.
func TestEcryptfsIsBounded(t *testing.T) {
	var b strings.Builder
	for i := range 100 {
		fmt.Fprintf(&b, "%d 50 0:%d / /var/lib/postgresql/%d%s rw - ecryptfs x rw\n", 100+i, 100+i, i, strings.Repeat("\x1b", 3000))
	}
	got, err := New(Options{Table: table(t, host+pgVolume+b.String())}).Find(t.Context(), volume.Mapping{Present: true, Major: 254, Minor: 3}, "/var/lib/postgresql")
	if err != nil || !got.Mounted || len(got.Ecryptfs) != maxEcryptfs {
		t.Fatalf("%d, %v", len(got.Ecryptfs), err)
	}
	if n := len(got.Ecryptfs[0].Path); n > 4*maxShown+len("…") {
		t.Errorf("a path of %d bytes", n)
	}
}

// TestPrintable: no name of a directory moves an operator's cursor.
func TestPrintable(t *testing.T) {
	for path, want := range map[string]string{
		"/srv/Größe 1":                  "/srv/Größe 1",
		"/a\x1b[2Jb\n":                  `/a\033[2Jb\012`,
		"/a\xff\\":                      `/a\377\134`,
		"/a\u202eb\ufffd":               `/a\342\200\256b\357\277\275`,
		strings.Repeat("a", maxShown+1): strings.Repeat("a", maxShown) + "…",
	} {
		if got := printable(path); got != want {
			t.Errorf("%q: got %s, want %s", path, got, want)
		}
	}
}
