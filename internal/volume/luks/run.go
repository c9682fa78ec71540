// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volseal/volseal/internal/fault"
)

const (
	maxStdin  = 4 << 10 // fits a pipe's buffer, so that it is written before the process starts
	maxStdout = 1 << 20 // metadata of 12 KiB, indented, stays far below
	maxStderr = 4 << 10
	killAfter = 10 * time.Second // between SIGTERM and SIGKILL
)

// The meanings of cryptsetup's exit status (cryptsetup(8), RETURN CODES).
var (
	errUsage    = errors.New("wrong parameters")
	errWrongKey = errors.New("no key available with this passphrase")
	errMemory   = errors.New("out of memory")
	errDevice   = errors.New("wrong device")
	errExists   = errors.New("device exists or is busy")
)

// command is one run of a tool. A secret travels in stdin, never in args.
type command struct {
	tool  string // looked up in the runner's path
	args  []string
	stdin []byte // may be a view of a Secret
	then  []byte // follows it, and may be one too; together at most maxStdin
	limit time.Duration
}

// runner is the one place that starts a process.
type runner struct{ path string }

// run starts the tool with an environment of its own and waits for it. Errors:
// *fault.Error if the tool is missing, *exitError if it failed, the context's if
// that ended first.
func (r runner) run(ctx context.Context, c command) ([]byte, error) {
	file, err := r.find(c.tool)
	if err != nil {
		return nil, err
	}
	in, err := filledPipe(c.stdin, c.then)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	limited, cancel := context.WithTimeout(ctx, c.limit)
	defer cancel()
	stdout, stderr := &bounded{limit: maxStdout}, &bounded{limit: maxStderr}
	cmd := exec.CommandContext(limited, file, c.args...)
	cmd.Dir = "/"
	cmd.Env = []string{"LC_ALL=C", "PATH=" + r.path}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, stdout, stderr
	// cryptsetup and dmsetup clean up on SIGTERM; a kill could strand a udev cookie.
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = killAfter
	err = cmd.Run()
	return stdout.taken(), c.outcome(ctx, err, stdout, stderr)
}

func (c command) outcome(ctx context.Context, err error, stdout, stderr *bounded) error {
	var exit *exec.ExitError
	switch {
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("%s: %w", c.verb(), ctx.Err())
	case errors.As(err, &exit) && exit.Exited():
		return &exitError{tool: c.tool, verb: c.verb(), code: exit.ExitCode(), stderr: stderr.buf.String()}
	case errors.Is(err, context.DeadlineExceeded): // ours, which is not the caller's and must not pass for it
		return fmt.Errorf("%s: no answer within %s", c.verb(), c.limit)
	case err != nil: // did not start, or died of a signal: ours at the limit, or another's
		return fmt.Errorf("%s (limit %s): %w", c.verb(), c.limit, err)
	case stdout.over:
		return fmt.Errorf("%s: more than %d bytes of output", c.verb(), maxStdout)
	}
	return nil
}

// verb names the command in messages without its arguments.
func (c command) verb() string {
	if c.tool == "cryptsetup" || c.tool == "dmsetup" {
		return c.tool + " " + c.args[0]
	}
	return c.tool
}

func (r runner) find(tool string) (string, error) {
	for _, dir := range filepath.SplitList(r.path) {
		file := filepath.Join(dir, tool)
		if unix.Access(file, unix.X_OK) == nil && filepath.IsAbs(file) {
			return file, nil
		}
	}
	return "", &fault.Error{
		Class: fault.Misconfigured, Reason: "tool-missing",
		Cause: "The program " + tool + " is not installed.",
		Hint:  "Install the package that holds it (Debian: cryptsetup-bin, dmsetup, e2fsprogs, xfsprogs).",
	}
}

// filledPipe returns the read end of a pipe that holds data and then ends. The
// bytes go from the caller's memory straight into the kernel: no goroutine and
// no buffer of ours ever holds a copy.
func filledPipe(first, then []byte) (*os.File, error) {
	if n := len(first) + len(then); n > maxStdin {
		return nil, fmt.Errorf("%d bytes for a tool's standard input", n)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	_, err = w.Write(first)
	if err == nil {
		_, err = w.Write(then)
	}
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		r.Close()
		return nil, fmt.Errorf("fill pipe: %w", err)
	}
	return r, nil
}

// bounded keeps the first limit bytes and swallows the rest, so that a tool
// that talks too much neither blocks nor fills memory.
type bounded struct {
	buf   bytes.Buffer
	limit int
	over  bool
}

func (b *bounded) Write(p []byte) (int, error) {
	keep := min(len(p), b.limit-b.buf.Len())
	b.over = b.over || keep < len(p)
	b.buf.Write(p[:keep])
	return len(p), nil
}

func (b *bounded) taken() []byte { return b.buf.Bytes() }

// exitError is a tool's failure. Its text is for the debug log: the tool may
// quote the disk.
type exitError struct {
	tool, verb string
	code       int
	stderr     string
}

func (e *exitError) Error() string {
	return fmt.Sprintf("%s: exit status %d: %q", e.verb, e.code, e.stderr)
}

// Is matches the sentinels by cryptsetup's exit status.
func (e *exitError) Is(target error) bool {
	if e.tool != "cryptsetup" {
		return false
	}
	switch e.code {
	case 1:
		return target == errUsage
	case 2:
		return target == errWrongKey
	case 3:
		return target == errMemory
	case 4:
		return target == errDevice
	case 5:
		return target == errExists
	}
	return false
}

// failed tells a person that a tool failed for a reason that does not blame the
// disk. The context's end and faults with a class of their own pass through.
func failed(doing string, err error) error {
	var f *fault.Error
	if err == nil || errors.As(err, &f) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &fault.Error{
		Class: fault.Unknown, Reason: "tool",
		Cause: "Could not " + doing + ".",
		Hint:  "The journal of volseal.service holds what the tool said.",
		Err:   err,
	}
}
