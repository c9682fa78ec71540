// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/volseal/volseal/test/lab/guest"
)

// A machine that is kept up belongs to a supervisor, a process in a session of
// its own. It speaks the guest's protocol on a socket; who connects runs commands
// through it. There is one such machine a user.

// keptDir holds the supervisor's socket and log while it runs.
func keptDir() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "volseal-lab")
	}
	return filepath.Join(os.TempDir(), "volseal-lab-kept-"+strconv.Itoa(os.Getuid()))
}

func socketPath() string { return filepath.Join(keptDir(), "control.sock") }
func logPath() string    { return filepath.Join(keptDir(), "lab.log") }

// ready is what the supervisor says on descriptor 3 when its machine is up.
const ready = "ready"

// runKept starts a supervisor, and runs the scripts through it; whatever becomes
// of them, the machine stays.
func runKept(ctx context.Context, o options, scripts []script) (int, error) {
	if conn, err := net.Dial("unix", socketPath()); err == nil {
		_ = conn.Close()
		return exitUsage, errors.New("keep machine: one is up already (lab down ends it)")
	}
	if err := startSupervisor(ctx, o); err != nil {
		return 0, err
	}
	client, err := connect(ctx)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	r := runner{guest: client, timeout: o.timeout, stdout: os.Stdout, stderr: os.Stderr}
	code, err := r.run(ctx, scripts)
	fmt.Fprintln(os.Stderr, "the machine stays up: lab sh CMD… runs a command in it, lab down ends it")
	return code, err
}

// startSupervisor returns when the supervisor's machine is up, or has failed.
func startSupervisor(ctx context.Context, o options) error {
	if err := makeKeptDir(); err != nil {
		return err
	}
	log, err := os.OpenFile(logPath(), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("keep machine: %w", err)
	}
	defer log.Close()
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("keep machine: %w", err)
	}
	status, theirs, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("keep machine: %w", err)
	}
	defer status.Close()
	cmd := exec.Command(self, o.forSupervisor()...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	_ = theirs.Close()
	if err != nil {
		return fmt.Errorf("keep machine: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	defer stop()
	line, _ := bufio.NewReader(status).ReadString('\n')
	if strings.TrimSpace(line) == ready {
		return nil
	}
	_ = cmd.Wait()
	text, _ := os.ReadFile(logPath())
	_ = os.RemoveAll(keptDir())
	return fmt.Errorf("keep machine: it did not come up\n%s", text)
}

// makeKeptDir makes the directory ours alone, or refuses one that is not.
func makeKeptDir() error {
	dir := keptDir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("keep machine: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("keep machine: %w", err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || info.Mode().Perm() != 0o700 || int(owner.Uid) != os.Getuid() {
		return fmt.Errorf("keep machine: %s is not a private directory of ours", dir)
	}
	return nil
}

// supervise is the supervisor. It ends with a signal, or with its machine.
func supervise(ctx context.Context, args []string) (int, error) {
	o, err := parseRun(args)
	if err != nil {
		return exitUsage, err
	}
	if err := adoptOrphans(); err != nil {
		return 0, err
	}
	status := os.NewFile(3, "status")
	l, err := startLab(ctx, o, newLog(true))
	if err != nil {
		return 0, err
	}
	err = serveKept(ctx, l, status)
	if err = errors.Join(err, l.close()); err != nil {
		return 0, err // the directory stays, with the log that says why
	}
	return 0, os.RemoveAll(keptDir())
}

func serveKept(ctx context.Context, l *lab, status *os.File) error {
	_ = os.Remove(socketPath()) // nobody answers there, or we would not have been started
	listener, err := net.Listen("unix", socketPath())
	if err != nil {
		return fmt.Errorf("serve machine: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	lost := make(chan error, 1)
	go func() {
		lost <- l.machine.Lost(ctx)
		cancel()
	}()
	if _, err := fmt.Fprintln(status, ready); err != nil {
		return fmt.Errorf("serve machine: %w", err)
	}
	_ = status.Close()
	for {
		conn, err := listener.Accept()
		if err != nil {
			break
		}
		go relay(ctx, conn, l.machine)
	}
	if err := <-lost; !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// relay runs the commands of one connection in the guest.
func relay(ctx context.Context, conn net.Conn, machine executor) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	// The end of the connection is the client's affair.
	_ = guest.Serve(ctx, conn, guest.Hello{}, func(ctx context.Context, cmd guest.Command, stdout, stderr io.Writer) guest.Result {
		result, err := machine.Exec(ctx, cmd, stdout, stderr)
		if err != nil {
			return guest.Result{Code: exitFailed, Error: err.Error()}
		}
		return result
	})
}

// connect reaches the supervisor.
func connect(ctx context.Context) (*guest.Client, error) {
	conn, err := net.Dial("unix", socketPath())
	if err != nil {
		return nil, errors.New("no machine is up (lab run --keep leaves one)")
	}
	client := guest.NewClient(conn)
	if _, err := client.Ready(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("connect to machine: %w", err), client.Close())
	}
	return client, nil
}

// down is `lab down`. It asks the kernel who serves the socket: a number in a
// file may be another process by now.
func down(ctx context.Context, args []string) (int, error) {
	if len(args) > 0 {
		return exitUsage, errors.New("down takes no arguments")
	}
	conn, err := net.Dial("unix", socketPath())
	if err != nil {
		return 0, nil // as wished
	}
	defer conn.Close()
	pid, err := peer(conn.(*net.UnixConn))
	if err != nil {
		return 0, fmt.Errorf("end machine: %w", err)
	}
	if err := endProcess(ctx, pid); err != nil {
		return 0, fmt.Errorf("end machine: %w", err)
	}
	text, err := os.ReadFile(logPath())
	if err == nil {
		_ = os.RemoveAll(keptDir())
		return 0, fmt.Errorf("the machine did not end well:\n%s", text)
	}
	return 0, nil
}

// peer is the process that listens at the other end.
func peer(conn *net.UnixConn) (int, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, credErr); err != nil {
		return 0, err
	}
	return int(cred.Pid), nil
}

// endProcess terminates a process that is no child of ours and waits for its end.
func endProcess(ctx context.Context, pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0); err != nil {
		return err
	}
	for ctx.Err() == nil {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 500)
		if n > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
	return ctx.Err()
}
