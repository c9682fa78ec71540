// SPDX-License-Identifier: Apache-2.0

// Command lab runs volseal's scenarios on a real kernel, in a virtual machine
// with an emulated AWS beside it.
//
//	lab run [--keep] FILE…   boot a fresh machine, run each script in it as root
//	lab sh CMD…              run a command in the machine that --keep left up
//	lab down                 end that machine
//	lab cloud [--dir D]      the emulated AWS alone, for tools on the host
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

const usage = `usage: lab run [--keep] [--package FILE | --no-package] [--kernel cloud|generic] [--cpus N] [--carry FILE] [--timeout D] FILE…
       lab sh [--timeout D] CMD [ARG…]     one word is a shell command; - reads a script from stdin
       lab down
       lab cloud [--dir D]
`

// Exit codes of lab itself, apart from those of scripts.
const (
	exitUsage  = 2
	exitFailed = 125 // the lab failed, not a script; as with env(1) and timeout(1)
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	os.Exit(dispatch(ctx, os.Args[1:]))
}

func dispatch(ctx context.Context, args []string) int {
	verb := ""
	if len(args) > 0 {
		verb, args = args[0], args[1:]
	}
	switch verb {
	case "run":
		return report(run(ctx, args))
	case "sh":
		return report(sh(ctx, args))
	case "down":
		return report(down(ctx, args))
	case "cloud":
		return runCloud(ctx, args)
	case "supervise": // what run --keep leaves behind
		return report(supervise(ctx, args))
	case "help", "-h", "--help":
		fmt.Print(usage)
		return 0
	}
	fmt.Fprint(os.Stderr, usage)
	return exitUsage
}

// report prints the error of a verb, and turns it into an exit code where there
// is none.
func report(code int, err error) int {
	if err == nil {
		return code
	}
	fmt.Fprintln(os.Stderr, "lab:", err)
	if code == 0 {
		code = exitFailed
	}
	return code
}
