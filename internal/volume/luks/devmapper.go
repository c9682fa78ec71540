// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The one request to device-mapper that is made without a tool, because it is
// made for every opening and only reads (linux/dm-ioctl.h, interface version 4).
// Integers are in the machine's byte order.
const (
	dmTableStatus = 0xc138fd0c // _IOWR(0xfd, 12, struct dm_ioctl)

	dmDataSize    = 12 // of the whole buffer
	dmDataStart   = 16 // where the targets begin, from the beginning of the buffer
	dmTargetCount = 20
	dmFlags       = 28
	dmName        = 48
	lenDMName     = 128
	dmHeader      = 312 // sizeof(struct dm_ioctl)

	dmWantTable  = 1 << 4 // DM_STATUS_TABLE_FLAG: the table, not the status
	dmBufferFull = 1 << 8

	targetLength = 8  // sectors, after the start
	targetNext   = 20 // where the next one begins, from the first
	targetType   = 24 // after a status and the place of the next target
	lenType      = 16
	targetHeader = 40 // sizeof(struct dm_target_spec); the parameters follow, ended by a zero

	// dmBuffer is ample for a table of one target, and no more than one is ours.
	dmBuffer = 16 << 10
)

// liveTable returns the table of a mapping as `dmsetup table` prints it: a line
// for each target. Of a key that is not in a keyring it tells whether it is
// anything but zeros, which a wiped one is.
func (l *LUKS) liveTable(mapping string) (string, error) {
	if err := validMapping(mapping); err != nil {
		return "", err
	}
	control, err := os.OpenFile(filepath.Join(l.dev, "mapper", "control"), os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("reach device-mapper: %w", err)
	}
	defer control.Close()
	b, err := newBuffer(dmBuffer)
	if err != nil {
		return "", err
	}
	defer b.release()
	defer clear(b) // there could be a key in it
	binary.NativeEndian.PutUint32(b, 4)
	binary.NativeEndian.PutUint32(b[dmDataSize:], dmBuffer)
	binary.NativeEndian.PutUint32(b[dmDataStart:], dmHeader)
	binary.NativeEndian.PutUint32(b[dmFlags:], dmWantTable)
	copy(b[dmName:dmName+lenDMName-1], mapping)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, control.Fd(), dmTableStatus, uintptr(unsafe.Pointer(&b[0]))); errno != 0 { //nolint:gosec // b is mapped, and as long as it says
		return "", fmt.Errorf("read table: %w", errno)
	}
	return tableText(b)
}

// maxTargets is one more than an unfinished reencryption has.
const maxTargets = 4

// tableText reads the kernel's answer.
func tableText(b []byte) (string, error) {
	count, start := binary.NativeEndian.Uint32(b[dmTargetCount:]), binary.NativeEndian.Uint32(b[dmDataStart:])
	switch {
	case binary.NativeEndian.Uint32(b[dmFlags:])&dmBufferFull != 0:
		return "", errors.New("read table: it is longer than any of ours")
	case count < 1 || count > maxTargets:
		return "", fmt.Errorf("read table: %d targets", count)
	case start < dmHeader:
		return "", fmt.Errorf("read table: it begins at %d", start)
	}
	var all strings.Builder
	at := int64(start)
	for range count {
		if at < int64(start) || at+targetHeader > int64(len(b)) {
			return "", fmt.Errorf("read table: a target begins at %d", at)
		}
		line, err := targetText(b[at:])
		if err != nil {
			return "", err
		}
		all.WriteString(line)
		at = int64(start) + int64(binary.NativeEndian.Uint32(b[at+targetNext:]))
	}
	return all.String(), nil
}

func targetText(target []byte) (string, error) {
	kind, _ := text(target[targetType : targetType+lenType])
	parameters, _, ended := bytes.Cut(target[targetHeader:], []byte{0})
	if !ended {
		return "", errors.New("read table: it has no end")
	}
	return fmt.Sprintf("%d %d %s %s\n", binary.NativeEndian.Uint64(target), binary.NativeEndian.Uint64(target[targetLength:]),
		kind, withoutKey(kind, parameters)), nil
}

// hiddenKey stands for key bytes.
const hiddenKey = "(key)"

// withoutKey keeps key bytes out of Go strings. In a keyring's name, which
// begins with a colon, there are none; and only of dm-crypt do we know where
// the key stands.
func withoutKey(kind string, parameters []byte) string {
	fields := bytes.Fields(parameters)
	if kind != "crypt" || len(fields) < 2 {
		return ""
	}
	if key := fields[1]; !bytes.HasPrefix(key, []byte(":")) && len(bytes.Trim(key, "0")) > 0 {
		fields[1] = []byte(hiddenKey)
	}
	return string(bytes.Join(fields, []byte(" ")))
}
