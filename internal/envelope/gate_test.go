// SPDX-License-Identifier: Apache-2.0

package envelope

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/volseal/volseal/internal/fault"
)

func throttled() error {
	return &fault.Error{Class: fault.Throttled, Reason: "ThrottlingException", Cause: "Too many requests."}
}

// observedRing is a keyring whose clock is the bubble's.
func observedRing(t *testing.T) (*Keyring, *fakeKMS, *counts) {
	t.Helper()
	c := &counts{}
	ring, kms, clock := newTestRing(t, Options{Observer: c})
	clock.base = time.Now()
	return ring, kms, c
}

// proveAll proves so many wrapped keys at once and returns the errors.
func proveAll(ring *Keyring, ref Ref, n int) []error {
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			p, err := ring.Prove(context.Background(), ref, fmt.Appendf(nil, "wrapped %d", i))
			p.Release()
			errs[i] = err
		})
	}
	all.Wait()
	return errs
}

func fails(errs []error, class fault.Class, reason string) (n int) {
	for _, err := range errs {
		if fault.ClassOf(err) == class && fault.ReasonOf(err) == reason {
			n++
		}
	}
	return n
}

// trip has the breaker of a CMK tripped by an outage that answers at once.
func trip(t *testing.T, ring *Keyring, kms *fakeKMS, ref Ref) {
	t.Helper()
	kms.answer(ref.KeyARN, unreachable())
	for range tripAfter {
		_, err := ring.Prove(t.Context(), ref, testWrapped)
		wantFault(t, err, fault.Unreachable, "network")
	}
}

// slow sets the pace as if it had been found just now.
func slow(ring *Keyring, kms *fakeKMS, rate, turns float64) {
	now := kms.clock.Now()
	ring.pace = pace{rate: rate, turns: turns, countedAt: now, cutAt: now}
}

// A host whose calls are answered never waits: 64 volumes go out at once, and
// again after a minute, when their probes are due.
func TestOrdinaryCallsDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring, kms, held := observedRing(t)
		ref := testRef(t, testARN, "db")
		for range 3 {
			calls, began := kms.calls(), time.Now()
			for _, err := range proveAll(ring, ref, 64) {
				if err != nil {
					t.Fatal(err)
				}
			}
			if took := time.Since(began); took != 0 || kms.calls() != calls+64 || len(held.held) != 0 {
				t.Fatalf("%d calls took %v, held %v", kms.calls()-calls, took, held.held)
			}
			time.Sleep(time.Minute)
		}
	})
}

// A key service that swallows connections costs one at a time, however many
// wrapped keys wait, and all of them get its answer.
func TestBlackholeCostsOneConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring, kms, _ := observedRing(t)
		ref := testRef(t, testARN, "db")
		trip(t, ring, kms, ref)
		time.Sleep(2 * holdFor)
		calls, began := kms.calls(), time.Now()
		kms.takes = 5 * time.Second
		errs := proveAll(ring, ref, 64)
		if n := fails(errs, fault.Unreachable, "network"); n != 64 || kms.calls() != calls+1 {
			t.Fatalf("%d failures with %d calls", n, kms.calls()-calls)
		}
		if took := time.Since(began); took != 5*time.Second {
			t.Fatalf("took %v", took)
		}
	})
}

// When the service is back, the first probe tells, and everybody who waits for
// it goes on at once rather than after a retry's pause. Each makes its own call:
// one proof is not another's.
func TestProbeLetsEverybodyIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring, kms, _ := observedRing(t)
		ref := testRef(t, testARN, "db")
		trip(t, ring, kms, ref)
		time.Sleep(2 * holdFor)
		calls, began := kms.calls(), time.Now()
		kms.answer(testARN, nil)
		kms.takes = time.Second
		for _, err := range proveAll(ring, ref, 64) {
			if err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); kms.calls() != calls+64 || took != 2*time.Second {
			t.Fatalf("%d calls took %v", kms.calls()-calls, took)
		}
	})
}

// The last failure is repeated for a second and no longer; to other CMKs never.
func TestFailureIsRepeatedBriefly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring, kms, held := observedRing(t)
		ref := testRef(t, testARN, "db")
		trip(t, ring, kms, ref)
		kms.answer(testARN, nil)
		calls := kms.calls()
		_, err := ring.Prove(t.Context(), ref, testWrapped)
		wantFault(t, err, fault.Unreachable, "network")
		_, _, err = ring.Fresh(t.Context(), ref)
		wantFault(t, err, fault.Unreachable, "network")
		if kms.calls() != calls || held.held[fault.Unreachable] != 2 {
			t.Fatalf("%d calls, held %v", kms.calls()-calls, held.held)
		}
		prove(t, ring, testRef(t, otherARN, "db"), testWrapped)
		time.Sleep(holdFor + 1)
		prove(t, ring, ref, testWrapped)
	})
}

// Only Unreachable trips the breaker, and any answer closes it: a refusal is
// never repeated as an outage, nor an outage as a refusal.
func TestOnlyOutagesTrip(t *testing.T) {
	for _, class := range fault.Classes() {
		synctest.Test(t, func(t *testing.T) {
			ring, kms, held := observedRing(t)
			ref := testRef(t, testARN, "db")
			kms.answer(testARN, unreachable())
			for i := range 2 * tripAfter {
				if i == tripAfter-1 {
					kms.answer(testARN, &fault.Error{Class: class, Reason: "x", Cause: "x"})
				}
				_, err := ring.Prove(t.Context(), ref, fmt.Appendf(nil, "wrapped %d", i))
				if got := fault.ClassOf(err); got != class && i >= tripAfter-1 {
					t.Fatalf("class %s after %s", got, class)
				}
			}
			if n := held.held[fault.Unreachable]; n != 0 && class != fault.Unreachable {
				t.Fatalf("%s was held %d times", class, n)
			}
		})
	}
}

