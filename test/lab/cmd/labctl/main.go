// SPDX-License-Identifier: Apache-2.0

// Command labctl drives the emulated AWS around a lab machine: keys, volumes,
// snapshots, faults, the log of calls, the machine's power. It only asks; the
// world, package test/lab/world, does. It runs in the guest and on the host.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/volseal/volseal/test/lab/world/control"
)

// Exit codes, as far as they go those of volseal.
const (
	exitDone    = 0
	exitRefused = 1 // the world answered, and did not do it
	exitUsage   = 2
	exitNoWorld = 4 // the world did not answer
)

// urlFile tells the guest where its world is.
const urlFile = "/etc/labctl"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// cli is one invocation.
type cli struct {
	world *control.Client
	in    io.Reader
	out   io.Writer
}

func run(ctx context.Context, args []string, in io.Reader, out, complaints io.Writer) int {
	c := &cli{world: &control.Client{Find: findWorld, HTTP: &http.Client{}}, in: in, out: out}
	root := c.command()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(complaints)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	fmt.Fprintln(complaints, "labctl:", err)
	var failure *failure
	if !errors.As(err, &failure) {
		fmt.Fprintf(complaints, "usage: %s\n", strings.TrimSuffix(cmd.UseLine(), " [flags]"))
		if cmd.HasSubCommands() {
			fmt.Fprintf(complaints, "commands: %s\n", strings.Join(names(cmd), ", "))
		}
		return exitUsage
	}
	var refused *control.Error
	if errors.As(err, &refused) {
		return exitRefused
	}
	return failure.code
}

func names(cmd *cobra.Command) []string {
	var out []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			out = append(out, sub.Name())
		}
	}
	return out
}

// failure is an error of the deed, as against one of the command line.
type failure struct {
	code int
	err  error
}

func (f *failure) Error() string { return f.err.Error() }

func (f *failure) Unwrap() error { return f.err }

// do makes cobra tell the two apart: whatever a deed returns is no matter of
// usage, unless it says so.
func do(deed func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		err := deed(cmd, args)
		var usage usageError
		var known *failure
		if err == nil || errors.As(err, &usage) || errors.As(err, &known) {
			return err
		}
		return &failure{exitNoWorld, err}
	}
}

// usageError is a wrong argument that only the deed could notice.
type usageError string

func (u usageError) Error() string { return string(u) }

// local is a failure on this side: a file, a stream.
func local(err error) error { return &failure{exitRefused, err} }

// findWorld says where the world is.
func findWorld() (string, error) {
	if base := os.Getenv("LABCTL_URL"); base != "" {
		return base, nil
	}
	raw, err := os.ReadFile(urlFile)
	if err != nil {
		return "", fmt.Errorf("find the world: LABCTL_URL is not set, and %w", err)
	}
	return strings.TrimSpace(string(raw)), nil
}

func (c *cli) command() *cobra.Command {
	root := &cobra.Command{
		Use:               "labctl COMMAND",
		Short:             "Drive the emulated AWS around the lab machine",
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	group(root)
	root.AddCommand(c.key(), c.volume(), c.snapshot(), c.fault(), c.calls(), c.mark(), c.host(), c.ec2(), c.credentials(), c.header())
	return root
}

// group makes a command that only holds others complain when none is named.
func group(cmd *cobra.Command) {
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("unknown command %q", args[0])
		}
		return nil
	}
	cmd.RunE = func(*cobra.Command, []string) error { return errors.New("no command named") }
}

// post is the commonest deed: ask, expect nothing back.
func (c *cli) post(ctx context.Context, in any, segments ...string) error {
	if in == nil {
		in = struct{}{}
	}
	return c.world.Call(ctx, http.MethodPost, control.Path(segments...), in, nil)
}

func (c *cli) println(words ...any) error {
	if _, err := fmt.Fprintln(c.out, words...); err != nil {
		return local(fmt.Errorf("print: %w", err))
	}
	return nil
}
