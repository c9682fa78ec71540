// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"bytes"
	"context"
	"os"

	"golang.org/x/sys/unix"

	"github.com/volseal/volseal/internal/volume"
)

// WriteHeader puts a header image onto a device that is blank, or holds part of
// that very image from an earlier attempt; anything else is refused with Reason
// "not-blank". It may be repeated after a crash at any point.
//
// It writes itself rather than have cryptsetup luksHeaderRestore do it, because
// the order decides what a power cut leaves, and that tool promises none: it
// writes all of it through the page cache and syncs once. Here it is keyslots,
// secondary header, primary header, each durable before the next is begun. So
// at any moment the device has no header at all, or a secondary one with all
// its keyslots in place, or both; a primary header never speaks of a keyslot
// that is not there. A primary header torn in the middle fails its checksum.
// Besides, luksHeaderRestore takes any header, over anything, when it runs in
// batch mode; here only blank blocks are overwritten, checked through the same
// exclusive opening.
func (l *LUKS) WriteHeader(ctx context.Context, dev volume.Device, path string) error {
	if _, err := l.examine(ctx, path, judge); err != nil {
		return err // never write what Freeze would refuse to read back
	}
	image, err := readImage(path)
	if err != nil {
		return err
	}
	d, err := openDisk(dev, os.O_RDWR|unix.O_EXCL)
	if err != nil {
		return err
	}
	defer d.close()
	b, err := newBuffer(headerBytes)
	if err != nil {
		return err
	}
	defer b.release()
	if err := d.onlyResidue(ctx, b, image); err != nil {
		return err
	}
	copy(b, image)
	for _, part := range writingOrder() {
		if err := d.writeAt(ctx, b[part.from:part.to], part.from); err != nil {
			return err
		}
	}
	return d.readBack(ctx, b, image, 0)
}

// writingOrder is keyslots, secondary header, primary header; see WriteHeader.
func writingOrder() []span {
	return []span{{metadataBytes, headerBytes}, {areaBytes, metadataBytes}, {0, areaBytes}}
}

// onlyResidue checks again, in the header area, what CheckBlank may have found
// hours ago.
func (d *disk) onlyResidue(ctx context.Context, b buffer, image []byte) error {
	if err := d.readAt(ctx, b, 0); err != nil {
		return err
	}
	s := scan{image: image}
	if at := s.firstAlien(b, 0); at >= 0 {
		return notBlank(at)
	}
	return nil
}

// readBack bypasses the page cache like every reading here: it asks the device.
func (d *disk) readBack(ctx context.Context, b buffer, written []byte, off int64) error {
	clear(b)
	if err := d.readAt(ctx, b, off); err != nil {
		return err
	}
	if !bytes.Equal(b, written) {
		return refuse(ruleReadBack, nil)
	}
	return nil
}
