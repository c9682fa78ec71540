// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/volseal/volseal/internal/control"
	"github.com/volseal/volseal/internal/control/controltest"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// testNow is the moment at which every script runs.
func testNow() time.Time { return time.Date(2026, 1, 2, 3, 10, 0, 0, time.UTC) }

// TestMain lets scripts run the command line as a process of its own: the
// product's, but for the clock and for what it takes to be a terminal. What it
// prints as JSON is held against docs/schema.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"volseal": func() {
			t := newTerminal(os.Stdout, os.Stderr)
			t.now = testNow
			t.tty, t.ttyErr = os.Getenv("TTY") != "", os.Getenv("TTY") != ""
			code, out, err := checkedRun(func(stdout *bytes.Buffer) int {
				t.stdout = stdout
				return runCLI(context.Background(), os.Args[1:], t, agentCommand())
			}, os.Args[1:])
			os.Stdout.Write(out)
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(notAsDocumented)
			}
			os.Exit(code)
		},
		emulatorCommand: serveEmulator,
	})
}

// notAsDocumented is the exit code of a run whose JSON is not as docs/schema says.
const notAsDocumented = 99

// TestScripts runs testdata/*.txtar. Each says why it exists. In them,
//
//	agent FILE      serves the agent that FILE describes on the socket "s"
//	exits N CMD…    runs a command that must exit with N
//	mistyped FILE   runs each line of a table of command lines that go wrong
//	narrow          checks that the last standard output fits 80 columns
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			schemas, err := filepath.Abs(schemaDir())
			e.Setenv("SCHEMAS", schemas)
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"agent":    serveScenario,
			"exits":    exits,
			"mistyped": mistyped,
			"narrow":   narrowOutput,
		},
		UpdateScripts: os.Getenv("UPDATE") != "",
	})
}

// scenario describes an agent: what it shows, and what becomes of a wish.
type scenario struct {
	May     string // the permission of everybody: none, read, operate, destroy
	Volumes []volume.Status
	Keys    []volume.KeyStatus
	Do      map[string]struct { // by verb and name: "lock orders"
		Conflict *volume.ConflictError
		Fault    *fault.Error
		// Then are edits of the volume's status, one after the other. Each
		// answers the wish unless it says otherwise.
		Then []json.RawMessage
	}
	Rotate map[string]struct { // by name
		Conflict *volume.ConflictError
		Fault    *fault.Error
		Order    volume.RotateOrder // what must have been asked for
		Answer   volume.RotateAnswer
		Then     []json.RawMessage // as above
	}
	Reload   *control.Error
	CheckKey map[string]struct { // by ARN
		Report control.KeyReport
		Fault  *fault.Error
	}
	Doctor struct {
		Report control.Report
		Error  *control.Error
	}
	Header map[string]struct { // by verb and name: "restore orders"
		Conflict *volume.ConflictError
		Fault    *fault.Error
		Verify   volume.HeaderReport
		Backup   volume.HeaderBackup
		Restore  volume.HeaderRestored
		Order    volume.HeaderOrder // what must have been asked for
	}
}

func serveScenario(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: agent FILE")
	}
	var s scenario
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &s))
	for i, v := range s.Volumes {
		if v.Who == nil { // as no agent leaves it
			s.Volumes[i].Who = []fault.Owner{}
		}
		if v.Layers == nil { // nor this
			s.Volumes[i].Layers = []volume.Layer{}
		}
	}
	a := &controltest.Agent{OnDo: s.do, OnRotate: s.rotate, OnHeader: s.header}
	if s.Reload != nil {
		a.ReloadError = s.Reload
	}
	a.OnCheckKey = func(arn string) (control.KeyReport, error) {
		answer, ok := s.CheckKey[arn]
		switch {
		case !ok:
			return control.KeyReport{}, &control.Error{Code: control.CodeBadRequest, Message: "This is not the ARN of a KMS key."}
		case answer.Fault != nil:
			return control.KeyReport{}, answer.Fault
		}
		return answer.Report, nil
	}
	a.OnDoctor = func() (control.Report, error) {
		if s.Doctor.Error != nil {
			return control.Report{}, s.Doctor.Error
		}
		return s.Doctor.Report, nil
	}
	a.Set(volume.Snapshot{Volumes: s.Volumes, Keys: s.Keys})
	stop, err := controltest.Listen(filepath.Join(ts.Getenv("WORK"), "s"), control.Options{
		Agent: a, Permit: func(control.Peer) control.Permission { return permissionOf(s.May) },
		Log: slog.New(slog.DiscardHandler),
	})
	ts.Check(err)
	ts.Defer(func() { ts.Check(stop()) })
}

