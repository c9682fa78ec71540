// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/volseal/volseal/internal/fault"
)

var (
	disabled = &fault.Error{Class: fault.Revoked, Reason: "DisabledException", Cause: "The CMK is disabled.", Hint: "Ask the customer."}
	away     = &fault.Error{Class: fault.Unreachable, Reason: "timeout", Cause: "KMS does not answer."}
)

const testGrace = 15 * time.Minute

func (h *host) policy(p Policy, grace time.Duration) {
	h.t.Helper()
	spec := testSpec(h.t)
	spec.OnRevocation, spec.RevocationGrace = p, grace
	h.r.Apply([]Spec{spec}, time.Minute)
}

// underPolicy runs a test on a mounted volume with a policy.
func underPolicy(t *testing.T, p Policy, test func(t *testing.T, w *world, h *host, dir string)) {
	t.Helper()
	inMounted(t, func(t *testing.T, w *world, h *host, dir string) {
		h.policy(p, testGrace)
		test(t, w, h, dir)
	})
}

// rebooted is the same volume on a host that has booted.
func rebooted(t *testing.T, w *world, dir string, p Policy) *host {
	t.Helper()
	w.set(func() {
		w.mounted, w.mapped, w.suspended, w.wiped, w.orphaned, w.stopping, w.killed, w.kill, w.calls = false, false, false, false, false, false, false, 0, nil
	})
	h := startHost(t, w, dir)
	h.policy(p, testGrace)
	return h
}

func sealed(s Status) bool { return s.Phase == Sealed && s.Class == fault.Revoked && !s.Frozen() }

func frozenStatus(s Status) bool {
	return s.Frozen() && s.Class == fault.Revoked
}

func well(s Status) bool { return s.Phase == Mounted && s.WouldSurviveReboot && s.Class == fault.None }

// The default leaves the database alone for ever, and says so within two intervals.
func TestDenyNewLocksNothing(t *testing.T) {
	for _, p := range []Policy{"", DenyNew} {
		underPolicy(t, p, func(t *testing.T, w *world, h *host, dir string) {
			w.kms.answer(disabled)
			began := time.Now()
			h.await("told", func(s Status) bool { return s.Class == fault.Revoked && !s.WouldSurviveReboot })
			if took := time.Since(began); took > 2*time.Minute {
				t.Errorf("told after %s", took)
			}
			time.Sleep(5 * time.Hour)
			claims, _ := NewClaims(dir)
			if c, err := claims.Load("orders"); err != nil || c.Revocation != nil || len(w.deeds()) != 0 {
				t.Errorf("claim %+v, %v; did %v", c, err, w.deeds())
			}
		})
	}
}

// A policy acts once the grace is over, not before, and undoes it by itself.
func TestPoliciesLockAndComeBack(t *testing.T) {
	for p, c := range map[Policy]struct {
		lock, back []string
		locked     func(Status) bool
	}{
		LockGraceful: {[]string{"unmount", "close"}, []string{"open", "publish", "mount"}, sealed},
		LockFreeze:   {[]string{"suspend", "wipe"}, []string{"give-key", "resume"}, frozenStatus},
	} {
		for _, grace := range []time.Duration{0, testGrace} {
			t.Run(string(p)+" after "+grace.String(), func(t *testing.T) {
				underPolicy(t, p, func(t *testing.T, w *world, h *host, _ string) {
					h.policy(p, grace)
					w.kms.answer(disabled)
					began := time.Now()
					s := h.await("told", func(s Status) bool { return s.Class == fault.Revoked })
					if s.Phase != Mounted || s.WouldSurviveReboot || s.Hint == disabled.Hint {
						t.Errorf("status %+v", s)
					}
					s = h.await("locked", c.locked)
					took := time.Since(began)
					if least := max(grace, 2*time.Minute); took < least || took > least+2*time.Minute {
						t.Errorf("locked after %s", took)
					}
					if !slices.Equal(w.deeds(), c.lock) || s.WouldSurviveReboot {
						t.Errorf("did %v, want %v; %+v", w.deeds(), c.lock, s)
					}
					time.Sleep(3 * time.Hour)
					if !slices.Equal(w.deeds(), c.lock) {
						t.Errorf("did %v, want no more than %v", w.deeds(), c.lock)
					}
					w.kms.answer(nil)
					mended := time.Now()
					h.await("back", well)
					if took := time.Since(mended); took > 40*time.Second {
						t.Errorf("back after %s", took)
					}
					if want := append(slices.Clone(c.lock), c.back...); !slices.Equal(w.deeds(), want) {
						t.Errorf("did %v, want %v", w.deeds(), want)
					}
				})
			})
		}
	}
}

