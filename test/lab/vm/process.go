// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/volseal/volseal/test/lab/guest"
)

// process is one QEMU: one boot of the machine.
type process struct {
	cmd   *exec.Cmd
	qmp   *monitor
	guest *guest.Client
	ended chan struct{} // closed when QEMU has ended and err is set
	err   error
}

// startProcess starts QEMU and connects to its monitor. What QEMU complains
// about goes to the file log.
func startProcess(ctx context.Context, h hardware, log string) (*process, error) {
	qmpNear, qmpFar, err := streamPair("qmp")
	if err != nil {
		return nil, err
	}
	guestNear, guestFar, err := streamPair("guest")
	if err != nil {
		return nil, errors.Join(err, qmpNear.Close(), qmpFar.Close())
	}
	p := &process{cmd: exec.Command("qemu-system-x86_64", h.args()...), ended: make(chan struct{})}
	p.cmd.ExtraFiles = []*os.File{qmpFar, guestFar} // descriptors fdQMP and fdGuest
	err = p.start(log)
	_, _ = qmpFar.Close(), guestFar.Close()
	if err != nil {
		return nil, errors.Join(err, qmpNear.Close(), guestNear.Close())
	}
	p.guest = guest.NewClient(guestNear)
	if p.qmp, err = newMonitor(ctx, qmpNear); err != nil {
		p.kill()
		text, _ := os.ReadFile(log)
		return nil, fmt.Errorf("start QEMU: %w\n%s", err, tail(string(text), 20))
	}
	return p, nil
}

// start runs QEMU such that it dies with us, however we die: it would otherwise
// hold the locks of its images. The parent that the kernel means is the thread,
// so one is kept for as long as QEMU lives.
func (p *process) start(log string) error {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("open log of QEMU: %w", err)
	}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL,
		Setpgid:   true, // an interrupt on the terminal is ours to act on
	}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer out.Close()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start QEMU: %w", err)
	}
	return nil
}

// kill is a power cut: nothing is flushed, nobody is asked. It returns when the
// images are no longer open.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
	p.close()
}

// close gives up the streams of a QEMU that has ended.
func (p *process) close() {
	_ = p.guest.Close()
	if p.qmp != nil {
		_ = p.qmp.close()
	}
}

// streamPair is a connected pair of sockets: one end for us, one to be inherited.
// No path, so nobody else can connect, and none is left behind.
func streamPair(name string) (near net.Conn, far *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make stream %s: %w", name, err)
	}
	far = os.NewFile(uintptr(fds[1]), name)
	file := os.NewFile(uintptr(fds[0]), name)
	defer file.Close() // FileConn has a descriptor of its own
	near, err = net.FileConn(file)
	if err != nil {
		_ = far.Close()
		return nil, nil, fmt.Errorf("make stream %s: %w", name, err)
	}
	return near, far, nil
}
