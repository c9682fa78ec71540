// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// reencryptRoom is what cryptsetup is shown behind the header of an image: it
// wants to see data, and touches none of it.
const reencryptRoom = 4 << 20

// BeginReencryption makes at path (0600, durable) an image of the header on dev
// with a new volume key, under which nothing is encrypted yet: the keyslot of keep,
// which passphrase opens, and another one for the new key, which passphrase opens
// as well, with the token that seal returns. That token's meaning is the header as
// it will be when all is done. dev is only read.
func (l *LUKS) BeginReencryption(ctx context.Context, dev volume.Device, path string, keep envelope.Token, passphrase *envelope.Secret, seal func(keyslot int, meaning []byte) (envelope.Token, error)) (err error) {
	image := path + ".new"
	if err := copyArea(ctx, dev, image); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(image)
		}
	}()
	if err := settleCopies(image); err != nil { // an earlier attempt may have been cut short
		return err
	}
	if err := l.setTokens(ctx, image, []envelope.Token{keep}); err != nil {
		return err
	}
	if err := l.initReencryption(ctx, image, keep, passphrase); err != nil {
		return err
	}
	want, err := sealBothSides(image, keep, seal)
	if err != nil {
		return err
	}
	h, err := l.examine(ctx, image, judgeAny)
	if err != nil {
		return err
	}
	if h.work == nil || h.work.done(dev.Bytes-headerBytes) != 0 || !sameTokens(h.candidates, want) {
		return errors.New("the header that was built does not hold the reencryption that was asked for")
	}
	return commit(image, path)
}

func (l *LUKS) initReencryption(ctx context.Context, image string, keep envelope.Token, passphrase *envelope.Secret) error {
	_, _, taken, err := layoutOf(image)
	if err != nil {
		return err
	}
	if n := slices.Index(taken[:], true); n < 0 || slices.Contains(taken[n+1:], true) {
		return &fault.Error{
			Class: fault.Misconfigured, Reason: "token-foreign",
			Cause: "The header has tokens that are not volseal's; a reencryption would bind them to the new key.",
			Hint:  "Take them out first: cryptsetup luksDump shows them, cryptsetup token remove removes one.",
		}
	}
	slot, ok := number(keep.Keyslots[0])
	if !ok {
		return fmt.Errorf("keyslot %.8q", keep.Keyslots[0])
	}
	c, err := initReencryptOptions{image: image, keyslot: slot, passphrase: passphrase}.command()
	if err != nil {
		return err
	}
	if err := os.Truncate(image, headerBytes+reencryptRoom); err != nil {
		return copyFault(err)
	}
	if _, err := l.tools.run(ctx, c); err != nil {
		return failed("begin the reencryption in an image", err)
	}
	if err := os.Truncate(image, headerBytes); err != nil {
		return copyFault(err)
	}
	return nil
}

// sealBothSides leaves keep with its own keyslot, to which cryptsetup has bound it
// beside the new one, and has the token of the new one sealed. It writes the
// metadata itself: cryptsetup changes no tokens while there is a reencryption.
func sealBothSides(image string, keep envelope.Token, seal func(int, []byte) (envelope.Token, error)) ([]envelope.Token, error) {
	b, err := readMetadata(image)
	if err != nil {
		return nil, err
	}
	c, refused := decodeCopies(b)
	if refused != nil {
		return nil, refused
	}
	u, _, refused := decodeUnfinished(c.json)
	if refused != nil {
		return nil, refused
	}
	_, after, refused := u.sides()
	if refused != nil {
		return nil, refused
	}
	meaning, err := after.meta.meaning(c.uuid, after.slot)
	if err != nil {
		return nil, err
	}
	slot, _ := number(after.slot)
	added, err := seal(slot, meaning)
	if err != nil {
		return nil, err
	}
	u.Tokens = map[string]json.RawMessage{}
	for id, t := range []envelope.Token{keep, added} {
		if u.Tokens[strconv.Itoa(id)], err = t.Encode(); err != nil {
			return nil, err
		}
	}
	text, err := envelope.Canonical(u)
	if err != nil {
		return nil, err
	}
	return []envelope.Token{keep, added}, writeMetadata(image, b, text)
}

