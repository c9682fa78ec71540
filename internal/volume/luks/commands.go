// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/volseal/volseal/internal/envelope"
)

// Time limits of tools. Software encryption in an emulated machine needs a
// twentieth of them; a device that hangs must not hold a worker for long.
const (
	dumpLimit   = 30 * time.Second
	formatLimit = time.Minute
	openLimit   = time.Minute
	dmLimit     = 30 * time.Second
	mkfsLimit   = 10 * time.Minute
	// recoverLimit leaves time to bring a hot zone of a reencryption in order.
	recoverLimit = 90 * time.Second
)

// dumpOptions ask for cryptsetup's own view of a frozen header.
type dumpOptions struct{ header string }

func (o dumpOptions) command() (command, error) {
	return command{tool: "cryptsetup", limit: dumpLimit, args: []string{
		"luksDump",
		"--dump-json-metadata",      // the whole metadata, for a program to read
		"--disable-external-tokens", // no plug-in is loaded because a header names it
		"--", o.header,
	}}, absolute(o.header)
}

// formatOptions make a header in an image file.
type formatOptions struct {
	image      string // regular file, larger than headerBytes
	uuid       string
	passphrase *envelope.Secret
}

func (o formatOptions) command() (command, error) {
	return command{tool: "cryptsetup", limit: formatLimit, stdin: o.passphrase.Bytes(), args: []string{
		"luksFormat",
		"--batch-mode", // there is nobody to ask; the image is a file of ours
		"--type", "luks2",
		"--uuid", o.uuid, // ours, so that the claim can record it first
		"--offset", strconv.Itoa(headerBytes / sectorUnit), // fixed: policy knows one layout
		"--luks2-metadata-size", strconv.Itoa(areaBytes),
		"--luks2-keyslots-size", strconv.Itoa(keyslotsBytes), // leaves room to rotate and to reencrypt online
		"--cipher", cipher,
		"--key-size", strconv.Itoa(keyBytes * 8), // in bits; XTS uses two AES-256 keys
		"--sector-size", strconv.Itoa(sectorBytes), // an eighth of the per-sector work; databases write pages of 4 KiB and more
		"--hash", hash,
		"--pbkdf", "pbkdf2", // see kdfIterations
		"--pbkdf-force-iterations", strconv.Itoa(kdfIterations),
		"--key-slot", "0",
		"--key-file", "-", // raw bytes from standard input, no newline handling
		"--keyfile-size", strconv.Itoa(secretBytes),
		"--", o.image,
	}}, errors.Join(absolute(o.image), validUUID(o.uuid), validPassphrase(o.passphrase))
}

// importOptions put a token into an image.
type importOptions struct {
	image string
	id    int    // chosen by us: cryptsetup would take the first that is free
	token []byte // JSON, names its keyslot
}

func (o importOptions) command() (command, error) {
	var err error
	if len(o.token) == 0 || len(o.token) > maxStdin {
		err = fmt.Errorf("token of %d bytes", len(o.token))
	}
	return command{tool: "cryptsetup", limit: formatLimit, stdin: o.token, args: []string{
		"token", "import",
		"--disable-external-tokens", // no plug-in judges our token
		"--json-file", "-",
		"--token-id", strconv.Itoa(o.id),
		"--", o.image,
	}}, errors.Join(err, validTokenID(o.id), absolute(o.image))
}

// openOptions open a device, or only try the passphrase if mapping is empty.
type openOptions struct {
	device     string // "" with an empty mapping
	header     string // the frozen copy
	keyslot    int
	mapping    string
	passphrase *envelope.Secret
}

