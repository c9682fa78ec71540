// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/volseal/volseal/internal/fault"
)

// The binary header, LUKS2 On-Disk Format Specification 1.1.1, section 2.1.
// Integers are big-endian, strings are padded with zeros.
const (
	primaryMagic   = "LUKS\xba\xbe"
	secondaryMagic = "SKUL\xba\xbe"

	offVersion   = 6
	offSize      = 8
	offSequence  = 16
	offLabel     = 24
	lenLabel     = 48
	offKind      = 72 // of the checksum
	lenKind      = 32
	offUUID      = 168 // after 64 bytes of salt
	lenUUID      = 40
	offSubsystem = 208
	lenSubsystem = 48
	offOffset    = 256
	offPadding   = 264
	offChecksum  = 448
	lenChecksum  = 64
	offEnd       = 512 // of the fields; zeros follow to 4096
)

// copyOf is one decoded copy of the header.
type copyOf struct {
	sequence uint64
	uuid     string
	json     []byte // the metadata's text, a view
}

// decodeCopies judges the first 32 KiB of a frozen header: both copies sound,
// in their places, and telling the same.
func decodeCopies(b []byte) (copyOf, *fault.Error) {
	primary, err := decodeCopy(b[:areaBytes], primaryMagic, 0)
	if err != nil {
		return copyOf{}, err
	}
	secondary, err := decodeCopy(b[areaBytes:metadataBytes], secondaryMagic, areaBytes)
	if err != nil {
		return copyOf{}, err
	}
	// cryptsetup would silently repair one from the other and choose which; here
	// they are equal or refused.
	if primary.sequence != secondary.sequence || primary.uuid != secondary.uuid || !bytes.Equal(primary.json, secondary.json) {
		return copyOf{}, refuse(ruleCopies, fmt.Errorf("sequence %d and %d", primary.sequence, secondary.sequence))
	}
	return primary, nil
}

// decodeCopy judges one copy, which must lie at offset.
func decodeCopy(b []byte, magic string, offset uint64) (copyOf, *fault.Error) {
	if err := checkFrame(b, magic, offset); err != nil {
		return copyOf{}, err
	}
	uuid, ok := text(b[offUUID : offUUID+lenUUID])
	if err := validUUID(uuid); !ok || err != nil {
		return copyOf{}, refuse(ruleUUID, err)
	}
	if !isZero(b[offLabel:offLabel+lenLabel]) || !isZero(b[offSubsystem:offSubsystem+lenSubsystem]) {
		return copyOf{}, refuse(ruleLabel, nil)
	}
	if !isZero(b[offPadding:offChecksum]) || !isZero(b[offEnd:binaryBytes]) {
		return copyOf{}, refuse(rulePadding, nil)
	}
	json, err := jsonText(b[binaryBytes:])
	return copyOf{sequence: binary.BigEndian.Uint64(b[offSequence:]), uuid: uuid, json: json}, err
}

// checkFrame settles kind, place and checksum.
func checkFrame(b []byte, magic string, offset uint64) *fault.Error {
	switch {
	case !bytes.HasPrefix(b, []byte(magic)):
		return refuse(ruleMagic, fmt.Errorf("at byte %d", offset))
	case binary.BigEndian.Uint16(b[offVersion:]) != 2:
		return refuse(ruleVersion, nil)
	case binary.BigEndian.Uint64(b[offSize:]) != areaBytes:
		return refuse(ruleAreaSize, nil)
	case binary.BigEndian.Uint64(b[offOffset:]) != offset:
		return refuse(ruleHeaderOffset, nil)
	}
	if kind, ok := text(b[offKind : offKind+lenKind]); !ok || kind != hash {
		return refuse(ruleChecksumKind, nil)
	}
	sum := checksum(b)
	stored := b[offChecksum : offChecksum+lenChecksum]
	if !bytes.Equal(stored[:len(sum)], sum[:]) || !isZero(stored[len(sum):]) {
		return refuse(ruleChecksum, fmt.Errorf("at byte %d", offset))
	}
	return nil
}

// checksum covers the whole copy with its own field as zeros.
func checksum(b []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write(b[:offChecksum])
	h.Write(zeros[:lenChecksum])
	h.Write(b[offChecksum+lenChecksum:])
	return [sha256.Size]byte(h.Sum(nil))
}

// text reads a string padded with zeros; not ok if anything follows the padding
// or the padding is missing.
func text(b []byte) (string, bool) {
	s, rest, found := bytes.Cut(b, []byte{0})
	return string(s), found && isZero(rest)
}

// jsonText cuts the metadata at its end. What cryptsetup would not read, and we
// would not either, has no business there.
func jsonText(area []byte) ([]byte, *fault.Error) {
	end := bytes.IndexByte(area, 0)
	if end < 0 {
		return nil, refuse(ruleJSON, errors.New("no end"))
	}
	if !isZero(area[end:]) {
		return nil, refuse(rulePadding, errors.New("after the metadata"))
	}
	return area[:end], nil
}
