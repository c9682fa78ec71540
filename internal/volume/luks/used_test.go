// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/volseal/volseal/internal/fault"
)

// sparse is a file of zeros but for what is written at these places.
func sparse(t testing.TB, bytes int64, parts map[int64][]byte) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(bytes); err != nil {
		t.Fatal(err)
	}
	for at, b := range parts {
		if _, err := f.WriteAt(b, at); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func word(order binary.AppendByteOrder, n uint32) []byte { return order.AppendUint32(nil, n) }

// TestEverMounted protects data: a claim that is older than the volume asks for
// a new file system over the one in use. And it protects init, which must be
// able to go on after a crash within mkfs, or right after it.
func TestEverMounted(t *testing.T) {
	big, little := binary.BigEndian, binary.LittleEndian
	ext := map[int64][]byte{extMagic: {0x53, 0xef}, extBlockSize: {2}}
	// Groups of 5000 blocks, the log in the third block of the second: at 20492 KiB.
	const log = (5000 + 3) * 4096
	xfs := map[int64][]byte{
		0: []byte("XFSB"), xfsBlockSize: word(big, 4096), xfsGroupSize: word(big, 5000), xfsGroupLog: {13},
		xfsLogStart: big.AppendUint64(nil, 1<<13+3),
		log:         word(big, recordMagic), log + recordCycle: word(big, 1), log + recordLength: word(big, 3584),
	}
	for name, c := range map[string]struct {
		made, changed map[int64][]byte
		want          bool
	}{
		"nothing":                      {},
		"random bytes":                 {map[int64][]byte{extMagic: {0x53, 0xef}, extBlockSize: {2, 9, 1}, extMounted: {7}}, nil, false},
		"ext4":                         {ext, nil, false},
		"ext4, mounted":                {ext, map[int64][]byte{extMounted: word(little, 1700000000), extMounts: {1}}, true},
		"ext4, checked since":          {ext, map[int64][]byte{extMounted: word(little, 1700000000)}, true},
		"ext4, mounted in 1970":        {ext, map[int64][]byte{extMounts: {0, 1}}, true},
		"xfs":                          {xfs, nil, false},
		"xfs, half made":               {xfs, map[int64][]byte{xfsInProgress: {1}, log: {0}}, false},
		"xfs, unmounted":               {xfs, map[int64][]byte{xfsSequence: big.AppendUint64(nil, 1<<32)}, true},
		"xfs, cut off while mounted":   {xfs, map[int64][]byte{log + 4096: word(big, recordMagic)}, true},
		"xfs, the log came round":      {xfs, map[int64][]byte{log + recordCycle: word(big, 2)}, true},
		"xfs, no log where it belongs": {xfs, map[int64][]byte{log: {0}}, true},
		"xfs, log elsewhere":           {xfs, map[int64][]byte{xfsLogStart: make([]byte, 8)}, true},
		"xfs, log beyond the end":      {xfs, map[int64][]byte{xfsGroupSize: word(big, 50000)}, true},
		"xfs, log beyond counting":     {xfs, map[int64][]byte{xfsGroupSize: {255, 255, 255, 255}, xfsLogStart: {0, 0, 2}}, true},
		"xfs, endless record":          {xfs, map[int64][]byte{log + recordLength: {255, 255, 255, 255}}, true},
	} {
		f := sparse(t, 32<<20, c.made)
		for at, b := range c.changed {
			if _, err := f.WriteAt(b, at); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := everMounted(f); err != nil || got != c.want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// TestEverMountedForReal: what the tools make, and what the kernel makes of it
// by mounting alone.
func TestEverMountedForReal(t *testing.T) {
	for name, args := range map[string][]string{
		"ext4":                 {"mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=0"},
		"xfs":                  {"mkfs.xfs", "-q", "-f", "-K"},
		"xfs, sectors of 4096": {"mkfs.xfs", "-q", "-f", "-K", "-s", "size=4096"},
	} {
		t.Run(name, func(t *testing.T) {
			f := sparse(t, 320<<20, nil)
			run := func(args ...string) error {
				out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
				if err != nil {
					t.Logf("%s: %v %s", args[0], err, out)
				}
				return err
			}
			if _, err := exec.LookPath(args[0]); err != nil {
				t.Skip(err)
			}
			for range 2 { // the second is the repetition after a crash
				if err := run(append(args, f.Name())...); err != nil {
					t.Fatal(err)
				}
				if used, err := everMounted(f); err != nil || used {
					t.Errorf("after mkfs: %v, %v", used, err)
				}
			}
			dir := t.TempDir()
			if run("mount", "-o", "loop", f.Name(), dir) != nil {
				t.Skip("no loop mounts here")
			}
			if err := run("sync", "-f", dir); err != nil {
				t.Error(err)
			}
			if used, err := everMounted(f); err != nil || !used {
				t.Errorf("while mounted: %v, %v", used, err)
			}
			if err := run("umount", dir); err != nil {
				t.Fatal(err)
			}
			if used, err := everMounted(f); err != nil || !used {
				t.Errorf("after unmounting: %v, %v", used, err)
			}
		})
	}
}

// TestMakeFilesystemSparesData: no tool is started, and the fault names the claim.
func TestMakeFilesystemSparesData(t *testing.T) {
	k := newKernel(t)
	if err := k.open(t.Context()); err != nil {
		t.Fatal(detail(err))
	}
	node := sparse(t, 1<<20, map[int64][]byte{extMagic: {0x53, 0xef}, extBlockSize: {2}, extMounts: {1}})
	if err := os.Rename(node.Name(), filepath.Join(k.root, "dev/mapper", pending)); err != nil {
		t.Fatal(err)
	}
	before := k.calls()
	wantReason(t, k.MakeFilesystem(t.Context(), pending, "ext4"), fault.Integrity, "filesystem-present")
	if k.calls() != before {
		t.Error("a tool was asked:", k.calls())
	}
}