// A key that is back at once undoes the lock once and for all: what was said
// before the success does not count any more, nor the verdict that came of it.
func TestOneAnswerUndoesTheLock(t *testing.T) {
	for p, locked := range map[Policy]func(Status) bool{LockGraceful: sealed, LockFreeze: frozenStatus} {
		underPolicy(t, p, func(t *testing.T, w *world, h *host, dir string) {
			w.kms.answer(disabled)
			h.await("locked", locked)
			w.kms.answer(nil)
			h.await("Mounted", func(s Status) bool { return s.Phase == Mounted })
			w.kms.answer(disabled)
			n := len(w.deeds())
			time.Sleep(testGrace - time.Minute)
			if len(w.deeds()) != n {
				t.Errorf("%s: locked again at once: %v", p, w.deeds())
			}
			w.kms.answer(nil)
			h.await("well", well)
			claims, _ := NewClaims(dir)
			if c, err := claims.Load("orders"); err != nil || c.Revocation != nil {
				t.Errorf("claim %+v, %v", c, err)
			}
		})
	}
}

// Nothing but the customer's own no locks, however long it lasts, also when it
// follows on revoked answers that were too few.
func TestOutagesNeverLock(t *testing.T) {
	answers := []*fault.Error{
		{Class: fault.Revoked, Reason: fault.ReasonDeniedByPlatform, Cause: "A policy of the platform denies it."},
		{Class: fault.Revoked, Reason: fault.ReasonDeniedUnclear, Cause: "Some policy denies it."},
	}
	for _, class := range fault.Classes() {
		if class != fault.Revoked {
			answers = append(answers, &fault.Error{Class: class, Reason: "test", Cause: "The key cannot be used."})
		}
	}
	for _, policy := range []Policy{LockGraceful, LockFreeze} {
		for _, answer := range answers {
			for _, before := range []time.Duration{0, 10 * time.Minute} {
				t.Run(fmt.Sprintf("%s, %s %s after %s", policy, answer.Class, answer.Reason, before), func(t *testing.T) {
					neverLocks(t, policy, answer, before)
				})
			}
		}
	}
}

func neverLocks(t *testing.T, policy Policy, answer *fault.Error, before time.Duration) {
	underPolicy(t, policy, func(t *testing.T, w *world, h *host, _ string) {
		w.kms.answer(disabled)
		time.Sleep(before)
		w.kms.answer(answer)
		time.Sleep(2 * time.Hour)
		if len(w.deeds()) != 0 || h.status().Class != answer.Class {
			t.Errorf("did %v; %+v", w.deeds(), h.status())
		}
	})
}

// What is no answer neither confirms nor clears; a success clears, and so does
// a silence of an hour.
func TestWhatCounts(t *testing.T) {
	for name, c := range map[string]struct {
		between error
		lasting time.Duration
		anew    bool
	}{
		"an outage":          {away, 8 * time.Minute, false},
		"throttling":         {&fault.Error{Class: fault.Throttled, Cause: "slow down"}, 8 * time.Minute, false},
		"a success":          {nil, 8 * time.Minute, true},
		"an outage of hours": {away, 3 * time.Hour, true},
	} {
		t.Run(name, func(t *testing.T) {
			underPolicy(t, LockGraceful, func(t *testing.T, w *world, h *host, _ string) {
				w.kms.answer(disabled)
				time.Sleep(10 * time.Minute)
				if c.between == nil {
					w.kms.answer(nil)
				} else {
					w.kms.answer(c.between)
				}
				time.Sleep(c.lasting)
				w.kms.answer(disabled)
				again := time.Now()
				h.await("locked", sealed)
				if took := time.Since(again); (took > testGrace-time.Minute) != c.anew {
					t.Errorf("locked %s after the key was revoked again", took)
				}
			})
		})
	}
}

// A restart of the agent does not begin the grace anew, and acts on no answer
// but its own.
func TestGraceOutlivesTheAgent(t *testing.T) {
	underPolicy(t, LockGraceful, func(t *testing.T, w *world, h *host, dir string) {
		w.kms.answer(disabled)
		time.Sleep(testGrace - time.Minute)
		h.stop()
		w.kms.answer(away)
		h = startHost(t, w, dir)
		h.policy(LockGraceful, testGrace)
		time.Sleep(20 * time.Minute)
		if len(w.deeds()) != 0 {
			t.Fatalf("locked on an answer that another agent got: %v", w.deeds())
		}
		w.kms.answer(disabled)
		again := time.Now()
		h.await("locked", sealed)
		if took := time.Since(again); took > 2*time.Minute {
			t.Errorf("locked after %s more", took)
		}
		h.stop()
	})
}

