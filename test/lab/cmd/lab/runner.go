// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/volseal/volseal/test/lab/guest"
)

//go:embed leftovers.sh
var leftoversScript []byte

//go:embed diagnose.sh
var diagnoseScript []byte

// scriptsDir is where scripts lie in the guest; it outlives reboots.
const scriptsDir = "/var/lib/lab"

// toolLimit bounds the harness's own commands in the guest.
const toolLimit = time.Minute

// executor runs commands in the guest: the machine itself, or the connection to
// the supervisor of one.
type executor interface {
	Exec(ctx context.Context, cmd guest.Command, stdout, stderr io.Writer) (guest.Result, error)
}

// script is one FILE, read before anything is booted.
type script struct {
	name string // as the user wrote it
	text []byte
}

func loadScripts(files []string) ([]script, error) {
	var scripts []script
	var errs []error
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			errs = append(errs, fmt.Errorf("read script: %w", err))
			continue
		}
		scripts = append(scripts, script{name: file, text: text})
	}
	return scripts, errors.Join(errs...)
}

// runner runs scripts one after the other and stops at the first that fails.
type runner struct {
	guest          executor
	timeout        time.Duration // for each script
	stdout, stderr io.Writer     // what the scripts print; our own words go to stderr
}

// run returns the exit code of the script that failed, or 0. The error is one of
// the lab.
func (r *runner) run(ctx context.Context, scripts []script) (int, error) {
	for i, s := range scripts {
		fmt.Fprintf(r.stderr, "=== %s\n", s.name)
		result, err := r.runOne(ctx, i, s)
		took := result.Duration.Round(100 * time.Millisecond)
		switch {
		case err != nil:
			return 0, fmt.Errorf("%s: %w", s.name, err)
		case result.Down:
			fmt.Fprintf(r.stderr, "--- %s: ok, the machine went down (%s)\n", s.name, took)
			continue
		case result.Code != 0:
			fmt.Fprintf(r.stderr, "--- %s: FAILED, %s (%s)\n", s.name, describe(result), took)
			r.tool(ctx, diagnoseScript)
			return result.Code, nil
		}
		if code, err := r.tool(ctx, leftoversScript); err != nil || code != 0 {
			fmt.Fprintf(r.stderr, "--- %s: FAILED, it left something behind (%s)\n", s.name, took)
			return max(code, 1), err
		}
		fmt.Fprintf(r.stderr, "--- %s: ok (%s)\n", s.name, took)
	}
	return 0, nil
}

func (r *runner) runOne(ctx context.Context, number int, s script) (guest.Result, error) {
	dir := fmt.Sprintf("%s/%02d", scriptsDir, number+1)
	target := path.Join(dir, filepath.Base(s.name))
	if err := r.put(ctx, target, s.text); err != nil {
		return guest.Result{}, err
	}
	argv := []string{target}
	if !bytes.HasPrefix(s.text, []byte("#!")) {
		argv = []string{"bash", target}
	}
	return r.guest.Exec(ctx, guest.Command{Argv: argv, Dir: dir, Env: scriptEnv(), Timeout: r.timeout}, r.stdout, r.stderr)
}

// scriptEnv is that of a root shell, whoever started the lab.
func scriptEnv() []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "USER=root", "LOGNAME=root",
		"SHELL=/bin/bash", "TERM=dumb", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive",
	}
}

// put writes an executable file in the guest.
func (r *runner) put(ctx context.Context, target string, text []byte) error {
	var complaint strings.Builder
	result, err := r.guest.Exec(ctx, guest.Command{
		Argv:    []string{"sh", "-ec", `mkdir -p "${1%/*}"; cat >"$1"; chmod 755 "$1"`, "put", target},
		Stdin:   text,
		Timeout: toolLimit,
	}, nil, &complaint)
	if err != nil {
		return fmt.Errorf("write %s in the guest: %w", target, err)
	}
	if result.Code != 0 {
		return fmt.Errorf("write %s in the guest: %s: %s", target, describe(result), complaint.String())
	}
	return nil
}

// tool runs a script of ours and shows what it prints.
func (r *runner) tool(ctx context.Context, text []byte) (int, error) {
	result, err := r.guest.Exec(ctx, guest.Command{Argv: []string{"sh", "-s"}, Env: scriptEnv(), Stdin: text, Timeout: toolLimit}, r.stderr, r.stderr)
	if err != nil {
		fmt.Fprintf(r.stderr, "%v\n", err)
	}
	return result.Code, err
}

// describe says how a command ended.
func describe(result guest.Result) string {
	switch {
	case result.TimedOut && result.Error != "":
		return "out of time; " + result.Error
	case result.TimedOut:
		return "out of time"
	case result.Error != "":
		return result.Error
	case result.Signal != "":
		return "ended by signal: " + result.Signal
	}
	return fmt.Sprintf("exit status %d", result.Code)
}