// writeMetadata puts other metadata into both copies of a header that was read from an
// image of ours.
func writeMetadata(image string, b, text []byte) error {
	if len(text) >= jsonBytes {
		return fmt.Errorf("metadata of %d bytes", len(text))
	}
	for _, c := range [][]byte{b[:areaBytes], b[areaBytes:metadataBytes]} {
		area := c[binaryBytes:]
		clear(area[copy(area, text):])
		binary.BigEndian.PutUint64(c[offSequence:], binary.BigEndian.Uint64(c[offSequence:])+1)
		sign(c)
	}
	return writeCopies(image, b)
}

// sign puts a copy's checksum in its place.
func sign(c []byte) {
	sum := checksum(c) // takes its own field for zeros; the rest of which they are already
	copy(c[offChecksum:], sum[:])
}

// writeCopies puts both copies of a header into an image of ours.
func writeCopies(image string, b []byte) error {
	f, err := os.OpenFile(image, os.O_WRONLY, 0)
	if err != nil {
		return copyFault(err)
	}
	_, err = f.WriteAt(b[:metadataBytes], 0)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return copyFault(err)
	}
	return nil
}

// JudgeAny is Judge for an image that may hold an unfinished reencryption.
func (l *LUKS) JudgeAny(dev volume.Device, path string) (*volume.Header, error) {
	return l.judgeImage(dev, path, judgeAny)
}

