// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

const subdev = "CRYPT-SUBDEV-0a1b2c3d4e5f4a6b8c7d9e0f1a2b3c4d-volseal-orders"

// dmOn is dm-N upon other devices of the tree: "dm-5" or "nvme1n1".
func dmOn(n, name, uuid, suspended string, on ...string) map[string]string {
	numbers := map[string]string{"nvme1n1": "259:3", "dm-3": "254:3", "dm-5": "254:5", "dm-6": "254:6"}
	tree := map[string]string{}
	for path, content := range dm(n, name, uuid, suspended) {
		if !strings.Contains(path, "slaves/") {
			tree[path] = content
		}
	}
	tree["block/dm-"+n+"/slaves/"] = ""
	for _, o := range on {
		tree["block/dm-"+n+"/slaves/"+o+"/dev"] = numbers[o] + "\n"
		tree["block/dm-"+n+"/slaves/"+o+"/holders/dm-"+n+"/"] = ""
	}
	return tree
}

// layered is a mapping while its data is being reencrypted, as cryptsetup 2.6.1 lays it.
func layered(hot string) map[string]string {
	tree := dmOn("3", "volseal-orders", ourDMUUID, "0", "dm-5")
	maps.Copy(tree, dmOn("5", "volseal-orders-overlay", subdev+"-overlay", "0", "nvme1n1", "dm-6"))
	maps.Copy(tree, dmOn("6", "volseal-orders-hotzone-forward", subdev+"-hotzone-forward", hot, "nvme1n1"))
	return tree
}

// What a reencryption puts between a mapping and its disk is looked through; whose
// layers they are is told by their UUID, and by nothing else.
func TestMappingWhileReencrypting(t *testing.T) {
	sound := volume.Mapping{Present: true, Major: 254, Minor: 3, UUID: testUUID, Backing: []volume.Backing{{Major: 259, Minor: 3}}}
	changed := func(change func(*volume.Mapping)) volume.Mapping { m := sound; change(&m); return m }
	wiped := dmOn("3", "volseal-orders", ourDMUUID, "0", "dm-5")
	maps.Copy(wiped, dmOn("5", "volseal-orders-overlay", subdev+"-overlay", "0"))
	maps.Copy(wiped, dmOn("6", "volseal-orders-hotzone-forward", subdev+"-hotzone-forward", "0"))
	other := dmOn("3", "volseal-orders", ourDMUUID, "0", "dm-5")
	maps.Copy(other, dmOn("5", "vg-root", "LVM-x", "0", "nvme1n1"))
	begins := layered("0")
	maps.Copy(begins, dmOn("3", "volseal-orders", ourDMUUID, "1", "dm-5", "nvme1n1"))
	begins["block/dm-3/dm/suspended"] = "0\n"
	for name, c := range map[string]struct {
		tree map[string]string
		want volume.Mapping
	}{
		"at work":          {layered("0"), changed(func(m *volume.Mapping) { m.Layered = true })},
		"in a hot zone":    {layered("1"), changed(func(m *volume.Mapping) { m.Layered, m.Halted = true, true })},
		"failed":           {wiped, changed(func(m *volume.Mapping) { m.Layered, m.Backing = true, nil })},
		"upon another's":   {other, changed(func(m *volume.Mapping) { m.Backing = []volume.Backing{{Major: 254, Minor: 5}} })},
		"being put in":     {begins, changed(func(m *volume.Mapping) { m.Layered = true })},
		"not at work, yet": {dm("3", "volseal-orders", ourDMUUID, "0"), sound},
	} {
		root := t.TempDir()
		writeTree(t, root, c.tree)
		got, err := New(Options{Sys: root}).Mapping(t.Context(), "volseal-orders")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	foreign := layered("0")
	foreign["block/dm-5/dm/uuid"] = "CRYPT-SUBDEV-ffffffffffffffffffffffffffffffff-volseal-orders-overlay\n"
	root := t.TempDir()
	writeTree(t, root, foreign)
	if m, err := New(Options{Sys: root}).Mapping(t.Context(), "volseal-orders"); fault.ReasonOf(err) != "layer-foreign" {
		t.Errorf("another volume's layers: %+v, %v", m, err)
	}
}

// I/O is failed, and devices are removed, only where no cryptsetup has the
// reencryption in hand: its lock says so, whatever systemd knows.
func TestHeldReencryption(t *testing.T) {
	root, locks := t.TempDir(), t.TempDir()
	writeTree(t, root, layered("1"))
	l := New(Options{Sys: root, Path: t.TempDir()}) // no tool is there to be run
	l.locks = locks
	path := filepath.Join(locks, "LN_LUKS2-reencryption-"+testUUID)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"fail": l.FailLayers(t.Context(), "volseal-orders", testUUID), "close": l.CloseLayers(t.Context(), "volseal-orders", testUUID),
	} {
		if fault.ReasonOf(err) != "reencryption-held" {
			t.Errorf("%s: %v", what, err)
		}
	}
	f.Close()
	if err := l.FailLayers(t.Context(), "volseal-orders", testUUID); fault.ReasonOf(err) != "tool-missing" {
		t.Errorf("nobody holds it: %v", err)
	}
	if err := l.FailLayers(t.Context(), "volseal-orders", "../../etc"); err == nil {
		t.Error("a UUID that is a path")
	}
}

