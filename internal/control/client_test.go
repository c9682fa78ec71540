// SPDX-License-Identifier: Apache-2.0

package control_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/volseal/volseal/internal/control"
	"github.com/volseal/volseal/internal/control/controltest"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/keypolicy"
	"github.com/volseal/volseal/internal/volume"
)

func client(t *testing.T, socket string) *control.Client {
	t.Helper()
	c := control.NewClient(socket)
	t.Cleanup(c.Close)
	return c
}

func codeOf(err error) control.Code {
	var e *control.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// TestAwaitFollowsEvents protects --wait end to end: an error from before the
// wish is passed over, each change is seen when it happens, and the first
// answer to the wish ends the wait.
func TestAwaitFollowsEvents(t *testing.T) {
	old := orders()
	old.Class, old.Error = fault.Revoked, "the key was disabled"
	agent := agentWith(old)
	socket := controltest.Serve(t, control.Options{Agent: agent, Permit: as(control.Operate), Log: discard()})
	c := client(t, socket)
	accepted, err := c.Do(t.Context(), "orders", volume.Order{Verb: volume.VerbUnlock})
	if err != nil {
		t.Fatal(err)
	}
	// Each status that the client has seen makes the next one happen.
	script := []func(*volume.Status){
		func(s *volume.Status) { s.WishSeq = 1 },
		func(s *volume.Status) { s.Progress = "half-way" },
		func(s *volume.Status) { s.Answered, s.Class, s.Phase = 1, fault.None, volume.Unlocked },
		func(s *volume.Status) { s.Phase = volume.Mounted },
	}
	seen := 0
	status, outcome, err := c.Await(t.Context(), accepted, time.Minute, func(volume.Status) {
		if seen < len(script) {
			agent.Change("orders", script[seen])
		}
		seen++
	})
	if err != nil || outcome != control.Fulfilled || status.Phase != volume.Mounted {
		t.Errorf("%+v, outcome %d, %v", status, outcome, err)
	}
	if seen != len(script)+1 {
		t.Errorf("%d statuses seen, want %d", seen, len(script)+1)
	}
}

// TestAwaitTimesOut protects the limit, and that what is returned is what stands then.
func TestAwaitTimesOut(t *testing.T) {
	agent := agentWith(orders())
	socket := controltest.Serve(t, control.Options{Agent: agent, Permit: as(control.Operate), Log: discard()})
	c := client(t, socket)
	accepted, err := c.Do(t.Context(), "orders", volume.Order{Verb: volume.VerbUnlock})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	status, outcome, err := c.Await(t.Context(), accepted, 50*time.Millisecond, nil)
	if err != nil || outcome != control.TimedOut || status.Name != "orders" {
		t.Errorf("%+v, outcome %d, %v", status, outcome, err)
	}
	if took := time.Since(began); took < 50*time.Millisecond {
		t.Errorf("ended after %s", took)
	}
}

// TestAwaitSurvivesRestart protects an operator who waits while the agent is
// upgraded: the wish is in the claim, and the new run's first pass answers it,
// although its numbers begin anew.
func TestAwaitSurvivesRestart(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	o := control.Options{Agent: agentWith(orders()), Permit: as(control.Operate), Log: discard()}
	stop, err := controltest.Listen(socket, o)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	c := client(t, socket)
	accepted, err := c.Do(t.Context(), "orders", volume.Order{Verb: volume.VerbUnlock})
	if err != nil {
		t.Fatal(err)
	}
	fresh := orders()
	fresh.Since = nil // no pass has ended yet
	next := agentWith(fresh)
	var seen []volume.Phase
	status, outcome, err := c.Await(t.Context(), accepted, time.Minute, func(s volume.Status) {
		seen = append(seen, s.Phase)
		switch len(seen) {
		case 1:
			if err := stop(); err != nil {
				t.Error(err)
			}
			o.Agent = next
			again, err := controltest.Listen(socket, o)
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { again() })
		case 2:
			next.Change("orders", func(s *volume.Status) { s.Since, s.Phase = orders().Since, volume.Mounted })
		}
	})
	if err != nil || outcome != control.Fulfilled || status.Phase != volume.Mounted {
		t.Errorf("%+v, outcome %d, %v, seen %v", status, outcome, err, seen)
	}
}

// TestWatchSurvivesRestart protects an operator who watches while the agent is
// upgraded; one that never answered is not waited for.
func TestWatchSurvivesRestart(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	c := client(t, socket)
	if err := c.Watch(t.Context(), func(volume.Snapshot) error { return nil }); codeOf(err) != control.CodeNotRunning {
		t.Errorf("nobody there: %v", err)
	}
	o := control.Options{Agent: agentWith(orders()), Permit: as(control.Read), Log: discard()}
	stop, err := controltest.Listen(socket, o)
	if err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	shown := 0
	err = c.Watch(t.Context(), func(volume.Snapshot) error {
		if shown++; shown == 2 {
			return enough
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		again, err := controltest.Listen(socket, o)
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = again() })
		return nil
	})
	if !errors.Is(err, enough) {
		t.Errorf("ended by %v after %d showings", err, shown)
	}
}

