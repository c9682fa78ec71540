// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/volseal/volseal/internal/volume"
)

// writeTree makes files below root from their paths; a directory's path ends in a slash.
func writeTree(t testing.TB, root string, tree map[string]string) {
	t.Helper()
	for path, content := range tree {
		full := filepath.Join(root, path)
		dir := full
		if !strings.HasSuffix(path, "/") {
			dir = filepath.Dir(full)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if dir == full {
			continue
		}
		if err := os.WriteFile(full, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// dm is dm-N in sysfs.
func dm(n, name, uuid, suspended string) map[string]string {
	dir := "block/dm-" + n + "/"
	return map[string]string{
		dir + "dev": "254:" + n + "\n", dir + "dm/name": name + "\n", dir + "dm/uuid": uuid + "\n", dir + "dm/suspended": suspended + "\n",
		dir + "slaves/nvme1n1/dev": "259:3\n", dir + "slaves/nvme1n1/holders/dm-" + n + "/": "", dir + "holders/": "",
	}
}

// without leaves out what lies below part, and keeps a directory for the device.
func without(tree map[string]string, part string) map[string]string {
	for path := range tree {
		if strings.Contains(path, part) {
			delete(tree, path)
		}
	}
	tree["block/dm-3/slaves/nvme1n1/"] = ""
	return tree
}

// onDisk2 puts dm-4 on another disk.
func onDisk2(tree map[string]string) map[string]string {
	moved := map[string]string{"block/dm-4/slaves/nvme2n1/dev": "259:5\n", "block/dm-4/slaves/nvme2n1/holders/dm-4/": ""}
	for path, content := range tree {
		if !strings.Contains(path, "slaves/") {
			moved[path] = content
		}
	}
	return moved
}

const ourDMUUID = "CRYPT-LUKS2-0a1b2c3d4e5f4a6b8c7d9e0f1a2b3c4d-volseal-orders.pending"

func TestMapping(t *testing.T) {
	sound := volume.Mapping{Present: true, Major: 254, Minor: 3, UUID: testUUID, Backing: []volume.Backing{{Major: 259, Minor: 3}}}
	changed := func(change func(*volume.Mapping)) volume.Mapping { m := sound; change(&m); return m }
	for name, c := range map[string]struct {
		trees []map[string]string
		want  volume.Mapping
	}{
		"absent":                       {[]map[string]string{{"block/loop0/": ""}, dm("1", "volseal-order", ourDMUUID, "0")}, volume.Mapping{}},
		"present":                      {[]map[string]string{dm("0", "root", "", "0"), dm("3", "volseal-orders", ourDMUUID, "0")}, sound},
		"suspended":                    {[]map[string]string{dm("3", "volseal-orders", ourDMUUID, "1")}, changed(func(m *volume.Mapping) { m.Suspended = true })},
		"without uuid":                 {[]map[string]string{dm("3", "volseal-orders", "", "0")}, changed(func(m *volume.Mapping) { m.UUID = "" })},
		"a plain mapping":              {[]map[string]string{dm("3", "volseal-orders", "CRYPT-PLAIN-volseal-orders", "0")}, changed(func(m *volume.Mapping) { m.UUID = "" })},
		"LUKS1":                        {[]map[string]string{dm("3", "volseal-orders", strings.Replace(ourDMUUID, "LUKS2", "LUKS1", 1), "0")}, changed(func(m *volume.Mapping) { m.UUID = "" })},
		"two devices beneath":          {[]map[string]string{dm("3", "volseal-orders", ourDMUUID, "0"), {"block/dm-3/slaves/nvme2n1/dev": "259:5", "block/dm-3/slaves/nvme2n1/holders/dm-3/": ""}}, changed(func(m *volume.Mapping) { m.Backing = append(m.Backing[:1:1], volume.Backing{Major: 259, Minor: 5}) })},
		"device taken away":            {[]map[string]string{without(dm("3", "volseal-orders", ourDMUUID, "0"), "slaves/")}, changed(func(m *volume.Mapping) { m.Backing = nil })},
		"another under its name":       {[]map[string]string{without(dm("3", "volseal-orders", ourDMUUID, "0"), "nvme1n1/holders/")}, changed(func(m *volume.Mapping) { m.Backing = nil })},
		"held":                         {[]map[string]string{dm("3", "volseal-orders", ourDMUUID, "0"), {"block/dm-3/holders/dm-7/dev": "254:7"}}, changed(func(m *volume.Mapping) { m.Holders = 1 })},
		"beside a restored copy of it": {[]map[string]string{dm("3", "volseal-orders", ourDMUUID, "0"), onDisk2(dm("4", "volseal-orders-copy", strings.Replace(ourDMUUID, "orders", "orders-copy", 1), "0"))}, sound},
		"one closes meanwhile":         {[]map[string]string{{"block/dm-0/": ""}, dm("3", "volseal-orders", ourDMUUID, "0")}, sound},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for _, tree := range c.trees {
				writeTree(t, root, tree)
			}
			got, err := New(Options{Sys: root}).Mapping(t.Context(), "volseal-orders")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestMappingFailsClosed: what cannot be read is not absent.
func TestMappingFailsClosed(t *testing.T) {
	for name, path := range map[string]string{"number": "dev", "suspended": "dm/suspended", "uuid": "dm/uuid", "beneath": "slaves/nvme1n1/dev", "malformed": ""} {
		tree := dm("3", "volseal-orders", ourDMUUID, "0")
		if path == "" {
			tree["block/dm-3/dev"] = "254:3:7"
		} else {
			delete(tree, "block/dm-3/"+path)
			tree["block/dm-3/slaves/nvme1n1/"] = ""
		}
		root := t.TempDir()
		writeTree(t, root, tree)
		if m, err := New(Options{Sys: root}).Mapping(t.Context(), "volseal-orders"); err == nil {
			t.Errorf("%s: %+v", name, m)
		}
	}
	if m, err := New(Options{Sys: t.TempDir()}).Mapping(t.Context(), "volseal-orders"); err == nil {
		t.Errorf("no sysfs: %+v", m)
	}
}

// TestRestoredBesideOriginal protects two volumes of one host that carry one LUKS
// UUID, because one was made from a snapshot of the other: each is known by its
// mapping's name and by the disk beneath it, and by nothing they share.
func TestRestoredBesideOriginal(t *testing.T) {
	root := t.TempDir()
	writeTree(t, root, dm("3", "volseal-orders", ourDMUUID, "0"))
	writeTree(t, root, onDisk2(dm("4", "volseal-orders-copy", strings.Replace(ourDMUUID, "orders", "orders-copy", 1), "1")))
	l := New(Options{Dir: t.TempDir(), Sys: root})
	for name, want := range map[string]volume.Mapping{
		"volseal-orders":              {Present: true, Major: 254, Minor: 3, UUID: testUUID, Backing: []volume.Backing{{Major: 259, Minor: 3}}},
		"volseal-orders-copy":         {Present: true, Major: 254, Minor: 4, UUID: testUUID, Suspended: true, Backing: []volume.Backing{{Major: 259, Minor: 5}}},
		"volseal-orders-copy.pending": {},
	} {
		got, err := l.Mapping(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
