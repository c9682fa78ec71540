// SPDX-License-Identifier: Apache-2.0

package peercred_test

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/volseal/volseal/internal/control/peercred"
)

// accepted runs dial in a goroutine and returns the server's end of its connection.
func accepted(t *testing.T, dial func(socket string)) net.Conn {
	t.Helper()
	// An abstract name: another user may not reach a file of this test's.
	socket := fmt.Sprintf("@volseal-%d-%s", os.Getpid(), t.Name())
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go dial(socket)
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestSelf protects the reading of both socket options: this process's own credentials.
func TestSelf(t *testing.T) {
	p, err := peercred.Of(accepted(t, func(socket string) { net.Dial("unix", socket) }))
	if err != nil {
		t.Fatal(err)
	}
	groups, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	if int(p.PID) != os.Getpid() || int(p.UID) != os.Geteuid() || int(p.GID) != os.Getegid() || len(p.Groups) != len(groups) {
		t.Errorf("%+v", p)
	}
	for _, g := range groups {
		if !p.In(uint32(g)) {
			t.Errorf("not in group %d", g)
		}
	}
}

// TestAnotherUser protects what permission rests on: the ids are those of the
// peer, and every group is told, also when there are more than fit at first.
func TestAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	var groups []uint32
	for g := range uint32(200) {
		groups = append(groups, 5000+g)
	}
	c := accepted(t, func(socket string) {
		// The thread that becomes somebody else must not be used again: it ends with this goroutine.
		runtime.LockOSThread()
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			t.Error(err)
			return
		}
		become(t, 4242, 4343, groups)
		if err := unix.Connect(fd, &unix.SockaddrUnix{Name: socket}); err != nil {
			t.Error(err)
		}
	})
	p, err := peercred.Of(c)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(p.Groups)
	if p.UID != 4242 || p.GID != 4343 || !slices.Equal(p.Groups, groups) {
		t.Errorf("%+v", p)
	}
}

// become changes the ids of this thread alone; x/sys would change the whole process.
func become(t *testing.T, uid, gid uintptr, groups []uint32) {
	t.Helper()
	for _, call := range [][4]uintptr{
		{unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(&groups[0]))},
		{unix.SYS_SETRESGID, gid, gid, gid},
		{unix.SYS_SETRESUID, uid, uid, uid},
	} {
		if _, _, errno := unix.RawSyscall(call[0], call[1], call[2], call[3]); errno != 0 {
			t.Error(errno)
		}
	}
}

// TestNotAUnixSocket protects against a listener of another kind: no credentials, no answer.
func TestNotAUnixSocket(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if p, err := peercred.Of(a); err == nil {
		t.Errorf("%+v", p)
	}
}