func permissionOf(may string) control.Permission {
	all := []control.Permission{control.None, control.Read, control.Operate, control.Destroy}
	i := slices.IndexFunc(all, func(p control.Permission) bool { return p.String() == may })
	return all[max(i, 0)]
}

func (s scenario) do(a *controltest.Agent, c controltest.Call, wish uint64) error {
	d := s.Do[string(c.Verb)+" "+c.Name]
	switch {
	case d.Conflict != nil:
		return d.Conflict
	case d.Fault != nil:
		return d.Fault
	}
	change(a, c.Name, wish, d.Then)
	return nil
}

// change makes the edits of a volume's status that answer a wish.
func change(a *controltest.Agent, name string, wish uint64, edits []json.RawMessage) {
	for _, edit := range edits {
		a.Change(name, func(v *volume.Status) {
			v.WishSeq, v.Answered = wish, wish
			if err := json.Unmarshal(edit, v); err != nil {
				panic(err) // the test's own mistake, contained by the server
			}
		})
	}
}

func (s scenario) rotate(a *controltest.Agent, name string, order volume.RotateOrder, wish uint64) (answer volume.RotateAnswer, err error) {
	r := s.Rotate[name]
	dry := order.DryRun
	order.DryRun = false
	switch {
	case order != r.Order:
		return answer, fmt.Errorf("asked for %+v, want %+v", order, r.Order)
	case r.Conflict != nil:
		return answer, r.Conflict
	case r.Fault != nil:
		return answer, r.Fault
	case dry:
		return answer, nil
	}
	change(a, name, wish, r.Then)
	return r.Answer, nil
}

func (s scenario) header(verb, name string, order volume.HeaderOrder) (any, error) {
	h := s.Header[verb+" "+name]
	switch {
	case order != h.Order:
		return nil, fmt.Errorf("asked for %+v, want %+v", order, h.Order)
	case h.Conflict != nil:
		return nil, h.Conflict
	case h.Fault != nil:
		return nil, h.Fault
	}
	return map[string]any{"verify": h.Verify, "backup": h.Backup, "restore": h.Restore}[verb], nil
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	got := 0
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// mistyped reads rows of CODE | COMMAND LINE | WHAT STDERR SAYS, the last a
// regular expression. Nobody is left with less than two lines to go by.
func mistyped(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: mistyped FILE")
	}
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		row := strings.SplitN(strings.TrimSpace(line), " | ", 3)
		if len(row) != 3 {
			ts.Fatalf("not a row: %s", line)
		}
		exits(ts, false, append([]string{row[0], "volseal"}, strings.Fields(row[1])...))
		said := ts.ReadFile("stderr")
		if ok, err := regexp.MatchString(row[2], said); err != nil || !ok || strings.Count(said, "\n") < 2 {
			ts.Fatalf("volseal %s: no %q (%v) in:\n%s", row[1], row[2], err, said)
		}
		if out := ts.ReadFile("stdout"); out != "" {
			ts.Fatalf("volseal %s: on stdout: %s", row[1], out)
		}
	}
}

func narrowOutput(ts *testscript.TestScript, _ bool, _ []string) {
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width {
			ts.Fatalf("%d columns: %s", n, line)
		}
	}
}
