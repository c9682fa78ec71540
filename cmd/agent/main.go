// SPDX-License-Identifier: Apache-2.0

// Command volseal is the agent and its command line in one binary. Here lives
// what knows the whole program: wiring, verbs, exit codes and hints. Decisions
// about volumes belong in internal/volume, not here.
package main

import (
	"context"
	"os"
	"os/signal"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := runCLI(ctx, os.Args[1:], newTerminal(os.Stdout, os.Stderr))
	stop()
	os.Exit(code)
}
