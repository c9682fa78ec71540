// SPDX-License-Identifier: Apache-2.0

// Package luksedit is an attacker with the raw volume: it changes a LUKS2
// header and makes every checksum right again, so that only policy or the MAC
// can object. It knows the on-disk format by itself and shares no code with the
// product: a mistake must not be made on both sides. It judges nothing.
package luksedit

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

// The sizes of a header with the default 16 KiB metadata area.
const (
	Bytes    = 2 * copySize // what Load and Store move: both copies
	copySize = 16 << 10
	binSize  = 4 << 10
)

// Field is a range of a binary header (LUKS2 On-Disk Format 1.1.1, section 2.1).
type Field struct{ Offset, Size int }

// The fields of a binary header. The checksum has none: Seal owns it.
var (
	Magic        = Field{0, 6}
	Version      = Field{6, 2}
	HeaderSize   = Field{8, 8}
	Sequence     = Field{16, 8}
	Label        = Field{24, 48}
	ChecksumKind = Field{72, 32}
	Salt         = Field{104, 64}
	UUID         = Field{168, 40}
	Subsystem    = Field{208, 48}
	HeaderOffset = Field{256, 8}
	Padding      = Field{264, 184}
	Padding4096  = Field{512, 3584}
	checksum     = Field{448, 64}
)

// Copy selects one of the two headers.
type Copy int

// The two copies.
const (
	Primary Copy = iota
	Secondary
)

// Header is both copies as they lie on a disk, from its start: 32 KiB, unless
// they are of another size.
type Header []byte

// Load reads the header of a device or image file.
func Load(path string) (Header, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("load header: %w", err)
	}
	defer f.Close()
	h := make(Header, Bytes)
	if _, err := f.ReadAt(h, 0); err != nil {
		return nil, fmt.Errorf("load header: %w", err)
	}
	return h, nil
}

// Store writes the header back to the same place.
func (h Header) Store(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("store header: %w", err)
	}
	_, err = f.WriteAt(h, 0)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("store header: %w", err)
	}
	return nil
}

// of returns the bytes of one copy.
func (h Header) of(c Copy) []byte {
	size := len(h) / 2
	return h[int(c)*size : (int(c)+1)*size]
}

// Grow returns the same header with copies of another size, both sealed.
func (h Header) Grow(size int) (Header, error) {
	if size < copySize {
		return nil, fmt.Errorf("a copy of %d bytes holds no header", size)
	}
	big := make(Header, 2*size)
	for _, c := range []Copy{Primary, Secondary} {
		copy(big.of(c), h.of(c))
		big.SetNumber(c, HeaderSize, uint64(size))
		big.SetNumber(c, HeaderOffset, uint64(int(c)*size))
	}
	return big, nil
}

// Text returns the JSON text of a copy.
func (h Header) Text(c Copy) []byte {
	text, _, _ := bytes.Cut(h.of(c)[binSize:], []byte{0})
	return text
}

// Metadata decodes the primary copy's JSON. Numbers are json.Number.
func (h Header) Metadata() (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(h.Text(Primary)))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		return nil, fmt.Errorf("decode metadata: %w", err)
	}
	return m, nil
}

// Edit changes the metadata in both copies and seals them.
func (h Header) Edit(change func(metadata map[string]any)) error {
	m, err := h.Metadata()
	if err != nil {
		return err
	}
	change(m)
	raw, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode metadata: %w", err)
	}
	if err := h.SetText(Primary, raw); err != nil {
		return err
	}
	return h.SetText(Secondary, raw)
}

// SetText replaces a copy's JSON area by text and zeros, and seals the copy.
func (h Header) SetText(c Copy, text []byte) error {
	area := h.of(c)[binSize:]
	if len(text) > len(area) {
		return fmt.Errorf("metadata of %d bytes does not fit %d", len(text), len(area))
	}
	clear(area[copy(area, text):])
	h.Seal(c)
	return nil
}

// Set replaces a field of a copy by value and zeros, and seals the copy.
func (h Header) Set(c Copy, f Field, value []byte) {
	at := h.of(c)[f.Offset : f.Offset+f.Size]
	clear(at[copy(at, value):])
	h.Seal(c)
}

// SetNumber is Set for a big-endian integer.
func (h Header) SetNumber(c Copy, f Field, value uint64) {
	b := binary.BigEndian.AppendUint64(nil, value)
	h.Set(c, f, b[len(b)-f.Size:])
}

// Seal makes a copy's checksum right.
func (h Header) Seal(c Copy) {
	b := h.of(c)
	field := b[checksum.Offset : checksum.Offset+checksum.Size]
	clear(field)
	sum := sha256.Sum256(b)
	copy(field, sum[:])
}

// EditFile is Load, Edit and Store.
func EditFile(path string, change func(metadata map[string]any)) error {
	h, err := Load(path)
	if err != nil {
		return err
	}
	if err := h.Edit(change); err != nil {
		return err
	}
	return h.Store(path)
}

// At walks into decoded metadata: At(m, "segments", "0")["size"] = "1".
// It panics where there is no such object: the header is not one it knows.
func At(m map[string]any, path ...string) map[string]any {
	for _, name := range path {
		next, isObject := m[name].(map[string]any)
		if !isObject {
			panic(fmt.Sprintf("luksedit: no object %q", name))
		}
		m = next
	}
	return m
}
