// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"

	"github.com/volseal/volseal/internal/volume"
)

// Look reads the header area (16 MiB at most, less where the first bytes
// decide). It holds nothing open and starts no process. Errors do not blame the
// disk: an unreadable one, or one that changed meanwhile.
func (l *LUKS) Look(ctx context.Context, dev volume.Device) (volume.HeaderFact, error) {
	d, err := openDisk(dev, os.O_RDONLY)
	if err != nil {
		return volume.HeaderFact{}, err
	}
	defer d.close()
	b, err := newBuffer(ioChunk)
	if err != nil {
		return volume.HeaderFact{}, err
	}
	defer b.release()
	if dev.Bytes < headerBytes {
		return volume.HeaderFact{State: volume.HeaderForeign, What: "device smaller than a header"}, nil
	}
	first := b[:blockBytes]
	if err := d.readAt(ctx, first, 0); err != nil {
		return volume.HeaderFact{}, err
	}
	if bytes.HasPrefix(first, []byte(primaryMagic)) { // what nearly every pass sees
		return recogniseLUKS(first), nil
	}
	if err := d.readAt(ctx, b, 0); err != nil {
		return volume.HeaderFact{}, err
	}
	if fact := recognise(b); fact.State != volume.HeaderBlank {
		return fact, nil
	}
	return d.lookFurther(ctx, b)
}

// lookFurther reads the rest of the header area. Only a whole area of zeros is
// blank: a damaged header must not look like an invitation.
func (d *disk) lookFurther(ctx context.Context, b buffer) (volume.HeaderFact, error) {
	for off := int64(len(b)); off < headerBytes; off += int64(len(b)) {
		if err := d.readAt(ctx, b, off); err != nil {
			return volume.HeaderFact{}, err
		}
		if !isZero(b) {
			return volume.HeaderFact{State: volume.HeaderForeign, What: whatUnknown}, nil
		}
	}
	return volume.HeaderFact{State: volume.HeaderBlank}, nil
}

// recognise judges the first MiB: Blank if all of that is zero.
func recognise(b []byte) volume.HeaderFact {
	if bytes.HasPrefix(b, []byte(primaryMagic)) {
		return recogniseLUKS(b)
	}
	if isZero(b) {
		return volume.HeaderFact{State: volume.HeaderBlank}
	}
	return volume.HeaderFact{State: volume.HeaderForeign, What: recogniseForeign(b)}
}

func recogniseLUKS(b []byte) volume.HeaderFact {
	switch binary.BigEndian.Uint16(b[6:]) {
	case 1:
		return volume.HeaderFact{State: volume.HeaderForeign, What: "LUKS1 header"}
	case 2:
		uuid, ok := text(b[offUUID : offUUID+lenUUID])
		if !ok || !uuidForm.MatchString(uuid) {
			uuid = ""
		}
		return volume.HeaderFact{State: volume.HeaderLUKS2, UUID: uuid}
	}
	return volume.HeaderFact{State: volume.HeaderForeign, What: "LUKS header of an unknown version"}
}

const whatUnknown = "block of unknown data"

// signature is a mark by which a format is known.
type signature struct {
	what   string
	offset int
	mark   string
}

// signatures in the order in which they are tried: the specific before what
// shares its place with others.
func signatures() []signature {
	s := []signature{
		{"xfs file system", 0, "XFSB"},
		{"ext2, ext3 or ext4 file system", 0x438, "\x53\xef"},
		{"btrfs file system", 0x10040, "_BHRfS_M"},
		{"swap area", 4096 - 10, "SWAPSPACE2"},
		{"swap area", 4096 - 10, "SWAP-SPACE"},
		{"Linux RAID member", 4096, "\xfc\x4e\x2b\xa9"},
		{"Linux RAID member", 0, "\xfc\x4e\x2b\xa9"},
		{"GPT partition table", 512, "EFI PART"},
		{"GPT partition table", 4096, "EFI PART"},
	}
	for sector := range 4 {
		s = append(s, signature{"LVM2 physical volume", sector*512 + 24, "LVM2 001"})
	}
	// The places cryptsetup searches for a second header.
	for off := areaBytes; off <= 512<<10; off *= 2 {
		s = append(s, signature{"LUKS2 header whose primary copy is missing", off, secondaryMagic})
	}
	return append(s, signature{"partition table or boot sector", 510, "\x55\xaa"})
}

func recogniseForeign(b []byte) string {
	for _, s := range signatures() {
		if bytes.HasPrefix(b[s.offset:], []byte(s.mark)) {
			return s.what
		}
	}
	return whatUnknown
}
