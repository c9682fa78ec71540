// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/volseal/volseal/internal/control"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

const (
	oldCMK = "arn:aws:kms:us-east-1:111111111111:key/aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
	newCMK = "arn:aws:kms:us-east-1:222222222222:key/bbbbbbbb-bbbb-cccc-dddd-eeeeeeeeeeee"
)

var toNew = volume.RotateOrder{From: oldCMK, KeyARN: newCMK}

// rotations is an agent of which each rotation takes a time of its own.
type rotations struct {
	takes   map[string]time.Duration
	refuses map[string]error // an order
	tries   map[string]error // a dry run
	stands  map[string]fault.Class
	is      map[string]volume.Status // when it is looked at again
	ends    string                   // the CMK that the volume is under at last; "" is the one it was moved to

	mu         sync.Mutex
	now, peak  int
	began      []string
	asked      int
	everything error // of each request
}

func (r *rotations) Rotate(ctx context.Context, name string, o volume.RotateOrder) (control.Accepted, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ctx.Err() != nil {
		return control.Accepted{}, ctx.Err()
	}
	if r.everything != nil {
		return control.Accepted{}, r.everything
	}
	if o.DryRun {
		r.asked++
		return control.Accepted{}, r.tries[name]
	}
	if err := r.refuses[name]; err != nil {
		return control.Accepted{}, err
	}
	r.began = append(r.began, name)
	return control.Accepted{Volume: name}, nil
}

func (r *rotations) Await(ctx context.Context, a control.Accepted, _ time.Duration, told func(volume.Status)) (volume.Status, control.Outcome, error) {
	r.mu.Lock()
	r.now++
	r.peak = max(r.peak, r.now)
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.now--
	}()
	s := volume.Status{Name: a.Volume, KeyARN: oldCMK, Phase: volume.Mounted, Wish: volume.WishMounted, Rotation: &volume.Rotation{KeyARN: newCMK, Class: r.stands[a.Volume]}}
	told(s)
	if c := r.stands[a.Volume]; c != fault.None && !c.WaitingHelps() {
		return s, control.Hopeless, nil
	}
	select {
	case <-time.After(r.takes[a.Volume]):
	case <-ctx.Done():
		return s, control.Pending, ctx.Err()
	}
	s.KeyARN, s.Rotation = cmp.Or(r.ends, newCMK), nil
	told(s)
	return s, control.Fulfilled, nil
}

func (r *rotations) Volume(_ context.Context, name string) (volume.Status, error) {
	if s, ok := r.is[name]; ok {
		return s, nil
	}
	return volume.Status{}, refusal(control.CodeNoSuchVolume, fault.None)
}

func refusal(code control.Code, class fault.Class) error {
	return &control.Error{Code: code, Class: class, Message: "No.", Hint: "Do something."}
}

func linesOf(n int) (lines []rotatedVolume) {
	for i := range n {
		lines = append(lines, rotatedVolume{Volume: fmt.Sprintf("v%02d", i)})
	}
	return lines
}

func resultsOf(lines []rotatedVolume) (all []rotateResult) {
	for _, l := range lines {
		all = append(all, l.Result)
	}
	return all
}

// TestRotateManyAtOnce protects the host and KMS: never are more under way than
// allowed, as many as allowed are, and a slow one delays nobody.
func TestRotateManyAtOnce(t *testing.T) {
	for _, atOnce := range []int{1, 3, 16} {
		synctest.Test(t, func(t *testing.T) {
			r := &rotations{takes: map[string]time.Duration{}}
			lines := linesOf(12)
			for _, l := range lines {
				r.takes[l.Volume] = time.Minute
			}
			r.takes["v00"] = 11 * time.Minute
			m := rotateMany{agent: r, order: toNew, atOnce: atOnce}
			if err := m.examine(t.Context(), lines); err != nil || r.asked != 12 || len(r.began) != 0 {
				t.Fatalf("%v, asked %d, began %v", err, r.asked, r.began)
			}
			start := time.Now()
			m.rotate(t.Context(), lines)
			took := map[int]time.Duration{1: 22 * time.Minute, 3: 11 * time.Minute, 16: 11 * time.Minute}[atOnce]
			if got := time.Since(start); got != took || r.peak != min(atOnce, 12) {
				t.Errorf("%d at once: it took %s, want %s; %d were under way", atOnce, got, took, r.peak)
			}
			for _, l := range lines {
				if l.Result != rotated || l.KeyARN != newCMK || l.err != nil {
					t.Errorf("%+v", l)
				}
			}
		})
	}
}

