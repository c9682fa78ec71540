// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/volseal/volseal/internal/config"
	"github.com/volseal/volseal/internal/control"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// TestExitCodes protects the table that scripts rely on, through whatever wraps the error.
func TestExitCodes(t *testing.T) {
	refused := func(c control.Code) error { return &control.Error{Code: c} }
	stands := func(o control.Outcome, s volume.Status) error { return &standsError{outcome: o, status: s} }
	class := func(c fault.Class) volume.Status { return volume.Status{Phase: volume.Sealed, Class: c} }
	for _, tt := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("odd"), 1},
		{context.Canceled, 1},
		{refused(control.CodeInternal), 1},
		{refused(control.CodeBadRequest), 1},
		{&usageError{message: "m"}, 2},
		{config.Problems{{Message: "m"}}, 3},
		{refused(control.CodeInvalidConfig), 3},
		{refused(control.CodeNotRunning), 4},
		{refused(control.CodeUnavailable), 4},
		{refused(control.CodePermissionDenied), 5},
		{refused(control.CodeNoSuchVolume), 6},
		{refused(control.CodeConflict), 16},
		{refused(control.CodeOverloaded), 16},
		{&control.Error{Code: control.CodeFailed, Class: fault.Revoked}, 10},
		{&control.Error{Code: control.CodeFailed, Class: fault.Unreachable}, 11},
		{&control.Error{Code: control.CodeFailed, Class: fault.Throttled}, 12},
		{&control.Error{Code: control.CodeFailed, Class: fault.Integrity}, 13},
		{&control.Error{Code: control.CodeFailed, Class: fault.Misconfigured}, 14},
		{&control.Error{Code: control.CodeFailed, Class: fault.Identity}, 15},
		{&control.Error{Code: control.CodeFailed, Class: fault.Unknown}, 1},
		{&fault.Error{Class: fault.Identity}, 15},
		{stands(control.Hopeless, class(fault.Revoked)), 10},
		{stands(control.TimedOut, class(fault.Unreachable)), 11},
		{stands(control.TimedOut, class(fault.Unknown)), 1},
		{stands(control.TimedOut, class(fault.None)), 17},
		{stands(control.Hopeless, volume.Status{Phase: volume.Quarantined}), 13},
		{stands(control.Hopeless, volume.Status{Phase: volume.Quarantined, Class: fault.Misconfigured}), 13},
		{stands(control.Superseded, class(fault.Revoked)), 16},
		{stands(control.TimedOut, volume.Status{Class: fault.Unknown, Reason: "busy"}), 16},
		{stands(control.Hopeless, volume.Status{Class: fault.Unknown, Reason: "conflict"}), 16},
		{stands(control.Hopeless, volume.Status{Phase: volume.Quarantined, Reason: "conflict"}), 16},
	} {
		if got := exitCode(tt.err); got != tt.want {
			t.Errorf("%#v: %d, want %d", tt.err, got, tt.want)
		}
		if tt.err == nil {
			continue
		}
		if got := exitCode(fmt.Errorf("outer: %w", &stepError{err: tt.err})); got != tt.want {
			t.Errorf("wrapped %#v: %d, want %d", tt.err, got, tt.want)
		}
	}
}

// TestEveryClassHasGuidance protects the one table of hints: an operator is
// never left without a word on what is wrong and what to do.
func TestEveryClassHasGuidance(t *testing.T) {
	for _, c := range fault.Classes() {
		g := guideTo(c)
		if g.hint == "" || g.meaning == "" {
			t.Errorf("%s: %+v", c, g)
		}
	}
	for _, p := range volume.Phases() {
		if meaningOf(volume.Status{Phase: p}) == meaningOf(volume.Status{Phase: "other"}) {
			t.Errorf("%s has no meaning", p)
		}
	}
}

// TestExitStatusesAreTold protects the manual, --help and docs/cli.md: they name
// every code that there is, each by the same words.
func TestExitStatusesAreTold(t *testing.T) {
	source, err := os.ReadFile("exitcodes.go")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	var known []string
	for _, e := range exitStatuses() {
		known = append(known, strconv.Itoa(e.code))
		if row := fmt.Sprintf("| %d | %s |", e.code, e.meaning); !strings.Contains(string(page), row) {
			t.Errorf("cli.md: no %q", row)
		}
	}
	var codes []string
	for _, m := range regexp.MustCompile(`(?m)^\texit\w+ += (\d+)`).FindAllStringSubmatch(string(source), -1) {
		codes = append(codes, m[1])
	}
	if !slices.Equal(codes, known) {
		t.Errorf("exitStatuses has %v; the source %v", known, codes)
	}
}
