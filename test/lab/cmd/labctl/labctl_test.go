// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/volseal/volseal/test/lab/world"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"labctl": main})
}

// machine has a guest that mounts everything while the file "mounted" exists in
// its directory, and notes what happens to its power in the file "power".
type machine struct{ dir string }

func (machine) Plug(context.Context, string, string) error { return nil }
func (machine) Unplug(context.Context, string) error       { return nil }

func (m machine) InUse(context.Context, string) (bool, error) {
	_, err := os.Stat(filepath.Join(m.dir, "mounted"))
	return err == nil, nil
}

func (m machine) Reboot(context.Context) error   { return m.note("reboot") }
func (m machine) PowerCut(context.Context) error { return m.note("power-cut") }

func (m machine) note(what string) error {
	return os.WriteFile(filepath.Join(m.dir, "power"), []byte(what+"\n"), 0o600)
}

func (m machine) Host(_ context.Context, args ...string) ([]byte, error) {
	if args[0] != "echo" {
		return []byte("no " + args[0]), errors.New("exit status 127")
	}
	return []byte(args[1] + "\n"), nil
}

// Every command against a real world; each script says what it protects.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			m := machine{env.WorkDir}
			w, err := world.Start(t.Context(), world.Options{
				Dir: filepath.Join(env.WorkDir, ".world"), Plugger: m, Machine: m, WithoutIMDS: true,
				LatencyMin: time.Millisecond, LatencyMax: 3 * time.Millisecond,
			})
			if err != nil {
				return err
			}
			env.Defer(func() {
				if err := w.Close(); err != nil {
					t.Errorf("close world: %v", err)
				}
			})
			env.Setenv("LABCTL_URL", "http://"+w.Addr("control"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status": status, "keep": keep, "await": await,
		},
	})
}

// status CODE CMD… runs a command that must exit with CODE.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status CODE CMD [ARG…]")
	}
	got := "0"
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		got = ts.ReadFile("stderr")
		var exit interface{ ExitCode() int }
		if errors.As(err, &exit) {
			got = string(rune('0' + exit.ExitCode()))
		}
	}
	if got != args[0] {
		ts.Fatalf("exit status %s, want %s", got, args[0])
	}
}

// keep NAME keeps the word that the last command printed.
func keep(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: keep NAME")
	}
	word := ts.ReadFile("stdout")
	ts.Setenv(args[0], word[:len(word)-1])
}

// await FILE waits for a file to appear.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: await FILE")
	}
	for range 2000 {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	ts.Fatalf("%s does not appear", args[0])
}
