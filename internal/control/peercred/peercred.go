// SPDX-License-Identifier: Apache-2.0

// Package peercred asks the kernel who is at the other end of a Unix socket.
// It is apart because SO_PEERGROUPS has no wrapper in x/sys and so needs one raw
// system call, the only one outside the memory that holds keys; nothing else
// belongs here, and least of all a decision on what the peer may do.
package peercred

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Peer is the process at the other end of a connection, as the kernel knew it
// when it connected. Only UID and the groups grant anything; the PID may be
// reused and serves the audit alone.
type Peer struct {
	PID int32
	UID uint32
	GID uint32
	// Groups are the supplementary groups; nil when the kernel would not tell.
	Groups []uint32
}

// In reports whether the peer belongs to the group, by primary or supplementary id.
func (p Peer) In(gid uint32) bool {
	return p.GID == gid || slices.Contains(p.Groups, gid)
}

// maxGroups bounds the answer to SO_PEERGROUPS; it is the kernel's NGROUPS_MAX.
const maxGroups = 65536

// Of asks the kernel who connected.
func Of(c net.Conn) (Peer, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return Peer{}, fmt.Errorf("read peer credentials: %T is not a Unix socket", c)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return Peer{}, fmt.Errorf("read peer credentials: %w", err)
	}
	var p Peer
	var asked error
	if err := raw.Control(func(fd uintptr) { p, asked = askPeer(int(fd)) }); err != nil {
		return Peer{}, fmt.Errorf("read peer credentials: %w", err)
	}
	if asked != nil {
		return Peer{}, fmt.Errorf("read peer credentials: %w", asked)
	}
	return p, nil
}

func askPeer(fd int) (Peer, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return Peer{}, fmt.Errorf("SO_PEERCRED: %w", err)
	}
	groups, err := peerGroups(fd)
	if err != nil {
		return Peer{}, fmt.Errorf("SO_PEERGROUPS: %w", err)
	}
	return Peer{PID: cred.Pid, UID: cred.Uid, GID: cred.Gid, Groups: groups}, nil
}

// peerGroups reads SO_PEERGROUPS, an array of 32-bit ids in the host's byte
// order. The kernel answers ERANGE with the needed length when the buffer is short.
func peerGroups(fd int) ([]uint32, error) {
	const idSize = 4
	buf := make([]byte, 64*idSize)
	n, err := getsockopt(fd, unix.SO_PEERGROUPS, buf)
	if errors.Is(err, unix.ERANGE) && n > len(buf) && n <= maxGroups*idSize {
		buf = make([]byte, n)
		n, err = getsockopt(fd, unix.SO_PEERGROUPS, buf)
	}
	if err != nil {
		return nil, err
	}
	groups := make([]uint32, 0, n/idSize)
	for b := buf[:n]; len(b) >= idSize; b = b[idSize:] {
		groups = append(groups, binary.NativeEndian.Uint32(b))
	}
	return groups, nil
}

// getsockopt is the raw call: x/sys offers none that returns bytes. The kernel
// writes at most len(buf) bytes into buf, and the length into n.
func getsockopt(fd, opt int, buf []byte) (int, error) {
	n := uint32(len(buf))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, uintptr(opt),
		uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&n)), 0) //nolint:gosec // both live over the call, and the length is that of buf
	if errno != 0 {
		return int(n), errno
	}
	return int(n), nil
}