// Progress tells how far the reencryption on dev is: one read of 32 KiB, no
// process. Without one the answer is nil.
func (l *LUKS) Progress(ctx context.Context, dev volume.Device) (*volume.Unfinished, error) {
	d, err := openDisk(dev, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer d.close()
	h, err := d.judgeNow(ctx)
	if err != nil {
		return nil, err
	}
	return h.unfinished(dev), nil
}

// judgeNow judges what is on the device at this moment.
func (d *disk) judgeNow(ctx context.Context) (*header, error) {
	b, err := newBuffer(metadataBytes)
	if err != nil {
		return nil, err
	}
	defer b.release()
	if err := d.readAt(ctx, b, 0); err != nil {
		return nil, err
	}
	h, refused := judgeAny(bytes.Clone(b))
	if refused != nil {
		return nil, refused
	}
	return h, nil
}

// openUnfinished opens a device with an unfinished reencryption. cryptsetup gets no
// frozen copy: what a hot zone is recovered by, and that it was, is written into the
// header that is read, and has to be on the disk before the data is used. What
// was judged is compared with the disk just before, and the disk with it after: all
// but how far it is must be the same, and the kernel's table what the disk then says.
func (l *LUKS) openUnfinished(ctx context.Context, d *disk, dev volume.Device, h *volume.Header, frozen *header, pending string, passphrase *envelope.Secret) error {
	c, err := openWorkOptions{device: dev.Path, mapping: pending, passphrase: passphrase}.command()
	if err != nil {
		return err
	}
	if err := l.compareViews(ctx, h.Path, frozen); err != nil {
		return err
	}
	if _, err := l.tools.run(ctx, c); err != nil {
		return failed("open the volume, whose reencryption has not finished", err)
	}
	now, err := d.judgeNow(ctx)
	if err != nil {
		return err
	}
	if now.work == nil || !bytes.Equal(now.work.identity, frozen.work.identity) || now.uuid != frozen.uuid {
		return refuse(ruleChanged, errors.New("by the opening itself"))
	}
	if err := now.reaches(dev); err != nil {
		return err
	}
	live, err := l.readTable(pending)
	if err != nil {
		return failed("read the table of the mapping", err)
	}
	if err := matchAll(workTables(dev, now), live); err != nil {
		return refuse(ruleTable, err)
	}
	return l.alone(ctx, dev, pending)
}

// ReencryptCommand is what the unit of a reencryption runs; the passphrase is its
// standard input. hotzone is in bytes: I/O to so much waits while it is moved from
// one key to the other. Errors: the release of cryptsetup is unfit.
func (l *LUKS) ReencryptCommand(ctx context.Context, mapping string, hotzone int64) (volume.Command, error) {
	file, err := l.tools.find("cryptsetup")
	if err != nil {
		return volume.Command{}, err
	}
	v, err := l.Version(ctx)
	if err != nil {
		return volume.Command{}, err
	}
	if v.CorruptsReencryption() {
		return volume.Command{}, &fault.Error{
			Class: fault.Misconfigured, Reason: "cryptsetup-corrupts",
			Cause: "cryptsetup " + v.String() + " can lose data when it reencrypts a volume that is in use.",
			Hint:  "Update it to 2.7.5 or later (or use 2.6). Nothing was begun with this release.",
		}
	}
	if hotzone < sectorBytes || hotzone%sectorBytes != 0 {
		return volume.Command{}, fmt.Errorf("hot zone of %d bytes", hotzone)
	}
	return volume.Command{Path: file, Args: []string{
		"reencrypt",
		"--resume-only", // never begins one: that is done in an image, and judged
		"--batch-mode",
		"--disable-external-tokens",
		"--resilience", "checksum", // a torn sector of a hot zone is told from a whole one
		"--hotzone-size", strconv.FormatInt(hotzone, 10), // the default suspends I/O to nearly all of a small volume
		"--key-file", "-",
		"--keyfile-size", strconv.Itoa(secretBytes),
		"--active-name", mapping,
	}}, validMapping(mapping)
}

// initReencryptOptions begin a reencryption in an image.
type initReencryptOptions struct {
	image      string
	keyslot    int
	passphrase *envelope.Secret
}

func (o initReencryptOptions) command() (command, error) {
	return command{tool: "cryptsetup", limit: formatLimit, stdin: o.passphrase.Bytes(), args: []string{
		"reencrypt",
		"--init-only",
		"--batch-mode",              // there is nobody to ask; the image is a file of ours
		"--force-offline-reencrypt", // the image is no device
		"--disable-external-tokens",
		"--resilience", "checksum",
		"--hotzone-size", strconv.Itoa(reencryptRoom),
		"--hash", hash,
		"--pbkdf", "pbkdf2", // see kdfIterations
		"--pbkdf-force-iterations", strconv.Itoa(kdfIterations),
		"--key-slot", strconv.Itoa(o.keyslot),
		"--key-file", "-",
		"--keyfile-size", strconv.Itoa(secretBytes),
		"--", o.image,
	}}, errors.Join(validTokenID(o.keyslot), absolute(o.image), validPassphrase(o.passphrase))
}

// openWorkOptions open a device with an unfinished reencryption, or, without a
// mapping, try the passphrase on a copy of its header. Both keyslots are needed, so
// none is named: there are no others.
type openWorkOptions struct {
	device     string
	mapping    string
	passphrase *envelope.Secret
}

func (o openWorkOptions) command() (command, error) {
	args := []string{
		"open",
		"--type", "luks2",
		"--batch-mode",
		"--disable-external-tokens",
		"--key-file", "-",
		"--keyfile-size", strconv.Itoa(secretBytes),
		"--tries", "1",
	}
	err := errors.Join(absolute(o.device), validPassphrase(o.passphrase))
	limit := openLimit
	if o.mapping == "" {
		args = append(args, "--test-passphrase", "--", o.device)
	} else {
		limit = recoverLimit
		err = errors.Join(err, validMapping(o.mapping))
		args = append(args, "--perf-no_read_workqueue", "--perf-no_write_workqueue", "--", o.device, o.mapping)
	}
	return command{tool: "cryptsetup", limit: limit, stdin: o.passphrase.Bytes(), args: args}, err
}
