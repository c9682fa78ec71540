// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
)

// Places in the superblock of ext2, ext3 and ext4, in bytes from the beginning
// of the device (kernel: Documentation/filesystems/ext4/super.rst).
// Little-endian.
const (
	extStart     = 1024
	extBlockSize = extStart + 0x18 // its logarithm, less 10
	extMounted   = extStart + 0x2c // time of the last mount; mkfs leaves 0, and nothing sets it back
	extMounts    = extStart + 0x34 // since the last check
	extMagic     = extStart + 0x38
)

// Places in the superblock of xfs (kernel: fs/xfs/libxfs/xfs_format.h).
// Big-endian. Lengths are in blocks, but for those of the log.
const (
	xfsBlockSize  = 4
	xfsLogStart   = 48
	xfsGroupSize  = 84
	xfsGroupLog   = 124 // logarithm of the group's size, rounded up
	xfsInProgress = 126 // mkfs has not come to its end
	xfsSequence   = 240 // of the last write through the log
)

// everMounted reports whether there is a file system on f, ext4 or xfs, that
// was mounted at some time. Only one that certainly was not, such as mkfs
// leaves it whole or half, counts as never mounted.
func everMounted(f io.ReaderAt) (bool, error) {
	super := make([]byte, blockBytes)
	if _, err := f.ReadAt(super, 0); err != nil {
		return false, ioFault("read", err)
	}
	if isExt(super) {
		return binary.LittleEndian.Uint32(super[extMounted:]) != 0 || binary.LittleEndian.Uint16(super[extMounts:]) != 0, nil
	}
	if !bytes.HasPrefix(super, []byte("XFSB")) || super[xfsInProgress] == 1 { // the kernel mounts none of these
		return false, nil
	}
	if binary.BigEndian.Uint64(super[xfsSequence:]) != 0 {
		return true, nil
	}
	fresh, err := freshLog(f, super)
	return !fresh, err
}

// isExt asks for more than the magic: where nothing was ever written,
// decryption gives random bytes, and 16 bits are soon hit upon.
func isExt(super []byte) bool {
	return binary.LittleEndian.Uint16(super[extMagic:]) == 0xef53 && binary.LittleEndian.Uint32(super[extBlockSize:]) <= 6
}

// What a log record's header holds, big-endian (fs/xfs/libxfs/xfs_log_format.h).
const (
	recordMagic  = 0xfeedbabe
	recordCycle  = 4
	recordLength = 12 // of what follows the header, in bytes
	recordHeader = 512
	// logWindow is how much of the log is looked at. A mount writes just behind
	// the newest record before it does anything else, 2 MiB at that.
	logWindow = 1 << 20
)

// freshLog reports whether the log holds what mkfs.xfs writes, one record at its
// beginning, and zeros behind it.
func freshLog(f io.ReaderAt, super []byte) (bool, error) {
	at, ok := logOffset(super)
	if !ok {
		return false, nil
	}
	log := make([]byte, logWindow)
	_, err := f.ReadAt(log, at)
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	if err != nil {
		return false, ioFault("read", err)
	}
	end := recordHeader + int64(binary.BigEndian.Uint32(log[recordLength:]))
	return binary.BigEndian.Uint32(log) == recordMagic && binary.BigEndian.Uint32(log[recordCycle:]) == 1 &&
		end < logWindow/2 && isZero(log[end:]), nil
}

// logOffset is where the log begins, in bytes; not ok if that makes no sense.
func logOffset(super []byte) (int64, bool) {
	blockSize := uint64(binary.BigEndian.Uint32(super[xfsBlockSize:]))
	start := binary.BigEndian.Uint64(super[xfsLogStart:])
	groupSize, groupLog := uint64(binary.BigEndian.Uint32(super[xfsGroupSize:])), super[xfsGroupLog]
	if start == 0 || groupLog > 31 || blockSize > 64<<10 || start>>groupLog > 1<<20 {
		return 0, false
	}
	block := start>>groupLog*groupSize + start&(1<<groupLog-1)
	if block > 1<<46 {
		return 0, false
	}
	return int64(block * blockSize), true
}

// refuseUsed refuses a file system that was ever mounted, on the mapping at node.
func refuseUsed(node string) error {
	f, err := os.Open(node)
	if err != nil {
		return ioFault("open", err)
	}
	defer f.Close()
	used, err := everMounted(f)
	if err == nil && used {
		return refuse(ruleFilesystem, nil)
	}
	return err
}
