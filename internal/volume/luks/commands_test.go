// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/volseal/volseal/internal/envelope"
)

// TestCommands is every command line as it is executed. A change here changes
// what happens to disks: read the comment beside the argument first.
func TestCommands(t *testing.T) {
	key := secretOf(t, 1)
	for name, c := range map[string]struct {
		build func() (command, error)
		want  string
		stdin []byte
	}{
		"dump": {
			build: dumpOptions{header: "/run/h"}.command,
			want:  "cryptsetup luksDump --dump-json-metadata --disable-external-tokens -- /run/h",
		},
		"format": {
			build: formatOptions{image: "/var/i", uuid: testUUID, passphrase: key}.command,
			want: "cryptsetup luksFormat --batch-mode --type luks2 --uuid " + testUUID + " --offset 32768" +
				" --luks2-metadata-size 16384 --luks2-keyslots-size 16744448 --cipher aes-xts-plain64 --key-size 512" +
				" --sector-size 4096 --hash sha256 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-slot 0" +
				" --key-file - --keyfile-size 32 -- /var/i",
			stdin: key.Bytes(),
		},
		"import": {
			build: importOptions{image: "/var/i", id: 3, token: []byte("{}")}.command,
			want:  "cryptsetup token import --disable-external-tokens --json-file - --token-id 3 -- /var/i",
			stdin: []byte("{}"),
		},
		"remove token": {
			build: removeTokenOptions{image: "/var/i", id: 3}.command,
			want:  "cryptsetup token remove --batch-mode --disable-external-tokens --token-id 3 -- /var/i",
		},
		"add key": {
			build: addKeyOptions{image: "/var/i", present: key, added: secretOf(t, 2)}.command,
			want: "cryptsetup luksAddKey --batch-mode --disable-external-tokens --hash sha256 --pbkdf pbkdf2 --pbkdf-force-iterations 1000" +
				" --key-file - --keyfile-size 32 --new-keyfile-size 32 -- /var/i -",
			stdin: append(bytes.Clone(key.Bytes()), secretOf(t, 2).Bytes()...),
		},
		"kill slot": {
			build: killSlotOptions{image: "/var/i", keyslot: 1}.command,
			want:  "cryptsetup luksKillSlot --batch-mode --disable-external-tokens -- /var/i 1",
		},
		"open": {
			build: openOptions{device: "/dev/nvme1n1", header: "/run/h", keyslot: 3, mapping: "volseal-orders.pending", passphrase: key}.command,
			want: "cryptsetup open --type luks2 --batch-mode --disable-external-tokens --key-slot 3 --key-file - --keyfile-size 32 --tries 1" +
				" --header /run/h --perf-no_read_workqueue --perf-no_write_workqueue -- /dev/nvme1n1 volseal-orders.pending",
			stdin: key.Bytes(),
		},
		"try": {
			build: openOptions{header: "/run/h", passphrase: key}.command,
			want: "cryptsetup open --type luks2 --batch-mode --disable-external-tokens --key-slot 0 --key-file - --keyfile-size 32 --tries 1" +
				" --test-passphrase -- /run/h",
			stdin: key.Bytes(),
		},
		"rename": {build: func() (command, error) { return renameCommand("volseal-a.pending", "volseal-a") }, want: "dmsetup rename -- volseal-a.pending volseal-a"},
		"remove": {build: func() (command, error) { return removeCommand("volseal-a") }, want: "dmsetup remove --retry -- volseal-a"},
		"count":  {build: func() (command, error) { return openCountCommand("volseal-a") }, want: "dmsetup info --columns --noheadings --options open -- volseal-a"},
		"ext4":   {build: func() (command, error) { return mkfsCommand("ext4", "/dev/mapper/x") }, want: "mkfs.ext4 -q -F -E nodiscard,lazy_itable_init=1,lazy_journal_init=0 /dev/mapper/x"},
		"xfs":    {build: func() (command, error) { return mkfsCommand("xfs", "/dev/mapper/x") }, want: "mkfs.xfs -q -f -K /dev/mapper/x"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.build()
			if err != nil {
				t.Fatal(err)
			}
			line := got.tool + " " + strings.Join(got.args, " ")
			if diff := cmp.Diff(c.want, line); diff != "" {
				t.Error(diff)
			}
			if in := append(bytes.Clone(got.stdin), got.then...); !bytes.Equal(in, c.stdin) {
				t.Errorf("standard input is %d bytes", len(in))
			}
			if got.limit <= 0 {
				t.Error("no time limit")
			}
		})
	}
}

