// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// crowd is many clients at one Unix socket: what a local user may do to it.
type crowd struct {
	socket   string
	size     int
	duration time.Duration
	request  []byte

	connected, answered, refused atomic.Int64
}

// crowdOf reads SOCKET CLIENTS SECONDS, and what each client sends from in.
func crowdOf(args []string, in io.Reader) (*crowd, error) {
	if len(args) != 3 {
		return nil, errors.New("SOCKET CLIENTS SECONDS are needed")
	}
	size, err := strconv.Atoi(args[1])
	seconds, err2 := strconv.Atoi(args[2])
	const most, longest = 20000, 60
	if err != nil || err2 != nil || size < 1 || size > most || seconds < 1 || seconds > longest {
		return nil, fmt.Errorf("up to %d clients for up to %d seconds", most, longest)
	}
	request, err := io.ReadAll(io.LimitReader(in, 1<<20))
	return &crowd{socket: args[0], size: size, duration: time.Duration(seconds) * time.Second, request: request}, err
}

// each runs one client after the other in each of the crowd, until the time is over.
func (c *crowd) each(ctx context.Context, client func(context.Context)) {
	ctx, cancel := context.WithTimeout(ctx, c.duration)
	defer cancel()
	var all sync.WaitGroup
	for range c.size {
		all.Go(func() {
			for ctx.Err() == nil {
				client(ctx)
			}
		})
	}
	all.Wait()
	fmt.Printf("connected %d answered %d refused %d\n", c.connected.Load(), c.answered.Load(), c.refused.Load())
}

// knock connects, says the request, reads what comes, and leaves.
func (c *crowd) knock(ctx context.Context) {
	conn := c.connect(ctx)
	if conn == nil {
		return
	}
	defer conn.Close()
	if end, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(end)
	}
	_, _ = conn.Write(c.request)
	if n, _ := conn.Read(make([]byte, 1<<12)); n > 0 {
		c.answered.Add(1)
		return
	}
	c.refused.Add(1)
}

// dawdle says the request a byte a second, and comes again when it is cut off.
func (c *crowd) dawdle(ctx context.Context) {
	conn := c.connect(ctx)
	if conn == nil {
		return
	}
	defer conn.Close()
	for i := 0; ctx.Err() == nil; i = (i + 1) % len(c.request) {
		if _, err := conn.Write(c.request[i : i+1]); err != nil {
			c.refused.Add(1)
			return
		}
		await(ctx, time.Second)
	}
}

// connect waits a moment where the queue is full: what is measured is the
// socket, and not how fast one can ask the kernel.
func (c *crowd) connect(ctx context.Context) net.Conn {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", c.socket)
	if err != nil {
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "labguest:", err)
		}
		await(ctx, 5*time.Millisecond)
		return nil
	}
	c.connected.Add(1)
	return conn
}

func await(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// speak sends all of in and copies what comes back, until the other end closes
// or the time is over.
func speak(socket string, in io.Reader, out io.Writer) error {
	const patience = 20 * time.Second
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, _ = io.Copy(conn, in) // the other end may have enough before the end
	if _, err := io.Copy(out, conn); err != nil && !errors.Is(err, unix.ECONNRESET) {
		return fmt.Errorf("read: %w", err)
	}
	return nil
}
