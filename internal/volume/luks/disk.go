// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// ioChunk is the unit of reading and writing: four times what EBS counts as one
// operation at most.
const ioChunk = 1 << 20

// disk is an open device whose identity and size have been checked. While it is
// open the kernel gives its device number to nobody else.
type disk struct {
	f     *os.File
	bytes int64
}

// openDisk opens a device for direct I/O, so that what is read comes from the
// disk and not from a page cache that an earlier attachment left behind.
// flags are those of open(2); O_EXCL refuses a device that is mounted or mapped.
func openDisk(dev volume.Device, flags int) (*disk, error) {
	f, err := os.OpenFile(dev.Path, flags|unix.O_DIRECT, 0)
	if errors.Is(err, unix.EINVAL) { // a file on a file system without direct I/O; a block device always has it
		f, err = os.OpenFile(dev.Path, flags, 0)
	}
	if err != nil {
		return nil, openFault(dev, err)
	}
	d := &disk{f: f, bytes: dev.Bytes}
	if err := d.identify(dev); err != nil {
		f.Close()
		return nil, err
	}
	return d, nil
}

// identify compares what was opened with what was found: the path may lead
// elsewhere by now. A regular file has the number 0:0, which no device has.
func (d *disk) identify(dev volume.Device) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(d.f.Fd()), &st); err != nil {
		return fmt.Errorf("stat %s: %w", dev.Path, err)
	}
	size, err := d.f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("measure %s: %w", dev.Path, err)
	}
	same := st.Rdev == unix.Mkdev(dev.Major, dev.Minor) && size == dev.Bytes && st.Mode&unix.S_IFMT != unix.S_IFCHR
	if !same {
		return &fault.Error{
			Class: fault.Unknown, Reason: "device-changed",
			Cause: "The device behind " + dev.Path + " is no longer the one that was found.",
			Hint:  "Devices are being attached or resized; the next attempt looks afresh.",
		}
	}
	return nil
}

func openFault(dev volume.Device, err error) error {
	if errors.Is(err, unix.EBUSY) {
		return &fault.Error{
			Class: fault.Unknown, Reason: "busy",
			Cause: dev.Path + " is in use.",
			Hint:  "Find its user with lsblk: it is mounted or mapped.",
			Err:   err,
		}
	}
	return &fault.Error{
		Class: fault.Unknown, Reason: "device-open",
		Cause: "Could not open " + dev.Path + ".",
		Hint:  "If the volume is being detached, nothing needs to be done; else look into the kernel log.",
		Err:   err,
	}
}

func (d *disk) close() { d.f.Close() }

// readAt fills b from off, in chunks so that ctx is heard. b is page-aligned
// and, like off, a multiple of blockBytes.
func (d *disk) readAt(ctx context.Context, b []byte, off int64) error {
	return chunks(ctx, b, off, func(part []byte, at int64) error {
		if _, err := d.f.ReadAt(part, at); err != nil {
			return ioFault("read", err)
		}
		return nil
	})
}

// writeAt writes b at off and has the device make it durable.
func (d *disk) writeAt(ctx context.Context, b []byte, off int64) error {
	err := chunks(ctx, b, off, func(part []byte, at int64) error {
		_, err := d.f.WriteAt(part, at)
		return err
	})
	if err == nil {
		err = d.f.Sync()
	}
	return ioFault("write", err)
}

func chunks(ctx context.Context, b []byte, off int64, each func([]byte, int64) error) error {
	for done := 0; done < len(b); done += ioChunk {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := each(b[done:min(done+ioChunk, len(b))], off+int64(done)); err != nil {
			return err
		}
	}
	return nil
}

func ioFault(verb string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &fault.Error{
		Class: fault.Unknown, Reason: "io",
		Cause: "The device failed to " + verb + ".",
		Hint:  "Look into the kernel log. If the volume's CMK was disabled or EBS is impaired, EC2 shows that; if the volume was detached, attach it again.",
		Err:   err,
	}
}
