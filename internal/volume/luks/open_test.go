// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
	"github.com/volseal/volseal/test/lab/luksedit"
)

const (
	pending = "volseal-orders.pending"
	final   = "volseal-orders"
)

// kernel stands for device-mapper: scripts by the tools' names change a sysfs
// tree as the kernel would, and write down what they were asked; table is the
// live one. luksDump is the real one.
type kernel struct {
	*LUKS
	t    *testing.T
	root string
	dev  volume.Device
	h    *volume.Header

	table string
}

// The scripts' parts; R is the root directory.
const (
	makeDM   = `mkdir -p $R/sys/block/dm-3/dm $R/sys/block/dm-3/slaves $R/sys/block/dm-3/holders; cd $R/sys/block/dm-3; echo 0:0 >dev; echo 0 >dm/suspended; echo CRYPT-LUKS2-x-$N >dm/uuid; echo $N >dm/name`
	hold     = `; mkdir -p $R/sys/dev/block/0:0/holders/dm-3`
	openOK   = `for N; do :; done; echo "$@" >>$R/calls; cat >$R/stdin; ` + makeDM + hold
	renameOK = `echo "$4" >$R/sys/block/dm-3/dm/name; : >$R/dev/mapper/$4`
	removeOK = `rm -rf $R/sys/block/dm-3 $R/sys/dev/block/0:0/holders/dm-3`
)

func newKernel(t *testing.T) *kernel {
	t.Helper()
	root := t.TempDir()
	writeTree(t, root, map[string]string{"sys/block/": "", "dev/mapper/": "", "calls": ""})
	k := &kernel{t: t, root: root, dev: builtDisk(t)}
	k.LUKS = New(Options{Dir: filepath.Join(root, "headers"), Sys: filepath.Join(root, "sys"), Dev: filepath.Join(root, "dev")})
	k.h = frozen(t, k.LUKS, k.dev)
	k.tools.path = filepath.Join(root, "bin")
	k.script(openOK, dmsetup(renameOK, removeOK))
	k.table = k.soundTable(k.dev)
	k.readTable = func(mapping string) (string, error) {
		if !k.has(mapping) {
			return "", unix.ENXIO
		}
		return k.table, nil
	}
	return k
}

// script leaves luksDump to the real cryptsetup.
func (k *kernel) script(cryptsetup, dmsetup string) {
	k.t.Helper()
	k.scripts(`case $1 in luksDump) exec /usr/sbin/cryptsetup "$@";; esac; `+cryptsetup, dmsetup)
}

func (k *kernel) scripts(cryptsetup, dmsetup string) {
	k.t.Helper()
	head := "#!/bin/sh\nPATH=/usr/bin:/bin; R=" + k.root + "\n"
	writeTree(k.t, k.root, map[string]string{"bin/cryptsetup": head + cryptsetup, "bin/dmsetup": head + dmsetup})
	for _, tool := range []string{"cryptsetup", "dmsetup"} {
		if err := os.Chmod(filepath.Join(k.root, "bin", tool), 0o700); err != nil {
			k.t.Fatal(err)
		}
	}
}

// dmsetup dispatches on its verb.
func dmsetup(rename, remove string) string {
	return fmt.Sprintf("echo \"$@\" >>$R/calls; case $1 in rename) %s;; remove) %s;; info) cat $R/opencount;; esac", rename, remove)
}

// soundTable is what policy demands of the mapping of dev.
func (k *kernel) soundTable(dev volume.Device) string {
	k.t.Helper()
	frozen, err := judgeFile(k.h.Path, judge)
	if err != nil {
		k.t.Fatal(err)
	}
	return strings.Join(append(tableOf(dev, frozen).fields(), append([]string{"3"}, tableOptions()...)...), " ")
}

func (k *kernel) open(ctx context.Context) error {
	return k.Open(ctx, k.dev, k.h, 0, pending, secretOf(k.t, 1))
}

func (k *kernel) has(name string) bool {
	k.t.Helper()
	m, err := k.Mapping(k.t.Context(), name)
	if err != nil {
		k.t.Fatal(err)
	}
	return m.Present
}

