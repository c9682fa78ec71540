// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// Save copies the whole header area of dev, everything before the data, to a
// new file at path (0600), durably: the form of cryptsetup luksHeaderBackup,
// whose luksHeaderRestore takes it. It judges nothing.
func (l *LUKS) Save(ctx context.Context, dev volume.Device, path string) error {
	if err := copyArea(ctx, dev, path); err != nil {
		return err
	}
	if err := errors.Join(syncPath(path), syncPath(filepath.Dir(path))); err != nil {
		os.Remove(path)
		return copyFault(err)
	}
	return nil
}

// copyArea is Save before anything is durable.
func copyArea(ctx context.Context, dev volume.Device, path string) error {
	if err := holdsHeader(dev); err != nil {
		return err
	}
	d, err := openDisk(dev, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer d.close()
	f, err := newFile(path)
	if err != nil {
		return copyFault(err)
	}
	defer f.Close()
	if err := d.copyTo(ctx, f, span{0, headerBytes}); err != nil {
		os.Remove(path)
		return err
	}
	return nil
}

// newFile replaces what an earlier attempt left under that name.
func newFile(path string) (*os.File, error) {
	if err := privateDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
}

// Judge judges an image for dev as Freeze judges what is on it. The Header's
// Path is the image itself.
func (l *LUKS) Judge(dev volume.Device, path string) (*volume.Header, error) {
	return l.judgeImage(dev, path, judge)
}

func (l *LUKS) judgeImage(dev volume.Device, path string, by verdict) (*volume.Header, error) {
	if err := holdsHeader(dev); err != nil {
		return nil, err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return nil, copyFault(err)
	}
	if !info.Mode().IsRegular() || info.Size() != headerBytes {
		return nil, &fault.Error{
			Class: fault.Misconfigured, Reason: "image-size",
			Cause: fmt.Sprintf("%s is not a file of %d bytes, and so no image of a header.", filepath.Base(path), headerBytes),
			Hint:  "Take a file that volseal, or cryptsetup luksHeaderBackup, made of this volume.",
		}
	}
	h, err := judgeFile(path, by)
	if err != nil {
		return nil, err
	}
	if err := h.reaches(dev); err != nil {
		return nil, err
	}
	return h.of(path, dev)
}

// Print is an image's fingerprint: equal to that of a device with this header.
func (l *LUKS) Print(path string) (volume.Fingerprint, error) {
	f, err := os.Open(path)
	if err != nil {
		return volume.Fingerprint{}, copyFault(err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.CopyN(sum, f, fingerprintBytes); err != nil {
		return volume.Fingerprint{}, copyFault(err)
	}
	return volume.Fingerprint(sum.Sum(nil)), nil
}

// Copies judges the two copies of the header on dev apart: of one that is
// damaged it matters whether the other is sound.
func (l *LUKS) Copies(ctx context.Context, dev volume.Device) (volume.HeaderCopies, error) {
	if err := holdsHeader(dev); err != nil {
		return volume.HeaderCopies{}, err
	}
	d, err := openDisk(dev, os.O_RDONLY)
	if err != nil {
		return volume.HeaderCopies{}, err
	}
	defer d.close()
	b, err := newBuffer(metadataBytes)
	if err != nil {
		return volume.HeaderCopies{}, err
	}
	defer b.release()
	if err := d.readAt(ctx, b, 0); err != nil {
		return volume.HeaderCopies{}, err
	}
	return volume.HeaderCopies{
		Primary:   oneCopy(b[:areaBytes], primaryMagic, 0),
		Secondary: oneCopy(b[areaBytes:], secondaryMagic, areaBytes),
		Differ:    differ(b),
	}, nil
}

func oneCopy(b []byte, magic string, offset uint64) volume.HeaderCopy {
	c, err := decodeCopy(b, magic, offset)
	if err != nil {
		return volume.HeaderCopy{Err: err}
	}
	return volume.HeaderCopy{Sequence: binary.BigEndian.Uint64(b[offSequence:]), UUID: c.uuid}
}

func differ(b []byte) error {
	if _, err := decodeCopies(b); err != nil {
		return err
	}
	return nil
}

// Restore writes an image over whatever is in the header area of dev. Without a
// mapping the device must be in nobody's use; with one, in that mapping's alone:
// dm-crypt read the header when it was opened and never does again.
//
// Since dev was found, another disk of its size may have come under its number;
// what else tells them apart, still has to ask, while this holds the number.
//
// The order is WriteHeader's, and so is its reason. What is equal already is not
// written. A power cut in the middle leaves a header that Freeze refuses, or
// whose keyslot does not open; never one that looks blank: it begins with the
// keyslots, which are not zero. It may be repeated at any point.
func (l *LUKS) Restore(ctx context.Context, dev volume.Device, path, mapping string, still func(context.Context) error) error {
	// Never write what would be refused when it is read back. Whether this may be an
	// unfinished reencryption, whoever judged the image has decided.
	if _, err := l.examine(ctx, path, judgeAny); err != nil {
		return err
	}
	image, err := newBuffer(headerBytes)
	if err != nil {
		return err
	}
	defer image.release()
	if err := image.fill(path); err != nil {
		return err
	}
	d, err := l.openForRestore(dev, mapping)
	if err != nil {
		return err
	}
	defer d.close()
	if err := still(ctx); err != nil {
		return err
	}
	b, err := newBuffer(headerBytes)
	if err != nil {
		return err
	}
	defer b.release()
	if err := d.readAt(ctx, b, 0); err != nil {
		return err
	}
	var written []span
	for _, part := range writingOrder() {
		part = part.unlike(b, image)
		if part.from == part.to {
			continue
		}
		if err := d.writeAt(ctx, image[part.from:part.to], part.from); err != nil {
			return err
		}
		written = append(written, part)
	}
	for _, part := range written { // the rest was read just now, and is equal
		if err := d.readBack(ctx, b[part.from:part.to], image[part.from:part.to], part.from); err != nil {
			return err
		}
	}
	return nil
}

// fill reads an image of a header.
func (b buffer) fill(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return copyFault(err)
	}
	defer f.Close()
	if _, err := io.ReadFull(f, b); err != nil {
		return copyFault(err)
	}
	return nil
}

// unlike leaves out the blocks at both ends that are equal already: a keyslot that
// is in use is not written again because another one is new.
func (s span) unlike(a, b []byte) span {
	same := func(at int64) bool { return bytes.Equal(a[at:at+blockBytes], b[at:at+blockBytes]) }
	for s.from < s.to && same(s.from) {
		s.from += blockBytes
	}
	for s.from < s.to && same(s.to-blockBytes) {
		s.to -= blockBytes
	}
	return s
}

func (l *LUKS) openForRestore(dev volume.Device, mapping string) (*disk, error) {
	if err := holdsHeader(dev); err != nil {
		return nil, err
	}
	if mapping == "" {
		return openDisk(dev, os.O_RDWR|unix.O_EXCL)
	}
	d, err := openDisk(dev, os.O_RDWR)
	if err != nil {
		return nil, err
	}
	if err := l.heldBy(dev, mapping); err != nil { // now that the number cannot become another's
		d.close()
		return nil, err
	}
	return d, nil
}

// heldBy makes sure that the device is beneath this mapping and no other.
func (l *LUKS) heldBy(dev volume.Device, mapping string) error {
	only, holders, err := l.onlyHolder(dev, mapping)
	if err != nil || only {
		return err
	}
	return &fault.Error{
		Class: fault.Unknown, Reason: "device-shared",
		Cause: fmt.Sprintf("%s is not in the use of this volume's mapping alone; its header was not written.", dev.Path),
		Hint:  "Find the other user with lsblk " + dev.Path + ", and end that use.",
		Err:   fmt.Errorf("held by %.8q", holders),
	}
}

// holdsHeader refuses a device on which no header of ours can be.
func holdsHeader(dev volume.Device) error {
	if dev.Bytes < headerBytes+sectorBytes || dev.Bytes%sectorBytes != 0 {
		return refuse(ruleDeviceSize, fmt.Errorf("%d bytes", dev.Bytes))
	}
	return nil
}