func (o openOptions) command() (command, error) {
	args := []string{
		"open",
		"--type", "luks2", // never LUKS1, plain or anything else that could be guessed
		"--batch-mode",
		"--disable-external-tokens",           // cryptsetup tries tokens first, even when given a key file
		"--key-slot", strconv.Itoa(o.keyslot), // the one under the MAC, no other
		"--key-file", "-",
		"--keyfile-size", strconv.Itoa(secretBytes),
		"--tries", "1",
	}
	if o.mapping == "" {
		args = append(args, "--test-passphrase", "--", o.header)
	} else {
		args = append(args,
			"--header", o.header, // what was checked is what is opened
			// dm-crypt's queues add latency for nothing where AES is done by the CPU.
			"--perf-no_read_workqueue", "--perf-no_write_workqueue",
			// No --persistent: it would write into the header, here a copy. No
			// --allow-discards: it shows which blocks hold data, and on EBS a discard
			// saves nothing.
			"--", o.device, o.mapping)
	}
	return command{tool: "cryptsetup", limit: openLimit, stdin: o.passphrase.Bytes(), args: args},
		errors.Join(o.validate(), validPassphrase(o.passphrase))
}

func (o openOptions) validate() error {
	errs := []error{absolute(o.header)}
	if o.keyslot < 0 || o.keyslot > 31 {
		errs = append(errs, fmt.Errorf("keyslot %d", o.keyslot))
	}
	if o.mapping != "" {
		errs = append(errs, absolute(o.device), validMapping(o.mapping))
	}
	return errors.Join(errs...)
}

// renameCommand waits for udev (the default), so that links and units are there
// when it returns.
func renameCommand(from, to string) (command, error) {
	return command{tool: "dmsetup", limit: dmLimit, args: []string{"rename", "--", from, to}},
		errors.Join(validMapping(from), validMapping(to))
}

// removeCommand wipes the key from the kernel. dmsetup rather than cryptsetup
// close: that would first read the header on the device, which nobody checked.
func removeCommand(mapping string) (command, error) {
	return command{tool: "dmsetup", limit: dmLimit, args: []string{
		"remove",
		"--retry", // udev may be probing the device just now
		// No --deferred: a mapping that lives on after we said "closed" would be a lie.
		// No --force: it replaces the table under a mounted file system.
		"--", mapping,
	}}, validMapping(mapping)
}

// openCountCommand prints by how many openers a mapping is held.
func openCountCommand(mapping string) (command, error) {
	return command{tool: "dmsetup", limit: dmLimit, args: []string{
		"info", "--columns", "--noheadings", "--options", "open", "--", mapping,
	}}, validMapping(mapping)
}

// mkfsCommand makes a file system on a mapping's device node.
func mkfsCommand(filesystem, node string) (command, error) {
	switch filesystem {
	case "ext4":
		return command{tool: "mkfs.ext4", limit: mkfsLimit, args: []string{
			"-q",
			"-F", // whatever is there: decrypted zeros look like anything. Once: a mounted device is still refused
			// Discards do not pass dm-crypt here. The inode tables are zeroed in the
			// background after the mount: a 16 TiB volume has 256 GiB of them. The journal
			// is zeroed now: 1 GiB at most, and recovery would read it.
			"-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=0",
			node,
		}}, absolute(node)
	case "xfs":
		return command{tool: "mkfs.xfs", limit: mkfsLimit, args: []string{
			"-q",
			"-f", // as above
			"-K", // no discard
			node,
		}}, absolute(node)
	}
	return command{}, fmt.Errorf("file system %q is neither ext4 nor xfs", filesystem)
}

var (
	uuidForm    = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	mappingForm = regexp.MustCompile(`^volseal-[a-z0-9][a-z0-9-]{0,31}(\.pending)?$`)
)

func validUUID(s string) error {
	if !uuidForm.MatchString(s) {
		return fmt.Errorf("UUID %q is malformed", s)
	}
	return nil
}

// validMapping keeps every command away from mappings that are not ours.
func validMapping(s string) error {
	if !mappingForm.MatchString(s) {
		return fmt.Errorf("mapping name %q is not one of ours", s)
	}
	return nil
}

// absolute also keeps cryptsetup from reading UUID= or LABEL= as a search.
func absolute(path string) error {
	if len(path) == 0 || path[0] != '/' {
		return fmt.Errorf("path %q is not absolute", path)
	}
	return nil
}

func validPassphrase(s *envelope.Secret) error {
	if len(s.Bytes()) != secretBytes {
		return fmt.Errorf("passphrase is %d bytes long, want %d", len(s.Bytes()), secretBytes)
	}
	return nil
}
