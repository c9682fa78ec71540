// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// Open opens dev with the frozen header h and the one keyslot, as pending. It
// returns nil only if cryptsetup reads the header as we do, the live table is
// what policy demands, and nothing else is stacked upon the device; else no
// mapping is left. Reasons beyond those of Reasons: "pending-exists", "busy",
// "device-changed", "device-shared", "tool".
func (l *LUKS) Open(ctx context.Context, dev volume.Device, h *volume.Header, keyslot int, pending string, passphrase *envelope.Secret) error {
	frozen, err := judgeAgain(h)
	if err != nil {
		return err
	}
	c, err := openOptions{device: dev.Path, header: h.Path, keyslot: keyslot, mapping: pending, passphrase: passphrase}.command()
	if err != nil {
		return err
	}
	// Held until the table has been compared: the number in the table then is
	// this device's, and no other's that took its place meanwhile.
	d, err := openDisk(dev, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer d.close()
	if err := l.mayOpen(ctx, d, h, frozen, keyslot, pending); err != nil {
		return err
	}
	switch {
	case frozen.work != nil:
		err = l.openUnfinished(ctx, d, dev, h, frozen, pending, passphrase)
	default:
		err = l.openFrozen(ctx, c, d, dev, h, frozen, pending, keyslot, passphrase)
	}
	if err != nil {
		return errors.Join(err, l.takeBack(ctx, pending))
	}
	return nil
}

func (l *LUKS) openFrozen(ctx context.Context, c command, d *disk, dev volume.Device, h *volume.Header, frozen *header, pending string, keyslot int, passphrase *envelope.Secret) error {
	if err := l.runAndCompare(ctx, c, h.Path, frozen); err != nil {
		return l.explainOpen(ctx, h.Path, keyslot, passphrase, err)
	}
	return l.verify(ctx, d, dev, frozen, pending)
}

// judgeAgain judges a file that was judged before, and so knows whether it may hold
// an unfinished reencryption.
func judgeAgain(h *volume.Header) (*header, error) {
	frozen, err := judgeFile(h.Path, judgeAny)
	if err == nil && (frozen.work != nil) != (h.Unfinished != nil) {
		err = refuse(ruleChanged, errors.New("the frozen copy"))
	}
	return frozen, err
}

// runAndCompare opens a header that policy accepts, and has cryptsetup tell at the
// same time what it reads in it. To start it takes longer than to work, and what is
// open under the pending name is nobody's yet: side by side costs no safety.
func (l *LUKS) runAndCompare(ctx context.Context, c command, header string, frozen *header) error {
	compared := make(chan error, 1)
	go func() { compared <- l.compareViews(ctx, header, frozen) }()
	_, err := l.tools.run(ctx, c)
	if differ := <-compared; differ != nil {
		return differ
	}
	return err
}

// verify settles what can be told only of an open mapping.
func (l *LUKS) verify(ctx context.Context, d *disk, dev volume.Device, frozen *header, pending string) error {
	err := l.verifyTable(tableOf(dev, frozen), pending)
	if fault.ClassOf(err) == fault.Integrity {
		// cryptsetup measured the device itself. If that was resized since it was
		// found, the table is another one, and nobody tampered with anything.
		if changed := d.identify(dev); changed != nil {
			return changed
		}
	}
	if err != nil {
		return err
	}
	return l.alone(ctx, dev, pending)
}

// mayOpen settles what can be settled before the kernel gets a key.
func (l *LUKS) mayOpen(ctx context.Context, d *disk, h *volume.Header, frozen *header, keyslot int, pending string) error {
	if frozen.uuid != h.UUID || !slices.ContainsFunc(frozen.candidates, func(c volume.Candidate) bool { return c.Keyslot == keyslot }) {
		return fmt.Errorf("keyslot %d is no candidate of the frozen header", keyslot)
	}
	if err := d.stillHas(ctx, h.Path); err != nil {
		return err
	}
	m, err := l.Mapping(ctx, pending)
	if err != nil {
		return err
	}
	if m.Present {
		return &fault.Error{
			Class: fault.Unknown, Reason: "pending-exists",
			Cause: "A mapping from an earlier attempt still exists.",
			Hint:  "The next pass closes it.",
		}
	}
	return nil
}

// stillHas compares the device's metadata with the frozen copy. A device that
// was exchanged since must not be opened with another one's key, let alone be
// formatted with it.
func (d *disk) stillHas(ctx context.Context, path string) error {
	frozen, err := readMetadata(path)
	if err != nil {
		return err
	}
	live, err := newBuffer(metadataBytes)
	if err != nil {
		return err
	}
	defer live.release()
	if err := d.readAt(ctx, live, 0); err != nil {
		return err
	}
	if !bytes.Equal(live, frozen) {
		return refuse(ruleChanged, nil)
	}
	return nil
}

// explainOpen turns the failure of cryptsetup open into a fault.
func (l *LUKS) explainOpen(ctx context.Context, header string, keyslot int, passphrase *envelope.Secret, err error) error {
	switch {
	case errors.Is(err, errWrongKey) && errors.Is(l.tryKeyslot(ctx, header, keyslot, passphrase), errWrongKey):
		// The MAC matched, so the key is right and the keyslot's area is not. It was
		// tried a second time without the kernel, because "operation not permitted"
		// from the kernel's keyring or device-mapper has the same exit status.
		return refuse(rulePassphrase, err)
	case errors.Is(err, errExists):
		return &fault.Error{
			Class: fault.Unknown, Reason: "busy",
			Cause: "The device is in use, mounted or mapped under another name.",
			Hint:  "Find its user with lsblk.",
			Err:   err,
		}
	}
	return failed("open the volume", err)
}

// tryKeyslot unlocks a keyslot of a header file in cryptsetup's own memory; no
// mapping is made and nothing reaches the kernel.
func (l *LUKS) tryKeyslot(ctx context.Context, header string, keyslot int, passphrase *envelope.Secret) error {
	c, err := openOptions{header: header, keyslot: keyslot, passphrase: passphrase}.command()
	if err != nil {
		return err
	}
	_, err = l.tools.run(ctx, c)
	return err
}

// takeBack closes what must not stay open, even when ctx has ended.
func (l *LUKS) takeBack(ctx context.Context, mapping string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dmLimit)
	defer cancel()
	return l.Close(ctx, mapping)
}
