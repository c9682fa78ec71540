// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// pair is a client and a server of real processes on the two ends of a stream.
func pair(t *testing.T, run Runner) *Client {
	t.Helper()
	near, far := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- Serve(t.Context(), far, Hello{BootID: "first"}, run) }()
	c := NewClient(near)
	t.Cleanup(func() {
		_ = c.Close()
		_ = far.Close()
		<-served
	})
	return c
}

func sh(script string) Command {
	return Command{Argv: []string{"/bin/sh", "-c", script}, Timeout: 20 * time.Second}
}

// The exit code, both outputs and the input of a command arrive as they are.
func TestExecReportsTheCommand(t *testing.T) {
	c := pair(t, Exec)
	if hello, err := c.Ready(t.Context()); err != nil || hello.BootID != "first" {
		t.Fatalf("hello %+v, %v", hello, err)
	}
	cmd := sh(`cat; echo "$PLACE in $(pwd)" >&2; exit 7`)
	cmd.Stdin, cmd.Env, cmd.Dir = []byte("a\x00b"), []string{"PLACE=here"}, "/"
	var stdout, stderr bytes.Buffer
	result, err := c.Exec(t.Context(), cmd, &stdout, &stderr)
	if err != nil || result.Code != 7 {
		t.Fatalf("result %+v, %v", result, err)
	}
	if stdout.String() != "a\x00b" || stderr.String() != "here in /\n" {
		t.Errorf("stdout %q, stderr %q", &stdout, &stderr)
	}
}

// Output that does not fit in one message arrives whole and in order.
func TestLargeOutput(t *testing.T) {
	c := pair(t, Exec)
	var stdout bytes.Buffer
	if _, err := c.Exec(t.Context(), sh("seq 200000"), &stdout, nil); err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(stdout.String())
	if len(lines) != 200000 || lines[0] != "1" || lines[199999] != "200000" {
		t.Errorf("%d lines, of %d bytes", len(lines), stdout.Len())
	}
}

// One command that hangs does not hold up the others: EC2 asks about disks while
// a scenario runs.
func TestCommandsRunConcurrently(t *testing.T) {
	c := pair(t, Exec)
	ctx, cancel := context.WithCancel(t.Context())
	slow := make(chan error, 1)
	go func() {
		_, err := c.Exec(ctx, sh("exec sleep 60"), nil, nil)
		slow <- err
	}()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if result, err := c.Exec(t.Context(), sh("exit 3"), nil, nil); err != nil || result.Code != 3 {
				t.Errorf("result %+v, %v", result, err)
			}
		})
	}
	wg.Wait()
	cancel()
	if err := <-slow; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled command: %v", err)
	}
}

// The time limit kills the whole process group, not its leader alone.
func TestTimeLimitKillsTheGroup(t *testing.T) {
	c := pair(t, Exec)
	cmd := sh(`sleep 61 & echo $!; wait`)
	cmd.Timeout = 300 * time.Millisecond
	var stdout bytes.Buffer
	result, err := c.Exec(t.Context(), cmd, &stdout, nil)
	if err != nil || !result.TimedOut || result.Code != CodeTimedOut {
		t.Fatalf("result %+v, %v", result, err)
	}
	// A zombie of the group may remain until init reaps it.
	check, err := c.Exec(t.Context(), sh("! grep -qs '^State:.[SRD]' /proc/"+strings.TrimSpace(stdout.String())+"/status"), nil, nil)
	if err != nil || check.Code != 0 {
		t.Errorf("the child outlived its leader: %+v, %v", check, err)
	}
}

// A daemon that a script leaves behind with its output open does not keep the
// script from ending.
func TestChildHoldingTheOutput(t *testing.T) {
	c := pair(t, Exec)
	var stdout bytes.Buffer
	result, err := c.Exec(t.Context(), sh("sleep 3 & exit 5"), &stdout, nil)
	if err != nil || result.Code != 5 || result.Duration > 2500*time.Millisecond {
		t.Errorf("result %+v, %v", result, err)
	}
}