// TestRotateManyGoesOn protects the others: one that is refused, or held up by what
// waiting cannot mend, stops nobody and takes nobody's place.
func TestRotateManyGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rotations{
			tries:   map[string]error{"v00": refusal(control.CodeConflict, fault.None)},
			refuses: map[string]error{"v01": refusal(control.CodeFailed, fault.Misconfigured)},
			stands:  map[string]fault.Class{"v02": fault.Misconfigured},
		}
		m := rotateMany{agent: r, order: toNew, atOnce: 1}
		lines := linesOf(4)
		if err := m.examine(t.Context(), lines); err != nil {
			t.Fatal(err)
		}
		m.rotate(t.Context(), lines)
		if want := []rotateResult{notRotated, notRotated, unfinished, rotated}; !slices.Equal(resultsOf(lines), want) {
			t.Errorf("%v, want %v", resultsOf(lines), want)
		}
		for i, code := range []int{exitConflict, exitMisconfigured, exitMisconfigured, exitDone} {
			if got := exitCode(lines[i].err); got != code {
				t.Errorf("%s: exit code %d, want %d: %+v", lines[i].Volume, got, code, lines[i])
			}
		}
	})
}

// TestRotateManyBeginsNothing protects every volume from an order that fails for
// all: where the new CMK is unusable or nobody may ask, no rotation is begun, and
// the reason is told once.
func TestRotateManyBeginsNothing(t *testing.T) {
	unusable := refusal(control.CodeFailed, fault.Misconfigured)
	r := &rotations{tries: map[string]error{"v00": unusable, "v01": unusable, "v02": unusable}}
	m := rotateMany{agent: r, atOnce: 2}
	report := &rotateReport{Volumes: linesOf(3)}
	if err := m.examine(t.Context(), report.Volumes); err != nil {
		t.Fatal(err)
	}
	m.rotate(t.Context(), report.Volumes)
	failure := &manyError{report.judge()}
	if items := failure.items(); len(r.began) != 0 || report.OK || len(items) != 1 || items[0].step != "Rotate keys of v00, v01, v02" {
		t.Errorf("began %v, items %v", r.began, items)
	}
	if code := exitCode(failure); code != exitMisconfigured {
		t.Errorf("exit code %d", code)
	}
	for _, err := range []error{refusal(control.CodePermissionDenied, fault.None), refusal(control.CodeNotRunning, fault.None), refusal(control.CodeBadRequest, fault.None)} {
		m.agent = &rotations{everything: err}
		if got := m.examine(t.Context(), linesOf(3)); !errors.Is(got, err) {
			t.Errorf("%v: got %v", err, got)
		}
	}
}

// TestRotateManyCutShort protects the report: when the time is over, or the operator
// has pressed Ctrl-C, it still says of each volume whether something was begun.
func TestRotateManyCutShort(t *testing.T) {
	for name, c := range map[string]struct {
		until func(context.Context) (context.Context, context.CancelFunc)
		code  int
	}{
		"time": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Minute)
		}, exitTimeout},
		"interrupt": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(time.Minute, cancel)
			return ctx, cancel
		}, exitUnexpected},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := c.until(t.Context())
			defer cancel()
			r := &rotations{takes: map[string]time.Duration{"v01": time.Hour, "v02": time.Hour}}
			m := rotateMany{agent: r, order: toNew, atOnce: 2, limit: time.Minute}
			lines := linesOf(4)
			if err := m.examine(ctx, lines); err != nil {
				t.Fatal(err)
			}
			m.rotate(ctx, lines)
			if want := []rotateResult{rotated, unfinished, unfinished, notRotated}; !slices.Equal(resultsOf(lines), want) || len(r.began) != 3 {
				t.Errorf("%s: %v, began %v", name, resultsOf(lines), r.began)
			}
			for _, l := range lines[1:] {
				if code := exitCode(l.err); code != c.code || l.Hint == "" {
					t.Errorf("%s: %s: exit code %d, want %d: %+v", name, l.Volume, code, c.code, l)
				}
			}
			if err := m.examine(ctx, linesOf(1)); exitCode(err) != c.code {
				t.Errorf("%s: nothing examined, and it ends with %v", name, err)
			}
		})
	}
}