// TestAwaitVolumeGone protects the end of a wait for a volume that a reload removed.
func TestAwaitVolumeGone(t *testing.T) {
	agent := agentWith(orders())
	socket := controltest.Serve(t, control.Options{Agent: agent, Permit: as(control.Operate), Log: discard()})
	c := client(t, socket)
	accepted, err := c.Do(t.Context(), "orders", volume.Order{Verb: volume.VerbUnlock})
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = c.Await(t.Context(), accepted, 0, func(volume.Status) { agent.Set(volume.Snapshot{}) })
	if codeOf(err) != control.CodeNoSuchVolume {
		t.Errorf("%v", err)
	}
}

// TestAwaitInterrupted protects Ctrl-C.
func TestAwaitInterrupted(t *testing.T) {
	socket := controltest.Serve(t, control.Options{Agent: agentWith(orders()), Permit: as(control.Operate), Log: discard()})
	c := client(t, socket)
	accepted, err := c.Do(t.Context(), "orders", volume.Order{Verb: volume.VerbUnlock})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, _, err = c.Await(ctx, accepted, 0, func(volume.Status) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// TestWatch protects status --watch: one showing for each change, none without.
func TestWatch(t *testing.T) {
	agent := agentWith(orders())
	socket := controltest.Serve(t, control.Options{Agent: agent, Permit: as(control.Read), Log: discard()})
	c := client(t, socket)
	enough := errors.New("enough")
	var phases []volume.Phase
	err := c.Watch(t.Context(), func(s volume.Snapshot) error {
		phases = append(phases, s.Volumes[0].Phase)
		if len(phases) == 3 {
			return enough
		}
		agent.Change("orders", func(s *volume.Status) { s.Phase = []volume.Phase{volume.Unlocked, volume.Mounted}[len(phases)-1] })
		return nil
	})
	if !errors.Is(err, enough) || len(phases) != 3 || phases[2] != volume.Mounted {
		t.Errorf("%v %v", phases, err)
	}
}

// TestShutdownEndsWaits protects the agent's stop: a waiting reader does not hold it up.
func TestShutdownEndsWaits(t *testing.T) {
	agent := agentWith(orders())
	socket := filepath.Join(t.TempDir(), "s")
	stop, err := controltest.Listen(socket, control.Options{Agent: agent, Permit: as(control.Read), Log: discard()})
	if err != nil {
		t.Fatal(err)
	}
	c := client(t, socket)
	shown := make(chan struct{}, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- c.Watch(t.Context(), func(volume.Snapshot) error { shown <- struct{}{}; return nil })
	}()
	<-shown
	began := time.Now()
	if err := stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("the stop took %s", took)
	}
	if err := <-ended; codeOf(err) != control.CodeNotRunning {
		t.Errorf("the reader got %v", err)
	}
}

// TestStrangers protects the client from what is not an agent: it says so, and
// never takes a strange answer for a status.
func TestStrangers(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"text":         func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("hello")) },
		"html error":   func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", 502) },
		"empty object": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500); w.Write([]byte("{}")) },
	} {
		socket := filepath.Join(t.TempDir(), "s")
		ln, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		h := &http.Server{Handler: answer}
		go h.Serve(ln)
		t.Cleanup(func() { h.Close() })
		_, err = client(t, socket).Status(t.Context())
		if codeOf(err) != control.CodeInternal || !strings.Contains(err.Error(), "makes no sense") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPathNames protects against names that would name another path.
func TestPathNames(t *testing.T) {
	agent := agentWith(orders())
	socket := controltest.Serve(t, control.Options{Agent: agent, Permit: as(control.Destroy), Log: discard()})
	c := client(t, socket)
	for _, name := range []string{"", ".", "..", "../cache", "orders/lock", "a?b", "a#b", "a%2Fb", "ä b", strings.Repeat("x", 3000)} {
		_, err := c.Do(t.Context(), name, volume.Order{Verb: volume.VerbLock})
		if codeOf(err) != control.CodeNoSuchVolume {
			t.Errorf("%.20q: %v", name, err)
		}
	}
	if calls := agent.Calls(); len(calls) != 0 {
		t.Errorf("calls: %v", calls)
	}
}

// TestExaminations protects the way of a question to the agent and of its
// report back, whole.
func TestExaminations(t *testing.T) {
	const arn = "arn:aws:kms:us-east-1:111111111111:key/aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
	checks := []fault.Check{{
		Name: "kms:Decrypt", Status: fault.CheckFailed, Detail: "No.", Remedy: "Ask.", Class: fault.Revoked, Who: []fault.Owner{fault.Customer},
	}}
	key := control.KeyReport{ARN: arn, Principal: "p", Checks: checks, Missing: keypolicy.Statements("p")}
	agent := agentWith()
	agent.OnCheckKey = func(asked string) (control.KeyReport, error) {
		if asked != arn {
			t.Errorf("asked about %q", asked)
		}
		return key, nil
	}
	agent.OnDoctor = func() (control.Report, error) { return control.NewReport(checks), nil }
	c := control.NewClient(controltest.Serve(t, control.Options{Agent: agent, Permit: as(control.Operate), Log: discard()}))
	defer c.Close()
	gotKey, err := c.CheckKey(t.Context(), arn)
	if d := cmp.Diff(key, gotKey); err != nil || d != "" {
		t.Errorf("%v %s", err, d)
	}
	got, err := c.Doctor(t.Context())
	if d := cmp.Diff(control.Report{Checks: checks}, got); err != nil || d != "" {
		t.Errorf("%v %s", err, d)
	}
}