// A tripped breaker never makes a proof outlive its window.
func TestBreakerDoesNotKeepProofs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring, kms, _ := observedRing(t)
		ref := testRef(t, testARN, "db")
		p := prove(t, ring, ref, testWrapped)
		kms.answer(testARN, unreachable())
		for i := range 12 {
			time.Sleep(time.Second)
			_, err := ring.Prove(t.Context(), ref, fmt.Appendf(nil, "wrapped %d", i))
			wantFault(t, err, fault.Unreachable, "network")
		}
		if ring.Valid(p) {
			t.Fatal("the proof is valid after its window")
		}
		_, err := ring.Prove(t.Context(), ref, testWrapped)
		wantFault(t, err, fault.Unreachable, "network")
	})
}

// Throttled calls are answered, and the host then keeps its distance: who would
// wait too long is told so without a call, and others come in turn.
func TestThrottledHostSlowsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring, kms, held := observedRing(t)
		ref := testRef(t, testARN, "db")
		kms.answer(testARN, throttled())
		for range 8 {
			proveAll(ring, ref, 4)
			time.Sleep(paceQuiet / 2)
		}
		calls := kms.calls()
		kms.takes = 50 * time.Millisecond
		kms.answer(testARN, nil)
		errs := proveAll(ring, ref, 4)
		if paced := fails(errs, fault.Throttled, "paced"); paced != 2 || kms.calls() != calls+2 {
			t.Fatalf("%d paced, %d calls", paced, kms.calls()-calls)
		}
		if held.held[fault.Throttled] == 0 {
			t.Fatal("not counted")
		}
		time.Sleep(paceQuiet)
		prove(t, ring, ref, []byte("another"))
		time.Sleep(time.Second)
		calls = kms.calls()
		if errs := proveAll(ring, ref, 64); fails(errs, fault.None, "") != 64 || kms.calls() != calls+64 {
			t.Fatalf("a quiet minute later: %d calls, %v", kms.calls()-calls, errs)
		}
	})
}

// A wait for a turn respects the caller: not beyond its deadline, and no longer
// than it stays.
func TestWaitForTurnIsTheCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring, kms, _ := observedRing(t)
		ref := testRef(t, testARN, "db")
		slow(ring, kms, 1, -3) // the next turn comes in 4 s
		hasty, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		began := time.Now()
		_, err := ring.Prove(hasty, ref, testWrapped)
		wantFault(t, err, fault.Throttled, "paced")
		if time.Since(began) != 0 {
			t.Fatal("waited for what could not come in time")
		}
		leaving, leave := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, leave)
		_, err = ring.Prove(leaving, ref, testWrapped)
		wantFault(t, err, fault.Unreachable, "gave-up")
		if time.Since(began) != time.Second {
			t.Fatalf("left after %v", time.Since(began))
		}
	})
}

// A proof's age counts from the call, not from when the wait for a turn began.
func TestProofIsYoungAfterAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring, kms, _ := observedRing(t)
		slow(ring, kms, 1, -3)
		began := kms.clock.Now()
		p := prove(t, ring, testRef(t, testARN, "db"), testWrapped)
		if p.StartedAt() != began+4*time.Second || !ring.Valid(p) {
			t.Fatalf("started %v after the wait began", p.StartedAt()-began)
		}
	})
}

// The operator's verb asks KMS now: past the breaker, past the pace, and past
// the wait of whoever asks for the same key already.
func TestOperatorEndsPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring, kms, _ := observedRing(t)
		ref := testRef(t, testARN, "db")
		trip(t, ring, kms, ref)
		kms.answer(testARN, nil)
		slow(ring, kms, paceFloor, -3)
		ring.ForgetRefusals(testARN)
		began := time.Now()
		prove(t, ring, ref, testWrapped)
		if time.Since(began) != 0 {
			t.Fatalf("waited %v", time.Since(began))
		}
		_, err := ring.Prove(t.Context(), ref, []byte("the second"))
		wantFault(t, err, fault.Throttled, "paced") // one call, not many

		slow(ring, kms, 1, -3)
		time.AfterFunc(time.Second, func() { ring.ForgetRefusals(testARN) })
		prove(t, ring, ref, []byte("waiting"))
		if time.Since(began) != time.Second {
			t.Fatalf("waited %v", time.Since(began))
		}
	})
}

// Verbs and flushes may come at any moment of a probe.
func TestProbeSurvivesVerbs(t *testing.T) {
	verbs := map[string]func(*Keyring){
		"forget": func(k *Keyring) { k.ForgetRefusals(testARN) },
		"purge":  func(k *Keyring) { k.Purge(testARN) },
		"flush":  (*Keyring).Flush,
		"retain": func(k *Keyring) { k.Retain(nil) },
	}
	for name, verb := range verbs {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ring, kms, _ := observedRing(t)
				ref := testRef(t, testARN, "db")
				trip(t, ring, kms, ref)
				time.Sleep(2 * holdFor)
				kms.answer(testARN, nil)
				kms.takes = 2 * time.Second
				time.AfterFunc(time.Second, func() { verb(ring) })
				began := time.Now()
				if errs := proveAll(ring, ref, 8); fails(errs, fault.None, "") != 8 {
					t.Fatalf("%v", errs)
				}
				if took := time.Since(began); took > 4*time.Second {
					t.Fatalf("took %v", took)
				}
			})
		})
	}
}