// An edit of the policy counts at once.
func TestPolicyIsEdited(t *testing.T) {
	underPolicy(t, LockGraceful, func(t *testing.T, w *world, h *host, _ string) {
		w.kms.answer(disabled)
		time.Sleep(testGrace - time.Minute)
		h.policy(DenyNew, testGrace)
		time.Sleep(3 * time.Hour)
		if len(w.deeds()) != 0 {
			t.Fatalf("did %v", w.deeds())
		}
		h.policy(LockFreeze, testGrace)
		h.await("frozen", frozenStatus)
	})
}

// A database that does not stop is asked again on a fresh answer only: once the
// key is back, it is left alone.
func TestLockThatFailsIsNotTriedOnOldAnswers(t *testing.T) {
	underPolicy(t, LockGraceful, func(t *testing.T, w *world, h *host, _ string) {
		w.kms.answer(disabled)
		w.set(func() { w.stopErr = &fault.Error{Class: fault.Unknown, Reason: "job-timeout", Cause: "took too long"} })
		h.await("failed", func(s Status) bool { return s.FailedStep == "Unmount volume" })
		w.kms.answer(nil)
		h.await("well", well)
		w.set(func() { w.stopErr = nil })
		time.Sleep(3 * time.Hour)
		if len(w.deeds()) != 0 {
			t.Errorf("did %v", w.deeds())
		}
	})
}

// However often the agent dies while it locks or comes back, the next one goes
// on, never without a proof, and the database is neither lost nor left hanging.
func TestPoliciesSurviveACrashAnywhere(t *testing.T) {
	for _, p := range []Policy{LockGraceful, LockFreeze} {
		for _, after := range []bool{false, true} {
			changes := map[Policy]int{LockGraceful: 5, LockFreeze: 4}[p]
			for n := 1; n <= changes; n++ {
				synctest.Test(t, func(t *testing.T) { crashUnder(t, p, n, after) })
			}
		}
	}
}

func crashUnder(t *testing.T, p Policy, n int, after bool) {
	dir := t.TempDir()
	w := formatted(t, dir)
	h := startHost(t, w, dir)
	h.policy(p, testGrace)
	h.await("well", well)
	w.set(func() { w.calls, w.kill, w.after = nil, n, after })
	w.kms.answer(disabled)
	time.Sleep(testGrace + 5*time.Minute)
	w.kms.answer(nil)
	time.Sleep(time.Minute)
	if w.is(func() bool { return !w.killed }) {
		t.Fatalf("kill %d was not reached: %v", n, w.deeds())
	}
	h.stop()
	w.kms.answer(away)
	w.set(func() { w.killed = false })
	opened := w.did("open") + w.did("give-key")
	h = startHost(t, w, dir)
	defer h.stop()
	h.policy(p, testGrace)
	time.Sleep(time.Hour)
	if w.did("open")+w.did("give-key") != opened {
		t.Errorf("%s, kill %d (after %v): opened without a proof: %v", p, n, after, w.deeds())
	}
	w.kms.answer(nil)
	h.await("well", well)
	if w.is(func() bool { return w.suspended }) || w.did("abandon") != 0 || p == LockFreeze && w.did("unmount") != 0 {
		t.Errorf("%s, kill %d (after %v): did %v", p, n, after, w.deeds())
	}
}

// Another agent that finds a frozen volume resumes it by a proof, or not at all.
func TestFrozenVolumeIsAdopted(t *testing.T) {
	underPolicy(t, LockFreeze, func(t *testing.T, w *world, h *host, dir string) {
		w.kms.answer(disabled)
		h.await("frozen", frozenStatus)
		h.stop()
		for _, err := range []*fault.Error{disabled, away} {
			w.kms.answer(err)
			h = startHost(t, w, dir)
			h.await("refused", func(s Status) bool { return s.Class == err.Class && s.Phase == Sealed })
			time.Sleep(time.Hour)
			h.do(VerbUnlock)
			h.await("refused again", func(s Status) bool { return s.Answered == 1 && s.Class == err.Class })
			h.do(VerbReattach)
			h.await("refused again", func(s Status) bool { return s.Answered == 2 && s.Class == err.Class })
			h.stop()
		}
		if want := []string{"suspend", "wipe"}; !slices.Equal(w.deeds(), want) {
			t.Errorf("did %v, want %v", w.deeds(), want)
		}
		w.kms.answer(nil)
		h = startHost(t, w, dir)
		defer h.stop()
		h.await("well", well)
	})
}