// TestCloseLayersOfNothing runs no tool for a volume that was never reencrypted.
func TestCloseLayersOfNothing(t *testing.T) {
	root := t.TempDir()
	writeTree(t, root, dm("3", "volseal-orders", ourDMUUID, "0"))
	if err := New(Options{Sys: root, Path: t.TempDir()}).CloseLayers(t.Context(), "volseal-orders", testUUID); err != nil {
		t.Error(err)
	}
}

// The command of the unit is one that ends a reencryption and never begins one, with
// the hot zone bounded and the key from standard input; a release that corrupts is refused.
func TestReencryptCommand(t *testing.T) {
	for version, refused := range map[string]string{"2.6.1": "", "2.7.0": "cryptsetup-corrupts", "2.7.4": "cryptsetup-corrupts", "2.7.5": ""} {
		bin := t.TempDir()
		script := "#!/bin/sh\necho cryptsetup " + version + " flags: UDEV\n"
		if err := os.WriteFile(filepath.Join(bin, "cryptsetup"), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
		c, err := New(Options{Path: bin + ":/usr/bin:/bin"}).ReencryptCommand(t.Context(), "volseal-orders", 3354624)
		if fault.ReasonOf(err) != refused && err != nil {
			t.Errorf("%s: %v", version, err)
		}
		args := strings.Join(c.Args, " ")
		if (err == nil) != (refused == "") || err == nil && args != "reencrypt --resume-only --batch-mode --disable-external-tokens --resilience checksum "+
			"--hotzone-size 3354624 --key-file - --keyfile-size 32 --active-name volseal-orders" {
			t.Errorf("%s: %q, %v", version, args, err)
		}
		for _, size := range []int64{0, -4096, 1000} {
			if _, err := New(Options{Path: bin + ":/bin"}).ReencryptCommand(t.Context(), "volseal-orders", size); err == nil {
				t.Errorf("a hot zone of %d", size)
			}
		}
		if _, err := New(Options{Path: bin + ":/bin"}).ReencryptCommand(t.Context(), "root", 1<<20); err == nil {
			t.Error("a mapping of somebody's")
		}
	}
}

// TestWorkTables: each part of the data is under its own key, with its sectors
// counted from the beginning; and a hot zone is in no table.
func TestWorkTables(t *testing.T) {
	dev := volume.Device{Path: "/dev/nvme1n1", Major: 259, Minor: 3, Bytes: testBytes}
	h := begunHeader(t)
	halfway(h, false)
	is, refused := judgeAny(h)
	if refused != nil {
		t.Fatal(detail(refused))
	}
	const live = "0 32768 crypt aes-xts-plain64 :64:logon:cryptsetup:" + testUUID + "-d1 0 259:3 32768 3 no_read_workqueue no_write_workqueue sector_size:4096\n" +
		"32768 65536 crypt aes-xts-plain64 :64:logon:cryptsetup:" + testUUID + "-d0 32768 259:3 65536 3 no_read_workqueue no_write_workqueue sector_size:4096\n"
	if err := matchAll(workTables(dev, is), live); err != nil {
		t.Error(err)
	}
	for what, table := range map[string]string{
		"one line":       live[:strings.Index(live, "\n")+1],
		"three":          live + live,
		"one key":        strings.ReplaceAll(live, "-d0", "-d1"),
		"keys exchanged": strings.NewReplacer("-d0", "-d1", "-d1", "-d0").Replace(live),
		"not shifted":    strings.Replace(live, "-d0 32768", "-d0 0", 1),
		"another disk":   strings.ReplaceAll(live, "259:3", "259:5"),
		"elsewhere":      strings.Replace(live, "259:3 65536", "259:3 32768", 1),
	} {
		if err := matchAll(workTables(dev, is), table); err == nil {
			t.Errorf("%s is admitted", what)
		}
	}
	hot := begunHeader(t)
	halfway(hot, true)
	is, _ = judgeAny(hot)
	if err := matchAll(workTables(dev, is), live); err == nil {
		t.Error("a hot zone is admitted")
	}
}

// The layers go in one step when a reencryption ends. What is read across that step
// must be what was before it or what is after it: anything else would pass for a
// mapping of somebody else's, and quarantine a volume that is sound.
func TestMappingWhileLayersGo(t *testing.T) {
	root := t.TempDir()
	writeTree(t, root, layered("0"))
	ended := filepath.Join(root, "ended")
	writeTree(t, ended, dm("3", "volseal-orders", ourDMUUID, "0"))
	step := func(after time.Duration) error {
		time.Sleep(after)
		return unix.Renameat2(unix.AT_FDCWD, filepath.Join(root, "block"), unix.AT_FDCWD, filepath.Join(ended, "block"), unix.RENAME_EXCHANGE)
	}
	l := New(Options{Sys: root})
	disk := []volume.Backing{{Major: 259, Minor: 3}}
	seen := map[bool]int{}
	for n := range 2000 { // one step in each look, there and back
		stepped := make(chan error, 1)
		go func() { stepped <- step(time.Duration(n%200) * time.Microsecond) }()
		m, err := l.Mapping(t.Context(), "volseal-orders")
		if err := <-stepped; err != nil {
			t.Fatal(err)
		}
		if err != nil {
			continue // it was looked at while it went; the next pass looks again
		}
		if seen[m.Layered]++; !slices.Equal(m.Backing, disk) {
			t.Fatalf("the mapping lies on %v, layered: %v", m.Backing, m.Layered)
		}
	}
	if seen[true] == 0 || seen[false] == 0 {
		t.Errorf("seen %v: the test proves nothing", seen)
	}
}
