// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/volseal/volseal/internal/fault"
)

// suspendable is a mapping that is open, published, and can be suspended. The
// kernel shows zeros for a key that was wiped.
func suspendable(t *testing.T) (k *kernel, sound string) {
	t.Helper()
	k = newKernel(t)
	sound = k.table
	dir := "sys/block/dm-3/"
	writeTree(t, k.root, map[string]string{
		"table": sound + "\n", dir + "dev": "0:0\n", dir + "dm/name": final + "\n", dir + "dm/uuid": ourDMUUID + "\n", dir + "dm/suspended": "0\n",
		dir + "slaves/nvme1n1/dev": "259:3\n", dir + "slaves/nvme1n1/holders/dm-3/": "", dir + "holders/": "",
	})
	k.readTable = func(string) (string, error) {
		live, err := os.ReadFile(filepath.Join(k.root, "table"))
		return string(live), err
	}
	k.suspendScripts(sound)
	return k, sound
}

// suspendScripts: after a resume the table is as given.
func (k *kernel) suspendScripts(resumed string) {
	k.script(`[ "$2" = --test-passphrase ] && exit 2; echo "$@" >>$R/calls; cat >$R/stdin; echo '`+resumed+`' >$R/table; echo 0 >$R/sys/block/dm-3/dm/suspended`,
		`echo "$@" >>$R/calls; D=$R/sys/block/dm-3
		case $1 in
		suspend) echo 1 >$D/dm/suspended;;
		message) sed -i "s/:64:logon:[^ ]*/`+strings.Repeat("0", 128)+`/" $R/table;;
		wipe_table) echo 0 >$D/dm/suspended; rm -rf $D/slaves/nvme1n1;;
		esac`)
}

func (k *kernel) suspended() bool {
	k.t.Helper()
	m, err := k.Mapping(k.t.Context(), final)
	if err != nil {
		k.t.Fatal(err)
	}
	return m.Suspended
}

// TestSuspendAndResume is the ordinary way, the first half repeated as after a crash.
func TestSuspendAndResume(t *testing.T) {
	k, _ := suspendable(t)
	if wiped, err := k.Wiped(t.Context(), final); wiped || err != nil {
		t.Errorf("wiped %v, %v", wiped, err)
	}
	for range 2 {
		if err := k.Suspend(t.Context(), final); err != nil {
			t.Fatal(detail(err))
		}
		if wiped, err := k.Wiped(t.Context(), final); !wiped || err != nil || !k.suspended() {
			t.Errorf("wiped %v, %v", wiped, err)
		}
	}
	writeTree(t, k.root, map[string]string{"calls": ""})
	if err := k.Resume(t.Context(), k.dev, k.h, 0, final, secretOf(t, 1)); err != nil {
		t.Fatal(detail(err))
	}
	stdin, err := os.ReadFile(filepath.Join(k.root, "stdin"))
	if err != nil || string(stdin) != strings.Repeat("\x01", secretBytes) || k.suspended() {
		t.Errorf("passphrase on standard input: %q, %v", stdin, err)
	}
	want := "luksResume --type luks2 --batch-mode --disable-external-tokens --key-slot 0 --key-file - --keyfile-size 32 --tries 1 --header " +
		k.h.Path + " -- " + final + "\n"
	if got := k.calls(); got != want {
		t.Errorf("tools were asked\n%swant\n%s", got, want)
	}
}

// TestSuspendInsists: a key that is still in the table was not wiped, whatever the tool says.
func TestSuspendInsists(t *testing.T) {
	k, _ := suspendable(t)
	k.script("exit 1", "exit 0")
	wantReason(t, k.Suspend(t.Context(), final), fault.Unknown, "tool")
}