func (k *kernel) calls() string {
	k.t.Helper()
	raw, err := os.ReadFile(filepath.Join(k.root, "calls"))
	if err != nil {
		k.t.Fatal(err)
	}
	return string(raw)
}

// TestOpenPublishClose is the ordinary way, each step repeated as after a crash.
func TestOpenPublishClose(t *testing.T) {
	k := newKernel(t)
	if err := k.open(t.Context()); err != nil {
		t.Fatal(detail(err))
	}
	stdin, err := os.ReadFile(filepath.Join(k.root, "stdin"))
	if err != nil || string(stdin) != strings.Repeat("\x01", secretBytes) {
		t.Errorf("passphrase on standard input: %q, %v", stdin, err)
	}
	wantReason(t, k.open(t.Context()), fault.Unknown, "pending-exists")
	for range 2 {
		if err := k.Publish(t.Context(), pending, final); err != nil {
			t.Fatal(detail(err))
		}
	}
	if k.has(pending) || !k.has(final) {
		t.Error("not renamed")
	}
	for range 2 {
		if err := k.Close(t.Context(), final); err != nil {
			t.Fatal(detail(err))
		}
	}
	want := "open --type luks2 --batch-mode --disable-external-tokens --key-slot 0 --key-file - --keyfile-size 32 --tries 1 --header " + k.h.Path +
		" --perf-no_read_workqueue --perf-no_write_workqueue -- " + k.dev.Path + " " + pending + "\n" +
		"rename -- " + pending + " " + final + "\nremove --retry -- " + final + "\n"
	if got := k.calls(); got != want {
		t.Errorf("tools were asked\n%swant\n%s", got, want)
	}
}

// TestOpenLeavesNothingUnchecked: whatever goes wrong after the kernel may have
// the key, no mapping stays.
func TestOpenLeavesNothingUnchecked(t *testing.T) {
	for name, c := range map[string]struct {
		cryptsetup, table, remove string
		class                     fault.Class
		reason                    string
		stays                     bool
	}{
		"another table":                {openOK, "0 1 linear 259:3 0", removeOK, fault.Integrity, "table", false},
		"another table, stays open":    {openOK, "0 1 linear 259:3 0", "exit 1", fault.Integrity, "table", true},
		"wrong passphrase":             {"exit 2", "", removeOK, fault.Integrity, "keyslot-passphrase", false},
		"not permitted by the kernel":  {`case "$*" in *test-passphrase*) exit 0;; esac; exit 2`, "", removeOK, fault.Unknown, "tool", false},
		"device in use":                {"exit 5", "", removeOK, fault.Unknown, "busy", false},
		"fails after making a mapping": {openOK + "; exit 1", "", removeOK, fault.Unknown, "tool", false},
		"shared with another mapping":  {openOK + "; mkdir $R/sys/dev/block/0:0/holders/dm-9", "", removeOK, fault.Unknown, "device-shared", false},
		"holds another device":         {openOK + "; mv $R/sys/dev/block/0:0/holders/dm-3 $R/sys/dev/block/0:0/holders/dm-9", "", removeOK, fault.Unknown, "device-shared", false},
		"success without a mapping":    {"exit 0", "", removeOK, fault.Unknown, "tool", false},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKernel(t)
			k.script(c.cryptsetup, dmsetup(renameOK, c.remove))
			if c.table != "" {
				k.table = c.table
			}
			wantReason(t, k.open(t.Context()), c.class, c.reason)
			if k.has(pending) != c.stays {
				t.Error("mapping present:", k.has(pending))
			}
		})
	}
}

// TestOpenWhileResized: EBS volumes grow while they are attached, and the table
// is then as long as the volume has become; that is no tampering.
func TestOpenWhileResized(t *testing.T) {
	k := newKernel(t)
	grown := k.dev
	grown.Bytes += 1 << 20
	k.script(fmt.Sprintf("truncate -s %d %s; %s", grown.Bytes, k.dev.Path, openOK), dmsetup(renameOK, removeOK))
	k.table = k.soundTable(grown)
	wantReason(t, k.open(t.Context()), fault.Unknown, "device-changed")
	if k.has(pending) {
		t.Error("mapping stays")
	}
	k.dev = grown // found afresh
	if err := k.open(t.Context()); err != nil {
		t.Error(detail(err))
	}
}

