// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func testRecipe() recipe {
	return recipe{suite: "bookworm", size: 1 << 30, format: "1", kernel: CloudKernel, files: fstest.MapFS{
		"packages":         {Data: []byte("# tools\nsystemd\n\njq # json\n")},
		"packages.generic": {Data: []byte("ecryptfs-utils\n")},
		"rootfs/etc/host":  {Data: []byte("x\n")},
	}}
}

// Whatever changes the guest changes the key; nothing else does.
func TestKeyFollowsTheRecipe(t *testing.T) {
	key := func(change func(*recipe)) string {
		r := testRecipe()
		change(&r)
		k, err := r.key()
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	base := key(func(*recipe) {})
	if again := key(func(*recipe) {}); again != base {
		t.Errorf("the same recipe has keys %s and %s", base, again)
	}
	changes := map[string]func(*recipe){
		"suite":   func(r *recipe) { r.suite = "trixie" },
		"size":    func(r *recipe) { r.size++ },
		"format":  func(r *recipe) { r.format = "2" },
		"kernel":  func(r *recipe) { r.kernel = GenericKernel },
		"package": func(r *recipe) { r.files.(fstest.MapFS)["packages"].Data = []byte("systemd\n") },
		"file":    func(r *recipe) { r.files.(fstest.MapFS)["rootfs/etc/host"].Data = []byte("y\n") },
		"moved": func(r *recipe) {
			files := r.files.(fstest.MapFS)
			files["rootfs/etc/hosts"] = files["rootfs/etc/host"]
			delete(files, "rootfs/etc/host")
		},
	}
	for name, change := range changes {
		if key(change) == base {
			t.Errorf("%s: the key did not change", name)
		}
	}
}

func TestPackages(t *testing.T) {
	for kernel, want := range map[Kernel][]string{
		CloudKernel: {"systemd", "jq"}, GenericKernel: {"systemd", "jq", "ecryptfs-utils"},
	} {
		r := testRecipe()
		r.kernel = kernel
		if got, err := r.packages(); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: packages %q, %v", kernel, got, err)
		}
	}
}

// The real recipe unpacks, with all that its hooks name.
func TestGuestRecipeIsComplete(t *testing.T) {
	if _, err := guestRecipe("hurd"); err == nil {
		t.Error("a kernel that is none of ours was accepted")
	}
	r, err := guestRecipe(GenericKernel)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := r.unpack(dir); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{
		"packages", "packages.generic", "dpkg.cfg", "essential.sh", "customize.sh", "initrd.sh", "rootfs/etc/labctl", "rootfs/etc/default/volseal",
		"rootfs/etc/systemd/system/lab-guest.service", "rootfs/etc/systemd/system/lab-network.service",
	} {
		if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
			t.Error(err)
		}
	}
}

// Only Debian's own sources of the suite make the guest, in either syntax.
func TestAptSources(t *testing.T) {
	etc, out := t.TempDir(), t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(etc, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("sources.list", "# old\ndeb [arch=amd64 signed-by=/k] mirror:/debian bookworm main contrib\n"+
		"deb-src mirror:/debian bookworm main\ndeb mirror:/x bookworm-pgdg main\ndeb mirror:/docker bookworm stable\n")
	write("sources.list.d/debian.sources", "Types: deb\n# a comment\nURIs: mirror:/debian\nSuites: bookworm bookworm-updates\nComponents: main\n\n"+
		"Types: deb\nURIs: mirror:/other\nSuites: nodistro\nComponents: main\n\nEnabled: no\nTypes: deb\nURIs: mirror:/off\nSuites: bookworm\nComponents: main\n")
	write("sources.list.d/other.list.disabled", "deb mirror:/debian bookworm main\n")
	files, err := aptSources(etc, "bookworm", out)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"sources.list":   "deb [arch=amd64 signed-by=/k] mirror:/debian bookworm main contrib\n",
		"debian.sources": "Types: deb\nURIs: mirror:/debian\nSuites: bookworm bookworm-updates\nComponents: main\n",
	}
	if len(files) != len(want) {
		t.Errorf("files %q", files)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil || string(text) != want[filepath.Base(file)] {
			t.Errorf("%s: %q, %v", filepath.Base(file), text, err)
		}
	}
}

func TestAptOptions(t *testing.T) {
	dump := `Acquire "";
Acquire::http::Proxy "proxy:/";
Acquire::Check-Valid-Until "false";
Acquire::IndexTargets::deb::Packages::Optional "0";
Acquire::https::Verify-Peer "";
`
	dump = strings.ReplaceAll(dump, ";\n", "\n")
	want := []string{`Acquire::http::Proxy "proxy:/"`, `Acquire::Check-Valid-Until "false"`}
	if got := pickOptions(dump); !slices.Equal(got, want) {
		t.Errorf("options %q, want %q", got, want)
	}
}

// The kernel finds its root by this table: signature, one partition, its end at
// the end of the disk.
func TestPartitionTable(t *testing.T) {
	const size = 3 << 30
	mbr := partitionTable(size)
	le := binary.LittleEndian
	if le.Uint16(mbr[510:]) != 0xaa55 || le.Uint32(mbr[440:]) != 0x5ea1ed01 || mbr[446+4] != 0x83 {
		t.Errorf("table % x", mbr[440:])
	}
	start, sectors := le.Uint32(mbr[446+8:]), le.Uint32(mbr[446+12:])
	if start != 2048 || int64(start+sectors)*sectorSize != size {
		t.Errorf("partition of %d sectors at %d", sectors, start)
	}
}
