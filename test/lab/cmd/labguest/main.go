// SPDX-License-Identifier: Apache-2.0

// Command labguest is the lab's agent in the guest.
//
//	labguest serve PORT     run what the host asks for over a virtio-serial port,
//	                        and answer what scenarios ask on 127.0.0.1:7
//	labguest in-use SERIAL  exit 0 when the disk is mounted or mapped, 1 when not
//
// and what attacks a Unix socket there, as the user who runs it. What to send is
// read from stdin:
//
//	labguest speak SOCKET                   send it, and print what comes until the other end closes
//	labguest knock SOCKET CLIENTS SECONDS   so many clients connect, send it and leave, again and again
//	labguest dawdle SOCKET CLIENTS SECONDS  so many clients send it a byte a second
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/volseal/volseal/test/lab/guest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	code, err := run(ctx, os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "labguest:", err)
	}
	os.Exit(code)
}

func run(ctx context.Context, args []string) (int, error) {
	if len(args) == 2 && args[0] == "serve" {
		if err := serve(ctx, args[1]); err != nil {
			return 1, err
		}
		return 0, nil
	}
	if len(args) == 2 && args[0] == "in-use" {
		used, err := guest.DiskInUse("/sys", "/proc/self/mountinfo", args[1])
		switch {
		case err != nil:
			return 2, err
		case used:
			return 0, nil
		}
		return 1, nil
	}
	if len(args) > 1 {
		return attack(ctx, args[0], args[1:])
	}
	return 2, errors.New("usage: labguest serve PORT | in-use SERIAL | speak SOCKET | knock|dawdle SOCKET CLIENTS SECONDS")
}

func attack(ctx context.Context, kind string, args []string) (int, error) {
	if kind == "speak" && len(args) == 1 {
		if err := speak(args[0], os.Stdin, os.Stdout); err != nil {
			return 1, err
		}
		return 0, nil
	}
	c, err := crowdOf(args, os.Stdin)
	switch {
	case err != nil:
		return 2, err
	case kind == "knock":
		c.each(ctx, c.knock)
	case kind == "dawdle" && len(c.request) > 0:
		c.each(ctx, c.dawdle)
	default:
		return 2, fmt.Errorf("labguest cannot %s", kind)
	}
	return 0, nil
}

func serve(ctx context.Context, path string) error {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return fmt.Errorf("read boot id: %w", err)
	}
	port, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open port: %w", err)
	}
	defer port.Close()
	l, err := net.Listen("tcp", askAddress)
	if err != nil {
		return fmt.Errorf("listen for questions: %w", err)
	}
	go newAsker().serve(ctx, l)
	// A blocked read of the port does not see ctx: the process ends under it.
	done := make(chan error, 1)
	go func() {
		done <- guest.Serve(ctx, port, guest.Hello{BootID: strings.TrimSpace(string(id))}, guest.Exec)
	}()
	select {
	case err := <-done:
		if err == nil {
			err = io.ErrUnexpectedEOF // the host holds its end for as long as the guest runs
		}
		return err
	case <-ctx.Done():
		return nil
	}
}
