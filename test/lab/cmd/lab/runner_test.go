// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/volseal/volseal/test/lab/guest"
)

// fakeGuest answers by the base name of what it is told to run.
type fakeGuest struct {
	answers map[string]guest.Result // of scripts
	left    guest.Result            // of the search for leftovers
	err     error
	ran     []string
}

func (f *fakeGuest) Exec(_ context.Context, cmd guest.Command, stdout, stderr io.Writer) (guest.Result, error) {
	if f.err != nil {
		return guest.Result{}, f.err
	}
	switch {
	case bytes.Equal(cmd.Stdin, leftoversScript):
		return f.left, nil
	case bytes.Equal(cmd.Stdin, diagnoseScript):
		_, _ = io.WriteString(stderr, "the journal\n")
		return guest.Result{}, nil
	case cmd.Stdin != nil: // a script is put there
		return guest.Result{}, nil
	}
	f.ran = append(f.ran, strings.Join(cmd.Argv, " "))
	_, _ = io.WriteString(stdout, "said by "+filepath.Base(cmd.Argv[len(cmd.Argv)-1])+"\n")
	return f.answers[filepath.Base(cmd.Argv[len(cmd.Argv)-1])], nil
}

func runScripts(f executor) (code int, stdout, stderr string, err error) {
	var out, errs bytes.Buffer
	r := runner{guest: f, timeout: time.Minute, stdout: &out, stderr: &errs}
	code, err = r.run(context.Background(), []script{
		{name: "a/one.sh", text: []byte("true\n")},
		{name: "two.sh", text: []byte("#!/usr/bin/jq -f\n")},
		{name: "three.sh", text: []byte("false\n")},
	})
	return code, out.String(), errs.String(), err
}

// All scripts run in order, each by bash unless it names another interpreter,
// and what they print is not touched.
func TestScriptsRunInOrder(t *testing.T) {
	f := &fakeGuest{}
	code, stdout, stderr, err := runScripts(f)
	if code != 0 || err != nil {
		t.Fatalf("exit %d, %v", code, err)
	}
	want := []string{"bash /var/lib/lab/01/one.sh", "/var/lib/lab/02/two.sh", "bash /var/lib/lab/03/three.sh"}
	if !slices.Equal(f.ran, want) {
		t.Errorf("ran %q", f.ran)
	}
	if stdout != "said by one.sh\nsaid by two.sh\nsaid by three.sh\n" {
		t.Errorf("stdout %q", stdout)
	}
	if !strings.Contains(stderr, "=== a/one.sh\n") {
		t.Errorf("stderr %q", stderr)
	}
}

// The first script that fails is the last one, and its status is ours; the
// journal is shown.
func TestFirstFailureEndsTheRun(t *testing.T) {
	f := &fakeGuest{answers: map[string]guest.Result{"two.sh": {Code: 42}}}
	code, _, stderr, err := runScripts(f)
	if code != 42 || err != nil || len(f.ran) != 2 || !strings.Contains(stderr, "the journal") {
		t.Errorf("exit %d, %v, ran %q, stderr %q", code, err, f.ran, stderr)
	}
}

// A script that takes the machine down ends there, well.
func TestRebootEndsTheScriptWell(t *testing.T) {
	f := &fakeGuest{answers: map[string]guest.Result{"one.sh": {Down: true, Code: 137}}}
	if code, _, _, err := runScripts(f); code != 0 || err != nil || len(f.ran) != 3 {
		t.Errorf("exit %d, %v, ran %q", code, err, f.ran)
	}
}

// What a script leaves behind fails the run even when the script was content.
func TestLeftoversFailTheRun(t *testing.T) {
	f := &fakeGuest{left: guest.Result{Code: 1}}
	if code, _, _, err := runScripts(f); code != 1 || err != nil || len(f.ran) != 1 {
		t.Errorf("exit %d, %v, ran %q", code, err, f.ran)
	}
}

// A machine that is lost is an error of the lab, not a script's exit status.
func TestLostMachine(t *testing.T) {
	lost := errors.New("lost")
	code, _, _, err := runScripts(&fakeGuest{err: lost})
	if !errors.Is(err, lost) || report(code, err) != exitFailed {
		t.Errorf("exit %d, %v", code, err)
	}
}

// Missing files are named before anything boots, all of them.
func TestLoadScriptsNamesAllMissing(t *testing.T) {
	dir := t.TempDir()
	there := filepath.Join(dir, "there.sh")
	if err := os.WriteFile(there, []byte("true"), 0o644); err != nil {
		t.Fatal(err)
	}
	if scripts, err := loadScripts([]string{there}); err != nil || len(scripts) != 1 || string(scripts[0].text) != "true" {
		t.Errorf("scripts %+v, %v", scripts, err)
	}
	_, err := loadScripts([]string{there, filepath.Join(dir, "x.sh"), filepath.Join(dir, "y.sh")})
	if err == nil || !strings.Contains(err.Error(), "x.sh") || !strings.Contains(err.Error(), "y.sh") {
		t.Errorf("error %v", err)
	}
}

// A kept machine is reached through its supervisor as if it were here; an error
// of the lab arrives as one.
func TestRelay(t *testing.T) {
	for name, f := range map[string]*fakeGuest{
		"up": {answers: map[string]guest.Result{"reboot": {Down: true}}}, "lost": {err: errors.New("kernel panic")},
	} {
		t.Run(name, func(t *testing.T) {
			near, far := net.Pipe()
			done := make(chan struct{})
			go func() {
				defer close(done)
				relay(t.Context(), far, f)
			}()
			client := guest.NewClient(near)
			if _, err := client.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			result, err := client.Exec(t.Context(), guest.Command{Argv: []string{"reboot"}}, &out, nil)
			switch {
			case err != nil:
				t.Error(err)
			case f.err == nil && (!result.Down || out.String() != "said by reboot\n"):
				t.Errorf("result %+v, output %q", result, &out)
			case f.err != nil && (result.Code != exitFailed || !strings.Contains(result.Error, "kernel panic")):
				t.Errorf("result %+v", result)
			}
			_ = client.Close()
			<-done
		})
	}
}