// TestOpenCanceled: an agent that is being stopped takes its mapping back.
func TestOpenCanceled(t *testing.T) {
	k := newKernel(t)
	ctx, cancel := context.WithCancel(t.Context())
	made := filepath.Join(k.root, "made")
	if err := unix.Mkfifo(made, 0o600); err != nil {
		t.Fatal(err)
	}
	k.script(openOK+"; : >$R/made; exec sleep 60", dmsetup(renameOK, removeOK))
	go func() {
		_, _ = os.ReadFile(made) // returns when the tool has made its mapping
		cancel()
	}()
	if err := k.open(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if k.has(pending) {
		t.Error("mapping stays")
	}
}

// TestOpenWantsTheFrozenDevice: between check and opening, the header was
// rewritten, or the device exchanged for another.
func TestOpenWantsTheFrozenDevice(t *testing.T) {
	k := newKernel(t)
	if err := luksedit.EditFile(k.dev.Path, func(m map[string]any) {
		luksedit.At(m, "tokens")["9"] = map[string]any{"type": "x", "keyslots": []string{}}
	}); err != nil {
		t.Fatal(err)
	}
	wantReason(t, k.open(t.Context()), fault.Integrity, "header-changed")
	k.dev.Bytes -= 4096
	wantReason(t, k.open(t.Context()), fault.Unknown, "device-changed")
	if k.calls() != "" {
		t.Error("a tool was asked:", k.calls())
	}
}

// TestHeaderSwappedWhileOpening: whoever rewrites the device at the very moment
// that cryptsetup is started changes nothing about what is opened; the next
// freeze finds the change.
func TestHeaderSwappedWhileOpening(t *testing.T) {
	k := newKernel(t)
	evil := builtHeader(t)
	if err := attacks["null cipher in segment"].attack(evil); err != nil {
		t.Fatal(err)
	}
	swapped := filepath.Join(k.root, "evil")
	if err := os.WriteFile(swapped, evil, 0o600); err != nil {
		t.Fatal(err)
	}
	before := sumOf(t, k.h.Path)
	k.script("dd if="+swapped+" of="+k.dev.Path+" conv=notrunc status=none; "+openOK, dmsetup(renameOK, removeOK))
	if err := k.open(t.Context()); err != nil {
		t.Fatal(detail(err))
	}
	if !strings.Contains(k.calls(), "--header "+k.h.Path+" ") || sumOf(t, k.h.Path) != before {
		t.Error("something else than the frozen copy was opened:", k.calls())
	}
	k.tools.path = New(Options{}).tools.path
	_, err := k.Freeze(t.Context(), k.dev, "orders")
	wantReason(t, err, fault.Integrity, "segment-cipher")
}

// TestOpenWantsTheFrozenHeader: no other keyslot than a candidate's, and no
// header that somebody changed in the frozen file.
func TestOpenWantsTheFrozenHeader(t *testing.T) {
	k := newKernel(t)
	if err := k.Open(t.Context(), k.dev, k.h, 1, pending, secretOf(t, 1)); err == nil {
		t.Error("keyslot 1 is no candidate")
	}
	other := *k.h
	other.UUID = strings.Replace(testUUID, "0a", "0b", 1)
	if err := k.Open(t.Context(), k.dev, &other, 0, pending, secretOf(t, 1)); err == nil {
		t.Error("another UUID")
	}
	if err := luksedit.EditFile(k.h.Path, func(m map[string]any) { luksedit.At(m, "segments", "0")["encryption"] = "cipher_null-ecb" }); err != nil {
		t.Fatal(err)
	}
	wantReason(t, k.open(t.Context()), fault.Integrity, "segment-cipher")
	if k.calls() != "" {
		t.Error("a tool was asked:", k.calls())
	}
}

// TestPublish: success means that the node is there and leads to the mapping.
func TestPublish(t *testing.T) {
	k := newKernel(t)
	if err := k.Publish(t.Context(), pending, final); err == nil {
		t.Error("published what is not there")
	}
	if err := k.open(t.Context()); err != nil {
		t.Fatal(detail(err))
	}
	k.script(openOK, dmsetup("exit 1", removeOK))
	wantReason(t, k.Publish(t.Context(), pending, final), fault.Unknown, "tool")
	k.script(openOK, dmsetup("exit 0", removeOK)) // claims success, does nothing
	wantReason(t, k.Publish(t.Context(), pending, final), fault.Unknown, "node")
	k.script(openOK, dmsetup(`echo "$4" >$R/sys/block/dm-3/dm/name; ln -sf /dev/null $R/dev/mapper/$4`, removeOK))
	wantReason(t, k.Publish(t.Context(), pending, final), fault.Unknown, "node")
}

// TestCloseTellsBusy from other failures, by what the kernel counts.
func TestCloseTellsBusy(t *testing.T) {
	for name, c := range map[string]struct {
		count, holder, remove string
		reason                string
	}{
		"mounted":               {count: "1", remove: "exit 1", reason: "busy"},
		"stacked upon":          {count: "0", holder: "dm-9", remove: "exit 1", reason: "busy"},
		"fails":                 {count: "0", remove: "exit 1", reason: "tool"},
		"claims success":        {count: "0", remove: "exit 0", reason: "tool"},
		"gone despite an error": {count: "0", remove: removeOK + "; exit 1"},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKernel(t)
			if err := k.open(t.Context()); err != nil {
				t.Fatal(detail(err))
			}
			k.script(openOK, dmsetup(renameOK, c.remove))
			writeTree(t, k.root, map[string]string{"opencount": c.count + "\n"})
			if c.holder != "" {
				writeTree(t, k.root, map[string]string{"sys/block/dm-3/holders/" + c.holder + "/": ""})
			}
			err := k.Close(t.Context(), pending)
			if c.reason == "" && err != nil {
				t.Error(detail(err))
			}
			if c.reason != "" {
				wantReason(t, err, fault.Unknown, c.reason)
			}
		})
	}
	if err := newKernel(t).Close(t.Context(), "vg-root"); err == nil {
		t.Error("closed a mapping that is not ours")
	}
}

