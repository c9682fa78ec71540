// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/volseal/volseal/test/lab/world"
)

// runCloud serves the emulated AWS without a machine until ctx ends, and prints
// how its clients find it, for a shell to eval.
func runCloud(ctx context.Context, args []string) int {
	flags := newFlags("cloud")
	dir := flags.String("dir", "", "where keys and volumes outlive this run")
	verbose := flags.Bool("v", false, "say more")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Print(usage)
			return 0
		}
		if err == nil {
			err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
		}
		fmt.Fprintf(os.Stderr, "lab: cloud: %v\n%s", err, usage)
		return exitUsage
	}
	return report(0, cloud(ctx, *dir, world.Options{Log: newLog(*verbose)}, os.Stdout))
}

func cloud(ctx context.Context, dir string, opts world.Options, out io.Writer) (err error) {
	if dir == "" {
		if dir, err = os.MkdirTemp("", "volseal-cloud-"); err != nil {
			return fmt.Errorf("make scratch directory: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	opts.Dir = dir
	w, err := world.Start(ctx, opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	for _, setting := range w.Env() {
		if _, err := fmt.Fprintln(out, "export", setting); err != nil {
			return fmt.Errorf("print settings: %w", err)
		}
	}
	<-ctx.Done()
	return nil
}
