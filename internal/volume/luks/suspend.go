// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// suspendLimit leaves time to flush what the database has written and the disk
// has not got yet; the kernel does that before it suspends.
const suspendLimit = 5 * time.Minute

// Suspend flushes and freezes the file system, suspends the mapping and wipes
// its key. Both halves may be repeated. dmsetup rather than cryptsetup
// luksSuspend: that would first read the header on the device, which nobody
// checked, and refuses to wipe the key of a mapping that is suspended already.
func (l *LUKS) Suspend(ctx context.Context, mapping string) error {
	for _, build := range []func(string) (command, error){suspendCommand, wipeKeyCommand} {
		c, err := build(mapping)
		if err != nil {
			return err
		}
		if _, err := l.tools.run(ctx, c); err != nil {
			return failed("freeze the mapping", err)
		}
	}
	wiped, err := l.Wiped(ctx, mapping)
	if err == nil && !wiped {
		err = failed("freeze the mapping", errors.New("the key is still in the table"))
	}
	return err
}

// Wiped looks at the key field of the live table. Ours names a keyring's key; the
// kernel forgets that name together with the key, and shows zeros.
func (l *LUKS) Wiped(_ context.Context, mapping string) (bool, error) {
	live, err := l.readTable(mapping)
	if err != nil {
		return false, failed("read the table of the mapping", err)
	}
	const target, keyField = 2, 4
	for line := range strings.Lines(live) {
		f := strings.Fields(line)
		if len(f) <= keyField || f[target] != "crypt" || f[keyField] != strings.Repeat("0", 2*keyBytes) {
			return false, nil
		}
	}
	return live != "", nil
}

// cipherForm is what the kernel takes for one (dm-crypt.rst), and safe to print.
var cipherForm = regexp.MustCompile(`^[a-z0-9:()_-]{1,64}$`)

// Cipher reads the live table, which no pass needs and so only who asks for it
// pays for.
func (l *LUKS) Cipher(_ context.Context, mapping string) (string, error) {
	live, err := l.readTable(mapping)
	if err != nil {
		return "", failed("read the table of the mapping", err)
	}
	f := strings.Fields(live)
	const target, cipherField = 2, 3
	if len(f) <= cipherField || f[target] != "crypt" || !cipherForm.MatchString(f[cipherField]) {
		return "", failed("read the table of the mapping", errors.New("it names no cipher"))
	}
	return f[cipherField], nil
}

// Resume is Open for a mapping that is there already. Reasons as Open's.
func (l *LUKS) Resume(ctx context.Context, dev volume.Device, h *volume.Header, keyslot int, mapping string, passphrase *envelope.Secret) error {
	frozen, err := judgeFile(h.Path, judge)
	if err != nil {
		return err
	}
	if frozen.uuid != h.UUID || !slices.ContainsFunc(frozen.candidates, func(c volume.Candidate) bool { return c.Keyslot == keyslot }) {
		return fmt.Errorf("keyslot %d is no candidate of the frozen header", keyslot)
	}
	c, err := resumeOptions{header: h.Path, keyslot: keyslot, mapping: mapping, passphrase: passphrase}.command()
	if err != nil {
		return err
	}
	d, err := openDisk(dev, os.O_RDONLY) // held as in Open
	if err != nil {
		return err
	}
	defer d.close()
	if err := d.stillHas(ctx, h.Path); err != nil {
		return err
	}
	if err := l.compareViews(ctx, h.Path, frozen); err != nil {
		return err
	}
	if _, err := l.tools.run(ctx, c); err != nil {
		if errors.Is(err, errWrongKey) && errors.Is(l.tryKeyslot(ctx, h.Path, keyslot, passphrase), errWrongKey) {
			return refuse(rulePassphrase, err)
		}
		return failed("resume the volume", err)
	}
	return l.verifyResumed(ctx, tableOf(dev, frozen), mapping)
}

// verifyResumed takes the key away again if the table is not what it was when
// the mapping was opened. The device may have grown since.
func (l *LUKS) verifyResumed(ctx context.Context, want table, mapping string) error {
	live, err := l.readTable(mapping)
	if err != nil {
		return failed("read the table of the mapping", err)
	}
	if f := strings.Fields(live); len(f) > 1 {
		if n, err := strconv.ParseInt(f[1], 10, 64); err == nil && n > 0 && n < want.sectors {
			want.sectors = n
		}
	}
	if err := want.matches(live); err != nil {
		refused := refuse(ruleTable, err)
		refused.Cause = "The resumed mapping is not the one that policy demands; it was suspended again."
		return errors.Join(refused, l.Suspend(context.WithoutCancel(ctx), mapping))
	}
	return nil
}

// Abandon puts a table in place that fails all I/O. The kernel then ends the
// suspension, thaws the file system, and drops the old table with its device.
func (l *LUKS) Abandon(ctx context.Context, mapping string) error {
	c, err := wipeTableCommand(mapping)
	if err != nil {
		return err
	}
	if _, err := l.tools.run(ctx, c); err != nil {
		return failed("fail the I/O of the mapping", err)
	}
	m, err := l.Mapping(ctx, mapping)
	if err == nil && m.Suspended {
		err = &fault.Error{Class: fault.Unknown, Reason: "tool", Cause: "The mapping is still suspended.", Hint: "See dmsetup info " + mapping + "."}
	}
	return err
}

// suspendCommand freezes the file system first (the default), so that a power
// cut while it is suspended finds it whole.
func suspendCommand(mapping string) (command, error) {
	return command{tool: "dmsetup", limit: suspendLimit, args: []string{"suspend", "--", mapping}}, validMapping(mapping)
}

// wipeKeyCommand is dm-crypt's own message; it works on suspended mappings only
// (Documentation/admin-guide/device-mapper/dm-crypt.rst).
func wipeKeyCommand(mapping string) (command, error) {
	return command{tool: "dmsetup", limit: dmLimit, args: []string{"message", "--", mapping, "0", "key", "wipe"}}, validMapping(mapping)
}

func wipeTableCommand(mapping string) (command, error) {
	return command{tool: "dmsetup", limit: dmLimit, args: []string{"wipe_table", "--", mapping}}, validMapping(mapping)
}

// resumeOptions give a suspended mapping its key back.
type resumeOptions struct {
	header     string // the frozen copy
	keyslot    int
	mapping    string
	passphrase *envelope.Secret
}

func (o resumeOptions) command() (command, error) {
	var err error
	if o.keyslot < 0 || o.keyslot > 31 {
		err = fmt.Errorf("keyslot %d", o.keyslot)
	}
	return command{tool: "cryptsetup", limit: openLimit, stdin: o.passphrase.Bytes(), args: []string{
			"luksResume",
			"--type", "luks2",
			"--batch-mode",
			"--disable-external-tokens",           // as in opening
			"--key-slot", strconv.Itoa(o.keyslot), // the one under the MAC, no other
			"--key-file", "-",
			"--keyfile-size", strconv.Itoa(secretBytes),
			"--tries", "1",
			"--header", o.header, // what was checked is what gives the key
			"--", o.mapping,
		}},
		errors.Join(err, absolute(o.header), validMapping(o.mapping), validPassphrase(o.passphrase))
}