// TestRotateManyLosesTheAgent: an order that was not answered may have been
// recorded. It is never said that nothing was.
func TestRotateManyLosesTheAgent(t *testing.T) {
	lines := linesOf(1)
	lines[0].Result = canBeRotated
	r := &rotations{everything: refusal(control.CodeNotRunning, fault.None)}
	rotateMany{agent: r, atOnce: 1}.rotate(t.Context(), lines)
	if l := lines[0]; l.Result != unfinished || exitCode(l.err) != exitNotRunning {
		t.Errorf("%+v", l)
	}
}

// TestRotateManyBelievesTheCMK protects the old CMK of a volume of which somebody took
// the rotation back and gave it a new data key instead: it has the generation that was
// awaited, and is where it was.
func TestRotateManyBelievesTheCMK(t *testing.T) {
	lines := linesOf(1)
	m := rotateMany{agent: &rotations{ends: oldCMK}, order: toNew, atOnce: 1}
	if err := m.examine(t.Context(), lines); err != nil {
		t.Fatal(err)
	}
	m.rotate(t.Context(), lines)
	if l := lines[0]; l.Result != notRotated || l.KeyARN != oldCMK || exitCode(l.err) == exitDone {
		t.Errorf("%+v", l)
	}
}

// TestRotateManyIsOvertaken protects the report of a run that is said again: what
// the run before ends meanwhile is done, and what it has begun is never said to be
// recorded nowhere, whatever keeps it now.
func TestRotateManyIsOvertaken(t *testing.T) {
	moved := volume.Status{KeyARN: newCMK, Phase: volume.Mounted, WouldSurviveReboot: true}
	begun := volume.Status{KeyARN: oldCMK, Phase: volume.Mounted, Rotation: &volume.Rotation{KeyARN: newCMK, Stage: volume.RotationAdding}}
	back := begun
	back.Rotation = &volume.Rotation{KeyARN: newCMK, Stage: volume.RotationAborting}
	elsewhere := volume.Status{KeyARN: oldCMK + "x", Phase: volume.Mounted, WouldSurviveReboot: true}
	unproved := moved
	unproved.WouldSurviveReboot = false
	conflict := refusal(control.CodeConflict, fault.None)
	for name, c := range map[string]struct {
		seen, is volume.Status
		err      error
		want     rotateResult
	}{
		"it ended":          {begun, moved, conflict, alreadyRotated},
		"it is not proved":  {begun, unproved, conflict, notRotated},
		"it went elsewhere": {begun, elsewhere, conflict, notRotated},
		"it is taken back":  {begun, back, conflict, notRotated},
		"KMS is away":       {begun, begun, refusal(control.CodeFailed, fault.Unreachable), unfinished},
		"begun by another":  {volume.Status{KeyARN: oldCMK, Phase: volume.Mounted}, begun, conflict, unfinished},
	} {
		for _, dry := range []bool{true, false} {
			r := &rotations{is: map[string]volume.Status{"v00": c.is}}
			r.tries = map[string]error{"v00": c.err}
			m := rotateMany{agent: r, atOnce: 1, order: toNew}
			lines := linesOf(1)
			lines[0].stands(c.seen)
			if !dry {
				r.tries, r.refuses = nil, r.tries
			}
			if err := m.examine(t.Context(), lines); err != nil {
				t.Fatal(err)
			}
			m.rotate(t.Context(), lines)
			if l := lines[0]; l.Result != c.want || (l.err != nil) == (c.want == alreadyRotated) || l.KeyARN != c.is.KeyARN && errors.Is(c.err, conflict) {
				t.Errorf("%s, dry run %v: %+v, want %s", name, dry, l, c.want)
			}
		}
	}
}

