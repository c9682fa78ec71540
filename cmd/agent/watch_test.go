// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/volseal/volseal/internal/control"
	"github.com/volseal/volseal/internal/control/controltest"
	"github.com/volseal/volseal/internal/volume"
)

// reactor is an output that tells of each showing: a write that ends with a line.
type reactor struct {
	strings.Builder
	on func(n int)
	n  int
}

func (r *reactor) Write(p []byte) (int, error) {
	if strings.Contains(string(p), "orders") {
		r.n++
		defer func() { r.on(r.n) }()
	}
	return r.Builder.Write(p)
}

// TestStatusWatch protects status --watch: it shows each change once, ends with
// success when it is interrupted, and redraws on a terminal alone.
func TestStatusWatch(t *testing.T) {
	for name, tty := range map[string]bool{"pipe": false, "terminal": true} {
		a := &controltest.Agent{}
		a.Set(volume.Snapshot{Volumes: []volume.Status{{Name: "orders", Phase: volume.Sealed, Wish: volume.WishMounted}}})
		socket := controltest.Serve(t, control.Options{
			Agent: a, Permit: func(control.Peer) control.Permission { return control.Read }, Log: slog.New(slog.DiscardHandler),
		})
		ctx, interrupt := context.WithCancel(t.Context())
		defer interrupt()
		out := &reactor{on: func(n int) {
			if n == 1 {
				a.Change("orders", func(s *volume.Status) { s.Phase = volume.Mounted })
				return
			}
			interrupt()
		}}
		var failure strings.Builder
		code := runCLI(ctx, []string{"status", "--watch", "--socket", socket},
			terminal{stdout: out, stderr: &failure, tty: tty, plain: true, now: testNow})
		if code != exitDone || failure.Len() > 0 {
			t.Errorf("%s: exit code %d, %s", name, code, failure.String())
		}
		text := out.String()
		if strings.Count(text, "Sealed") != 1 || strings.Count(text, "Mounted") != 1 || strings.Contains(text, "\x1b") != tty {
			t.Errorf("%s: %q", name, text)
		}
	}
}

// TestWaitInterrupted protects Ctrl-C during --wait: it is a failure that says
// that the wish stands.
func TestWaitInterrupted(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	a := &controltest.Agent{}
	a.Set(volume.Snapshot{Volumes: []volume.Status{{Name: "orders", Phase: volume.Sealed, Wish: volume.WishMounted}}})
	socket := controltest.Serve(t, control.Options{
		Agent: a, Permit: func(control.Peer) control.Permission { return control.Operate }, Log: slog.New(slog.DiscardHandler),
	})
	progress := &reactor{on: func(int) { interrupt() }}
	code := runCLI(ctx, []string{"unlock", "orders", "--wait", "--socket", socket},
		terminal{stdout: &strings.Builder{}, stderr: progress, ttyErr: true, now: testNow})
	if code != exitUnexpected || !strings.Contains(progress.String(), "What was recorded stands.") {
		t.Errorf("exit code %d: %s", code, progress.String())
	}
}
