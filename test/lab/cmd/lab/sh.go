// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/volseal/volseal/test/lab/guest"
)

// sh is `lab sh`: its exit code is that of the command.
func sh(ctx context.Context, args []string) (int, error) {
	flags := newFlags("sh")
	timeout := flags.Duration("timeout", 15*time.Minute, "limit for the command")
	if err := flags.Parse(args); err != nil {
		return exitUsage, fmt.Errorf("sh: %w\n%s", err, usage)
	}
	cmd, err := shellCommand(flags.Args(), os.Stdin)
	if err != nil {
		return exitUsage, err
	}
	cmd.Timeout, cmd.Env, cmd.Dir = *timeout, scriptEnv(), "/root"
	client, err := connect(ctx)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	result, err := client.Exec(ctx, cmd, os.Stdout, os.Stderr)
	switch {
	case err != nil:
		return 0, fmt.Errorf("run command: %w", err)
	case result.Down:
		return 0, nil
	case result.TimedOut || result.Error != "":
		return result.Code, errors.New(describe(result))
	}
	return result.Code, nil
}

// shellCommand is one word for a shell, several to run as they are, or - for a
// script on stdin.
func shellCommand(words []string, stdin io.Reader) (guest.Command, error) {
	switch {
	case len(words) == 0:
		return guest.Command{}, errors.New("sh: no command named\n" + usage)
	case len(words) == 1 && words[0] == "-":
		text, err := io.ReadAll(stdin)
		if err != nil {
			return guest.Command{}, fmt.Errorf("read script: %w", err)
		}
		return guest.Command{Argv: []string{"bash", "-s"}, Stdin: text}, nil
	case len(words) == 1:
		return guest.Command{Argv: []string{"bash", "-c", words[0]}}, nil
	}
	return guest.Command{Argv: words}, nil
}
