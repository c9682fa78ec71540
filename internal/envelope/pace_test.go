// SPDX-License-Identifier: Apache-2.0

package envelope

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// rhythm drives a pace through any sequence of calls and answers.
type rhythm struct {
	pace pace
	now  time.Duration
	due  []time.Duration // of the calls that were granted
	eras []int           // theirs
}

func newRhythm() *rhythm { return &rhythm{pace: newPace(), now: time.Hour} }

func (r *rhythm) call(t *rapid.T) {
	before := r.pace.turns
	wait, era, ok := r.pace.reserve(r.now, pacePatience)
	switch {
	case wait < 0, ok && wait > pacePatience, !ok && wait <= pacePatience:
		t.Fatalf("wait %v, granted %v", wait, ok)
	case !ok && r.pace.turns < min(before, r.pace.turns):
		t.Fatal("a refusal took a turn")
	case ok:
		r.due, r.eras = append(r.due, r.now+wait), append(r.eras, era)
	}
}

func (r *rhythm) era(t *rapid.T) int {
	if len(r.eras) == 0 {
		return 0
	}
	return rapid.SampledFrom(r.eras).Draw(t, "era")
}

func (r *rhythm) throttled(t *rapid.T) {
	before := r.pace.rate
	r.pace.throttled(r.now, r.era(t), rapid.Float64Range(0, 0.999).Draw(t, "luck"))
	if r.pace.rate != before && r.pace.rate > max(paceFloor, before/2) {
		t.Fatalf("%v cut to %v", before, r.pace.rate)
	}
}

func (r *rhythm) succeeded(t *rapid.T) {
	before := r.pace.rate
	r.pace.succeeded(r.now, r.era(t))
	if r.pace.rate < before {
		t.Fatalf("a success cut %v to %v", before, r.pace.rate)
	}
}

func (r *rhythm) check(t *rapid.T) {
	if r.pace.rate < paceFloor || r.pace.rate > paceCeiling {
		t.Fatalf("rate %v", r.pace.rate)
	}
	if n := len(r.pace.granted); n > int(paceCeiling*(paceBurst+time.Second+pacePatience).Seconds())+1 {
		t.Fatalf("%d calls remembered", n)
	}
	due := slices.Sorted(slices.Values(r.due))
	most := func(d time.Duration) int { return int(paceCeiling*(paceBurst+d).Seconds()) + 1 }
	for i := range due { // a window that begins with each call
		if n := len(due) - i; n > most(due[len(due)-1]-due[i]) {
			t.Fatalf("%d calls in %v", n, due[len(due)-1]-due[i])
		}
	}
}

// No caller waits beyond its patience, no sequence of answers lifts the rate
// above its ceiling or sinks it below its floor, and once KMS throttles no more a
// host is at its ceiling again after a minute and one success.
func TestPaceKeepsItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newRhythm()
		t.Repeat(map[string]func(*rapid.T){
			"call": r.call, "call2": r.call, "throttled": r.throttled, "succeeded": r.succeeded,
			"burst": func(t *rapid.T) {
				for range rapid.IntRange(1, 400).Draw(t, "calls") {
					r.call(t)
				}
			},
			"pass": func(t *rapid.T) {
				r.now += time.Duration(rapid.Int64Range(0, int64(20*time.Second)).Draw(t, "pass"))
			},
			"": r.check,
		})
		r.now += paceQuiet
		if _, _, ok := r.pace.reserve(r.now, pacePatience); !ok {
			t.Fatal("refused after a quiet minute")
		}
		r.pace.succeeded(r.now, r.pace.era)
		if r.pace.rate != paceCeiling {
			t.Fatalf("rate %v after a quiet minute", r.pace.rate)
		}
	})
}

// A host full of volumes makes the calls of a boot at once, formatting included.
func TestPaceIsNotFeltAtBoot(t *testing.T) {
	r := newPace()
	for i := range 64 * 3 {
		if wait, _, ok := r.reserve(0, 0); wait != 0 || !ok {
			t.Fatalf("call %d waits %v", i, wait)
		}
	}
}

// What was throttled at one moment is one event: four volumes at once halve the
// rate once. The next such event halves it again, down to the floor.
func TestThrottledAtOnceHalvesOnce(t *testing.T) {
	p, now := newPace(), time.Hour
	want := 2.0 // half of what the host made use of
	for range 8 {
		var eras []int
		for range 4 {
			_, era, _ := p.reserve(now, time.Hour)
			eras = append(eras, era)
		}
		for _, era := range eras {
			p.throttled(now, era, 0.5)
		}
		if p.rate != max(want, paceFloor) {
			t.Fatalf("rate %v, want %v", p.rate, want)
		}
		want = min(want, 4) / 2
		now += time.Hour
	}
}

// The time until the next call is spread over the whole gap at each cut, also
// when the bucket was empty: else a fleet that was throttled at one moment would
// come back in step, wave after wave. Turns that are promised stay so.
func TestThrottledHasFullJitter(t *testing.T) {
	for _, luck := range []float64{0, 0.25, 0.5, 0.75} {
		p, now := newPace(), time.Hour
		for _, gap := range []float64{2, 4, 8, 10, 10} { // seconds
			wait, era, _ := p.reserve(now, time.Minute)
			now += wait
			p.throttled(now, era, luck)
			want := time.Duration(luck * gap * float64(time.Second))
			probe := p
			if got, _, _ := probe.reserve(now, time.Minute); (got - want).Abs() > time.Microsecond {
				t.Errorf("luck %v: next call after %v, want %v of %v s", luck, got, want, gap)
			}
			now += 10 * time.Second // the bucket is full again: one turn
		}
		for _, gap := range []float64{10, 10} {
			wait, era, _ := p.reserve(now, time.Minute)
			now += wait
			p.throttled(now, era, luck) // and now it is empty
			want := time.Duration(luck * gap * float64(time.Second))
			probe := p
			if got, _, _ := probe.reserve(now, time.Minute); (got - want).Abs() > time.Microsecond {
				t.Errorf("luck %v, empty: next call after %v, want %v", luck, got, want)
			}
		}
	}
	debt := pace{rate: 1, turns: -3, countedAt: time.Hour}
	debt.throttled(time.Hour, 0, 0.5)
	if wait, _, _ := debt.reserve(time.Hour, time.Minute); wait != 7*time.Second {
		t.Errorf("three turns promised at one in 2 s: next call after %v, want 7 s", wait)
	}
}