// A frozen volume does not hold up a shutdown, is not quarantined for it, and
// opens at the next boot as after a power cut.
func TestFrozenVolumeLetsTheHostStop(t *testing.T) {
	underPolicy(t, LockFreeze, func(t *testing.T, w *world, h *host, dir string) {
		w.kms.answer(disabled)
		h.await("frozen", frozenStatus)
		time.Sleep(time.Hour)
		w.set(func() { w.stopping = true })
		time.Sleep(10 * time.Second)
		if w.is(func() bool { return w.suspended }) || w.did("abandon") != 1 || w.did("unmount") != 0 {
			t.Fatalf("10 s into the shutdown: did %v", w.deeds())
		}
		w.set(func() { w.mounted = false }) // systemd's work
		h.r.Wake()
		h.await("closed", func(s Status) bool { return s.Mapping == "" })
		h.stop()
		w.kms.answer(nil)
		h = rebooted(t, w, dir, LockFreeze)
		defer h.stop()
		h.await("well", well)
	})
}

// An operator may take a frozen volume away; the database then finds its disk gone.
func TestFrozenVolumeIsLocked(t *testing.T) {
	for _, v := range []Verb{VerbLock, VerbRelease} {
		underPolicy(t, LockFreeze, func(t *testing.T, w *world, h *host, _ string) {
			w.kms.answer(disabled)
			h.await("frozen", frozenStatus)
			w.set(func() { w.calls = nil })
			h.do(v)
			h.await("done", func(s Status) bool { return s.Answered == 1 && s.Satisfied() })
			if want := []string{"abandon", "unmount", "close"}; !slices.Equal(w.deeds()[:3], want) {
				t.Errorf("did %v, want %v", w.deeds(), want)
			}
			w.kms.answer(nil)
			h.do(VerbReattach)
			h.await("well", well)
		})
	}
}

// A disk that goes while its volume is frozen is a loss like any other.
func TestFrozenVolumeIsLost(t *testing.T) {
	for name, back := range map[string]bool{"and stays away": false, "and comes back": true} {
		t.Run(name, func(t *testing.T) {
			underPolicy(t, LockFreeze, func(t *testing.T, w *world, h *host, _ string) {
				w.kms.answer(disabled)
				h.await("frozen", frozenStatus)
				w.set(func() { w.calls, w.attached, w.orphaned = nil, back, true })
				h.r.Wake()
				h.await("taken down", func(s Status) bool { return lost(s) && s.Mapping == "" })
				if want := []string{"abandon", "unmount", "close"}; !slices.Equal(w.deeds(), want) {
					t.Errorf("did %v, want %v", w.deeds(), want)
				}
				w.kms.answer(nil)
				time.Sleep(time.Hour)
				h.do(VerbReattach)
				h.await("well", well)
			})
		})
	}
}

// A damaged header cannot resume a frozen volume; mended, it can.
func TestFrozenVolumeWithADamagedHeader(t *testing.T) {
	underPolicy(t, LockFreeze, func(t *testing.T, w *world, h *host, _ string) {
		w.kms.answer(disabled)
		h.await("frozen", frozenStatus)
		w.set(func() { w.torn = true })
		w.kms.answer(nil)
		h.await("quarantined", func(s Status) bool { return s.Phase == Quarantined && s.Class == fault.Integrity })
		time.Sleep(time.Hour)
		if w.is(func() bool { return !w.suspended || !w.wiped }) {
			t.Errorf("did %v", w.deeds())
		}
		w.set(func() { w.torn = false })
		h.do(VerbReattach)
		h.await("well", well)
		if w.did("abandon") != 0 || w.did("unmount") != 0 {
			t.Errorf("did %v", w.deeds())
		}
	})
}

// A mapping that somebody else suspended, with its key in place, is theirs.
func TestSomebodyElsesSuspension(t *testing.T) {
	underPolicy(t, LockFreeze, func(t *testing.T, w *world, h *host, _ string) {
		w.set(func() { w.suspended = true })
		h.await("told", func(s Status) bool { return s.Reason == "mapping-suspended" })
		time.Sleep(time.Hour)
		if len(w.deeds()) != 0 {
			t.Errorf("did %v", w.deeds())
		}
		w.set(func() { w.suspended = false })
		h.await("well", well)
	})
}
