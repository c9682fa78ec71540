// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// dialPatience is how long to wait for the agent to take a connection.
const dialPatience = 5 * time.Second

// dial connects to the socket. While its queue is full the kernel refuses at
// once whoever will not wait, and any local user can keep it full. Then this
// waits in the kernel's line, where each has its turn: to try again and again
// would be to bet against those who wait.
func dial(ctx context.Context, socket string) (net.Conn, error) {
	c, err := (&net.Dialer{Timeout: dialPatience}).DialContext(ctx, "unix", socket)
	if !errors.Is(err, unix.EAGAIN) {
		return c, err
	}
	type dialled struct {
		conn net.Conn
		err  error
	}
	turn := make(chan dialled, 1)
	go func() {
		c, err := dialInLine(socket)
		turn <- dialled{c, err}
	}()
	select {
	case d := <-turn:
		return d.conn, d.err
	case <-ctx.Done():
		go func() {
			if d := <-turn; d.conn != nil {
				d.conn.Close()
			}
		}()
		return nil, ctx.Err()
	}
}

// dialInLine blocks until there is room in the queue, or dialPatience is over.
func dialInLine(socket string) (net.Conn, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), socket)
	defer f.Close()
	patience := unix.NsecToTimeval(int64(dialPatience))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &patience); err != nil {
		return nil, fmt.Errorf("bound the wait: %w", err)
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: socket}); err != nil {
		return nil, &net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", err)}
	}
	return net.FileConn(f)
}