// TestResumeTakesBack: a table that is not ours does not keep its key.
func TestResumeTakesBack(t *testing.T) {
	k, sound := suspendable(t)
	k.suspendScripts(strings.Replace(sound, "sector_size:4096", "allow_discards", 1))
	if err := k.Suspend(t.Context(), final); err != nil {
		t.Fatal(detail(err))
	}
	wantReason(t, k.Resume(t.Context(), k.dev, k.h, 0, final, secretOf(t, 1)), fault.Integrity, string(ruleTable))
	if wiped, err := k.Wiped(t.Context(), final); !wiped || err != nil || !k.suspended() {
		t.Errorf("suspended %v, wiped %v, %v", k.suspended(), wiped, err)
	}
}

// TestResumeOfAGrownVolume: the mapping is as long as the disk was when it was opened.
func TestResumeOfAGrownVolume(t *testing.T) {
	k, _ := suspendable(t)
	k.dev.Bytes *= 2
	if err := os.Truncate(k.dev.Path, k.dev.Bytes); err != nil {
		t.Fatal(err)
	}
	if err := k.Resume(t.Context(), k.dev, k.h, 0, final, secretOf(t, 1)); err != nil {
		t.Fatal(detail(err))
	}
}

// TestResumeWantsTheFrozenHeader: what was checked gives the key, or nothing does.
func TestResumeWantsTheFrozenHeader(t *testing.T) {
	k, _ := suspendable(t)
	flip(t, k.dev, 600)
	wantReason(t, k.Resume(t.Context(), k.dev, k.h, 0, final, secretOf(t, 1)), fault.Integrity, string(ruleChanged))
	flip(t, k.dev, 600)
	if err := k.Resume(t.Context(), k.dev, k.h, 1, final, secretOf(t, 1)); err == nil {
		t.Error("resumed with a keyslot that nobody checked")
	}
	if got := k.calls(); got != "" {
		t.Errorf("tools were asked %s", got)
	}
}

// TestAbandon lets go of the device, and is not taken for done while it is not.
func TestAbandon(t *testing.T) {
	k, _ := suspendable(t)
	if err := k.Suspend(t.Context(), final); err != nil {
		t.Fatal(detail(err))
	}
	if err := k.Abandon(t.Context(), final); err != nil || k.suspended() {
		t.Fatal(detail(err))
	}
	if m, err := k.Mapping(t.Context(), final); err != nil || len(m.Backing) != 0 {
		t.Errorf("%+v, %v", m, err)
	}
	writeTree(t, k.root, map[string]string{"sys/block/dm-3/dm/suspended": "1\n"})
	k.script("exit 1", "exit 0")
	wantReason(t, k.Abandon(t.Context(), final), fault.Unknown, "tool")
}

// TestSuspendCommands keeps the new commands away from what is not ours.
func TestSuspendCommands(t *testing.T) {
	for name, build := range map[string]func(string) (command, error){
		"suspend": suspendCommand, "wipe the key": wipeKeyCommand, "wipe the table": wipeTableCommand,
		"resume": func(m string) (command, error) {
			return resumeOptions{header: "/run/h", mapping: m, passphrase: secretOf(t, 1)}.command()
		},
	} {
		if c, err := build(final); err != nil || c.args[len(c.args)-1] == "" {
			t.Errorf("%s: %v, %v", name, c.args, err)
		}
		for _, bad := range []string{"", "root", "--all", "volseal-", "volseal-a b"} {
			if c, err := build(bad); err == nil {
				t.Errorf("%s of %q: %v", name, bad, c.args)
			}
		}
	}
}

// TestCipher reads it from the kernel's table, and shows nothing else of that.
func TestCipher(t *testing.T) {
	k, sound := suspendable(t)
	for live, want := range map[string]string{
		sound: cipher,
		"0 2064384 crypt capi:xts(aes)-plain64 :64:logon:x 0 259:3 32768": "capi:xts(aes)-plain64",
		"0 2064384 crypt " + cipher + " (key) 0 259:3 32768":              cipher,
		"0 2064384 linear 259:3 32768":                                    "",
		"0 2064384 crypt \x1b[2J :64:logon:x 0 259:3 32768":               "",
		"0 2064384 crypt ": "",
	} {
		k.readTable = func(string) (string, error) { return live + "\n", nil }
		if got, err := k.Cipher(t.Context(), final); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", live, got, err)
		}
	}
}