// TestCommandsRefuse what would act on something else than was meant.
func TestCommandsRefuse(t *testing.T) {
	key := secretOf(t, 1)
	short, err := envelope.NewSecret(16)
	if err != nil {
		t.Fatal(err)
	}
	defer short.Destroy()
	opening := openOptions{device: "/dev/x", header: "/h", mapping: "volseal-a", passphrase: key}
	with := func(change func(*openOptions)) func() (command, error) {
		o := opening
		change(&o)
		return o.command
	}
	for name, build := range map[string]func() (command, error){
		"search by UUID":        with(func(o *openOptions) { o.header = "UUID=" + testUUID }),
		"relative device":       with(func(o *openOptions) { o.device = "x" }),
		"no device":             with(func(o *openOptions) { o.device = "" }),
		"foreign mapping":       with(func(o *openOptions) { o.mapping = "root" }),
		"option as mapping":     with(func(o *openOptions) { o.mapping = "--force" }),
		"path as mapping":       with(func(o *openOptions) { o.mapping = "volseal-/../x" }),
		"keyslot 32":            with(func(o *openOptions) { o.keyslot = 32 }),
		"keyslot -1":            with(func(o *openOptions) { o.keyslot = -1 }),
		"short passphrase":      with(func(o *openOptions) { o.passphrase = short }),
		"no passphrase":         with(func(o *openOptions) { o.passphrase = nil }),
		"format: UUID":          formatOptions{image: "/i", uuid: "x", passphrase: key}.command,
		"format: no passphrase": formatOptions{image: "/i", uuid: testUUID}.command,
		"format: relative":      formatOptions{image: "i", uuid: testUUID, passphrase: key}.command,
		"import: nothing":       importOptions{image: "/i"}.command,
		"import: too much":      importOptions{image: "/i", token: make([]byte, maxStdin+1)}.command,
		"import: token 32":      importOptions{image: "/i", id: 32, token: []byte("{}")}.command,
		"remove token: -1":      removeTokenOptions{image: "/i", id: -1}.command,
		"remove token: path":    removeTokenOptions{image: "i"}.command,
		"remove: foreign":       func() (command, error) { return removeCommand("vg-root") },
		"rename: to foreign":    func() (command, error) { return renameCommand("volseal-a", "vg-root") },
		"mkfs: other":           func() (command, error) { return mkfsCommand("btrfs", "/dev/mapper/x") },
		"mkfs: option":          func() (command, error) { return mkfsCommand("ext4", "-x") },
	} {
		if _, err := build(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestArgumentsAreKnown asks the real cryptsetup whether it understands them.
func TestArgumentsAreKnown(t *testing.T) {
	needCryptsetup(t)
	key := secretOf(t, 1)
	for _, build := range []func() (command, error){
		dumpOptions{header: "/dev/null"}.command,
		formatOptions{image: "/dev/null", uuid: testUUID, passphrase: key}.command,
		importOptions{image: "/dev/null", token: []byte("{}")}.command,
		removeTokenOptions{image: "/dev/null"}.command,
		openOptions{device: "/dev/null", header: "/dev/null", mapping: "volseal-a", passphrase: key}.command,
		openOptions{header: "/dev/null", passphrase: key}.command,
	} {
		c, err := build()
		if err != nil {
			t.Fatal(err)
		}
		c.args = append([]string{"--test-args"}, c.args...)
		if _, err := (runner{path: toolPath}).run(t.Context(), c); err != nil {
			t.Error(c.args, err)
		}
	}
}