func TestSignalAndMissingProgram(t *testing.T) {
	c := pair(t, Exec)
	if result, err := c.Exec(t.Context(), sh("kill -SEGV $$"), nil, nil); err != nil || result.Code != 128+11 || result.Signal == "" {
		t.Errorf("killed: %+v, %v", result, err)
	}
	missing := Command{Argv: []string{"/nonexistent/program"}}
	if result, err := c.Exec(t.Context(), missing, nil, nil); err != nil || result.Code != CodeNotStarted || result.Error == "" {
		t.Errorf("missing: %+v, %v", result, err)
	}
	if result, err := c.Exec(t.Context(), Command{}, nil, nil); err != nil || result.Code != CodeNotStarted {
		t.Errorf("empty: %+v, %v", result, err)
	}
}

// Interrupt ends what runs and leaves the client usable: a reboot begins so.
func TestInterrupt(t *testing.T) {
	started := make(chan struct{})
	c := pair(t, func(ctx context.Context, cmd Command, stdout, stderr io.Writer) Result {
		if cmd.Argv[0] == "next" {
			return Result{}
		}
		close(started)
		<-ctx.Done()
		return Result{Code: 137}
	})
	ended := make(chan Result, 1)
	go func() {
		result, _ := c.Exec(t.Context(), Command{Argv: []string{"hang"}}, nil, nil)
		ended <- result
	}()
	<-started
	c.Interrupt()
	if result := <-ended; result.Code != 137 {
		t.Errorf("interrupted: %+v", result)
	}
	if result, err := c.Exec(t.Context(), Command{Argv: []string{"next"}}, nil, nil); err != nil || result.Code != 0 {
		t.Errorf("next: %+v, %v", result, err)
	}
}

// A machine that dies ends every command under way with ErrGone, not a hang.
func TestStreamEnds(t *testing.T) {
	near, far := net.Pipe()
	c := NewClient(near)
	defer c.Close()
	go func() {
		_, _ = far.Read(make([]byte, 1024)) // the request
		_ = far.Close()
	}()
	if _, err := c.Exec(t.Context(), sh("true"), nil, nil); !errors.Is(err, ErrGone) {
		t.Errorf("error %v, want ErrGone", err)
	}
	if _, err := c.Ready(t.Context()); !errors.Is(err, ErrGone) {
		t.Errorf("error %v, want ErrGone", err)
	}
}

// An agent that was restarted greets again: commands of its predecessor would
// otherwise wait for ever.
func TestSecondHelloEndsTheClient(t *testing.T) {
	near, far := net.Pipe()
	c := NewClient(near)
	defer c.Close()
	go func() {
		_, _ = io.WriteString(far, `{"hello":{"boot_id":"a"}}`+"\n"+`{"hello":{"boot_id":"a"}}`+"\n")
	}()
	<-c.done
	if _, err := c.Exec(t.Context(), sh("true"), nil, nil); !errors.Is(err, ErrGone) {
		t.Errorf("error %v, want ErrGone", err)
	}
}

// Neither side swallows a line without bound, or passes over nonsense.
func TestServeRefusesBadLines(t *testing.T) {
	for name, input := range map[string]string{
		"too long": strings.Repeat("x", maxLine+1),
		"nonsense": "{\n",
	} {
		stream := struct {
			io.Reader
			io.Writer
		}{strings.NewReader(input), io.Discard}
		if err := Serve(t.Context(), stream, Hello{}, Exec); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A command too large for a line is refused before it is half sent.
func TestCommandTooLarge(t *testing.T) {
	c := pair(t, Exec)
	cmd := sh("cat >/dev/null")
	cmd.Stdin = make([]byte, maxLine)
	if _, err := c.Exec(t.Context(), cmd, nil, nil); err == nil || errors.Is(err, ErrGone) {
		t.Errorf("error %v", err)
	}
	if _, err := c.Exec(t.Context(), sh("true"), nil, nil); err != nil {
		t.Errorf("the client is unusable afterwards: %v", err)
	}
}
