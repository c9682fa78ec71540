// SPDX-License-Identifier: Apache-2.0

package device

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// kernelGroup is the multicast group in which the kernel itself speaks; in the
// other one udev does, in a format of its own.
const kernelGroup = 1

// maxEvent bounds one event; the kernel's are at most 2 KiB of environment
// behind a header.
const maxEvent = 8 << 10

// maxBatch bounds how many events one wake stands for, so that a flood of them
// cannot put it off for ever.
const maxBatch = 1000

// Watch calls wake after block devices have come, gone or changed, once for all
// that is pending, until ctx ends; then it returns nil. An event carries no
// facts: whoever is woken looks for himself. When events were lost it wakes,
// too. wake must not block. Any other return is a failure of the socket.
func Watch(ctx context.Context, wake func()) error {
	s, err := listen()
	if err != nil {
		return err
	}
	defer s.f.Close()
	// A deadline in the past ends the wait without a race over the descriptor.
	stop := context.AfterFunc(ctx, func() { _ = s.f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		relevant, err := s.await()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("watch block devices: %w", err)
		}
		if relevant {
			wake()
		}
	}
}

// socket reads kernel events.
type socket struct {
	f   *os.File
	buf []byte
}

func listen() (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("open uevent socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernelGroup}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bind uevent socket: %w", err)
	}
	return &socket{f: os.NewFile(uintptr(fd), "uevent"), buf: make([]byte, maxEvent)}, nil
}

// await blocks for an event, takes all others that are there, and tells whether
// any of them matters.
func (s *socket) await() (relevant bool, err error) {
	raw, err := s.f.SyscallConn()
	if err != nil {
		return false, err
	}
	taken := 0
	var failure error
	err = raw.Read(func(fd uintptr) bool {
		for taken < maxBatch {
			matters, err := s.receive(int(fd))
			if errors.Is(err, unix.EAGAIN) {
				return taken > 0 // empty: done, unless nothing has come yet
			}
			if err != nil {
				failure = err
				return true
			}
			relevant = relevant || matters
			taken++
		}
		return true
	})
	return relevant, errors.Join(failure, err)
}

func (s *socket) receive(fd int) (matters bool, err error) {
	n, from, err := unix.Recvfrom(fd, s.buf, 0)
	switch {
	case errors.Is(err, unix.EINTR):
		return false, nil
	case errors.Is(err, unix.ENOBUFS): // the kernel dropped events: any may have mattered
		return true, nil
	case err != nil:
		return false, err
	}
	sender, isNetlink := from.(*unix.SockaddrNetlink)
	return isNetlink && sender.Pid == 0 && concernsBlock(s.buf[:n]), nil
}

// concernsBlock reads a kernel event: "ACTION@DEVPATH", then KEY=VALUE, each
// ended by a zero byte.
func concernsBlock(event []byte) bool {
	for field := range bytes.SplitSeq(event, []byte{0}) {
		if bytes.Equal(field, []byte("SUBSYSTEM=block")) {
			return true
		}
	}
	return false
}
