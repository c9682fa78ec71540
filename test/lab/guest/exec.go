// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

const (
	defaultTimeout = time.Minute
	outputDelay    = time.Second     // for what still holds the pipes after the command has ended
	deathDelay     = 5 * time.Second // for SIGKILL to have its effect
)

// Exec is the Runner that starts real processes, each command in a process
// group of its own, which dies as a whole.
func Exec(ctx context.Context, c Command, stdout, stderr io.Writer) Result {
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()

	cmd := exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...)
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.Dir = c.Dir
	cmd.Stdin = bytes.NewReader(c.Stdin)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = outputDelay

	start := time.Now()
	if err := cmd.Start(); err != nil {
		return Result{Code: CodeNotStarted, Error: err.Error()}
	}
	result := await(ctx, cmd)
	result.Duration = time.Since(start)
	return result
}

// await is cmd.Wait, but for a process that does not even die of SIGKILL.
func await(ctx context.Context, cmd *exec.Cmd) Result {
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		return resultOf(ctx, cmd, err)
	case <-ctx.Done():
	}
	death := time.NewTimer(deathDelay)
	defer death.Stop()
	select {
	case err := <-ended:
		return resultOf(ctx, cmd, err)
	case <-death.C:
		late := errors.Is(ctx.Err(), context.DeadlineExceeded)
		return Result{Code: CodeTimedOut, TimedOut: late, Error: "killed, but it hangs in the kernel (D state)"}
	}
}

func resultOf(ctx context.Context, cmd *exec.Cmd, err error) Result {
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded) && err != nil:
		return Result{Code: CodeTimedOut, TimedOut: true}
	case ok && status.Signaled():
		return Result{Code: 128 + int(status.Signal()), Signal: status.Signal().String()}
	case errors.Is(err, exec.ErrWaitDelay):
		// It has ended well and left children that hold its output open.
		return Result{Code: cmd.ProcessState.ExitCode()}
	case err != nil && cmd.ProcessState.Success():
		return Result{Code: 1, Error: err.Error()}
	}
	return Result{Code: cmd.ProcessState.ExitCode()}
}