// TestRotateReportJudges protects the old CMK of a volume that still needs it: no
// volume counts as moved unless the new CMK is proved to open it, and one that
// nobody can tell about is not left out.
func TestRotateReportJudges(t *testing.T) {
	all := wholeHost{from: oldCMK}
	order := volume.RotateOrder{KeyARN: newCMK}
	for name, c := range map[string]struct {
		is   volume.Status
		want []rotateResult
	}{
		"under the old one":    {volume.Status{KeyARN: oldCMK, Phase: volume.Mounted, WouldSurviveReboot: true}, []rotateResult{""}},
		"on its way":           {volume.Status{KeyARN: oldCMK, Phase: volume.Mounted, Rotation: &volume.Rotation{KeyARN: newCMK}}, []rotateResult{""}},
		"moved, not cleaned":   {volume.Status{KeyARN: newCMK, Phase: volume.Mounted, WouldSurviveReboot: true, Rotation: &volume.Rotation{KeyARN: newCMK}}, []rotateResult{""}},
		"moved":                {volume.Status{KeyARN: newCMK, Phase: volume.Mounted, WouldSurviveReboot: true}, []rotateResult{alreadyRotated}},
		"said to be":           {volume.Status{KeyARN: newCMK, Phase: volume.Mounted}, []rotateResult{notRotated}},
		"said to be, and shut": {volume.Status{KeyARN: newCMK, Phase: volume.Sealed}, []rotateResult{notRotated}},
		"locked on its way":    {volume.Status{KeyARN: oldCMK, Phase: volume.Sealed, Rotation: &volume.Rotation{KeyARN: newCMK}}, []rotateResult{unfinished}},
		"locked":               {volume.Status{KeyARN: oldCMK, Phase: volume.Sealed}, []rotateResult{notRotated}},
		"quarantined":          {volume.Status{KeyARN: oldCMK, Phase: volume.Quarantined}, []rotateResult{notRotated}},
		"said to be a third's": {volume.Status{KeyARN: oldCMK + "x", Phase: volume.Mounted, Class: fault.Misconfigured, Reason: "token-key"}, []rotateResult{notRotated}},
		"said to be the old's": {volume.Status{KeyARN: oldCMK, Phase: volume.Mounted, Class: fault.Misconfigured, Reason: "token-key"}, []rotateResult{notRotated}},
		"of another CMK":       {volume.Status{KeyARN: oldCMK + "x", Phase: volume.Mounted}, nil},
	} {
		r := newRotateReport(all, order, []volume.Status{c.is})
		if got := resultsOf(r.Volumes); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		for _, v := range r.Volumes {
			if failed := v.Result == notRotated || v.Result == unfinished; failed != (v.err != nil) || failed != (v.Hint != "") {
				t.Errorf("%s: %+v", name, v)
			}
		}
	}
}

// TestFailuresAreShownHarmless protects the terminal of whoever reads a summary: an
// agent, or what listens in its place, names volumes and steps as it likes.
func TestFailuresAreShownHarmless(t *testing.T) {
	const wild = "\x1b[2J\u202e\u009b31m"
	status := volume.Status{Name: wild, FailedStep: wild, KeyARN: wild}
	line := rotatedVolume{Volume: wild}
	line.failed(notRotated, refusal(control.CodeConflict, fault.None))
	for _, err := range []error{&manyError{[]rotatedVolume{line, line}}, &standsError{status: status}} {
		var out bytes.Buffer
		c := &cli{terminal: terminal{stdout: &out, stderr: &out, now: testNow}}
		c.reportFailure(t.Context(), nil, err)
		c.printRotated(status, control.Fulfilled, volume.RotateOrder{})
		if strings.ContainsAny(out.String(), wild[:1]+"\u202e\u009b") {
			t.Errorf("%q", out.String())
		}
	}
}

// TestRotateReportFits protects the same readers as TestEverythingFits.
func TestRotateReportFits(t *testing.T) {
	anySnapshots(func(snapshot volume.Snapshot) {
		for i, result := range rotateResults() {
			order := volume.RotateOrder{KeyARN: newCMK, NewDataKey: i%2 == 0}
			r := newRotateReport(wholeHost{from: oldCMK}, order, nil)
			for _, s := range snapshot.Volumes {
				line := rotatedVolume{Result: result, Volume: s.Name}
				line.stands(s)
				line.Error = s.Error
				r.Volumes = append(r.Volumes, line)
			}
			var out bytes.Buffer
			c := &cli{terminal: terminal{stdout: &out, now: testNow}}
			c.printRotateReport(r)
			checkFits(t, out.String())
		}
	})
}