// TestMakeFilesystem runs on the mapping's own node and on nothing else.
func TestMakeFilesystem(t *testing.T) {
	k := newKernel(t)
	if err := k.MakeFilesystem(t.Context(), pending, "ext4"); err == nil {
		t.Error("made one on an absent mapping")
	}
	if err := k.open(t.Context()); err != nil {
		t.Fatal(detail(err))
	}
	writeTree(t, k.root, map[string]string{"bin/mkfs.xfs": "#!/bin/sh\necho mkfs.xfs \"$@\" >>" + k.root + "/calls\n", "dev/mapper/" + pending: strings.Repeat("\x00", blockBytes)})
	if err := os.Chmod(filepath.Join(k.root, "bin/mkfs.xfs"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := k.MakeFilesystem(t.Context(), pending, "xfs"); err != nil {
		t.Fatal(detail(err))
	}
	if want := "mkfs.xfs -q -f -K " + k.root + "/dev/mapper/" + pending + "\n"; !strings.HasSuffix(k.calls(), want) {
		t.Errorf("calls: %s", k.calls())
	}
	wantReason(t, k.MakeFilesystem(t.Context(), pending, "ext4"), fault.Misconfigured, "tool-missing")
	if err := k.MakeFilesystem(t.Context(), pending, "vfat"); err == nil {
		t.Error("made a vfat")
	}
	for _, name := range []string{"vg-root", "../sda", ""} {
		if err := k.MakeFilesystem(t.Context(), name, "xfs"); err == nil {
			t.Errorf("made one on %q", name)
		}
	}
}
