// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"
)

// run is `lab run`: its exit code is that of the first script that failed.
func run(ctx context.Context, args []string) (int, error) {
	o, err := parseRun(args)
	if err != nil {
		return exitUsage, err
	}
	scripts, err := loadScripts(o.files)
	if err != nil {
		return exitUsage, err
	}
	if o.keep {
		return runKept(ctx, o, scripts)
	}
	if err := adoptOrphans(); err != nil {
		return 0, err
	}
	l, err := startLab(ctx, o, newLog(o.verbose))
	if err != nil {
		return 0, err
	}
	r := runner{guest: l.machine, timeout: o.timeout, stdout: os.Stdout, stderr: os.Stderr}
	code, err := r.run(ctx, scripts)
	return code, errors.Join(err, l.close())
}
