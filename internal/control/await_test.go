// SPDX-License-Identifier: Apache-2.0

package control

import (
	"testing"
	"time"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// TestJudge protects what ends a wait. Above all: nothing known before the wish
// was dealt with ends it, good or bad.
func TestJudge(t *testing.T) {
	now := time.Now()
	status := func(edit func(*volume.Status)) volume.Status {
		s := volume.Status{Phase: volume.Sealed, Wish: volume.WishMounted, WishSeq: 7, Answered: 7, Since: &now}
		edit(&s)
		return s
	}
	mounted := func(s *volume.Status) { s.Phase, s.Mapping = volume.Mounted, "volseal-x" }
	class := func(c fault.Class) func(*volume.Status) { return func(s *volume.Status) { s.Class = c } }
	for _, tt := range []struct {
		name string
		verb volume.Verb
		s    volume.Status
		run  string
		want Outcome
	}{
		{"not there yet", volume.VerbUnlock, status(func(*volume.Status) {}), "a", Pending},
		{"mounted", volume.VerbUnlock, status(mounted), "a", Fulfilled},
		{"mounted, init", volume.VerbInit, status(mounted), "a", Fulfilled},
		{"mounted, but that is old news", volume.VerbReattach, status(func(s *volume.Status) { mounted(s); s.Answered = 6 }), "a", Pending},
		{"mounted, with a later pass", volume.VerbReattach, status(func(s *volume.Status) { mounted(s); s.WishSeq, s.Answered = 9, 9 }), "a", Fulfilled},
		{"mounted with a class", volume.VerbUnlock, status(func(s *volume.Status) { mounted(s); s.Class = fault.Revoked }), "a", Fulfilled},
		{"revoked", volume.VerbUnlock, status(class(fault.Revoked)), "a", Hopeless},
		{"revoked, but that is old news", volume.VerbUnlock, status(func(s *volume.Status) { s.Class, s.Answered = fault.Revoked, 6 }), "a", Pending},
		{"integrity", volume.VerbUnlock, status(class(fault.Integrity)), "a", Hopeless},
		{"misconfigured", volume.VerbUnlock, status(class(fault.Misconfigured)), "a", Hopeless},
		{"unreachable passes", volume.VerbUnlock, status(class(fault.Unreachable)), "a", Pending},
		{"throttled passes", volume.VerbUnlock, status(class(fault.Throttled)), "a", Pending},
		{"identity passes", volume.VerbUnlock, status(class(fault.Identity)), "a", Pending},
		{"unknown may pass", volume.VerbUnlock, status(class(fault.Unknown)), "a", Pending},
		{"quarantined", volume.VerbReattach, status(func(s *volume.Status) { s.Phase = volume.Quarantined }), "a", Hopeless},
		{"quarantined, before the re-attach", volume.VerbReattach, status(func(s *volume.Status) { s.Phase, s.Answered = volume.Quarantined, 6 }), "a", Pending},
		{"conflict", volume.VerbUnlock, status(func(s *volume.Status) { s.Class, s.Reason = fault.Unknown, "conflict" }), "a", Hopeless},
		{"conflict while closing", volume.VerbRelease, status(func(s *volume.Status) {
			s.Wish, s.Device, s.Class, s.Reason = volume.WishDetached, "/dev/nvme1n1", fault.Unknown, "conflict"
		}), "a", Hopeless},
		{"locking in quarantine", volume.VerbLock, status(func(s *volume.Status) {
			s.Wish, s.Phase, s.Mapping, s.Class = volume.WishSealed, volume.Quarantined, "volseal-x", fault.Integrity
		}), "a", Pending},
		{"releasing without a CMK", volume.VerbRelease, status(func(s *volume.Status) {
			s.Wish, s.Device, s.Class = volume.WishDetached, "/dev/nvme1n1", fault.Revoked
		}), "a", Pending},
		{"locked", volume.VerbLock, status(func(s *volume.Status) { s.Wish = volume.WishSealed }), "a", Fulfilled},
		{"locking", volume.VerbLock, status(func(s *volume.Status) { mounted(s); s.Wish = volume.WishSealed }), "a", Pending},
		{"released", volume.VerbRelease, status(func(s *volume.Status) { s.Wish, s.Phase = volume.WishDetached, volume.Detached }), "a", Fulfilled},
		{"another's lock", volume.VerbUnlock, status(func(s *volume.Status) { s.Wish, s.WishSeq, s.Answered = volume.WishSealed, 8, 8 }), "a", Superseded},
		{"another's lock, satisfied", volume.VerbRelease, status(func(s *volume.Status) { s.Wish = volume.WishSealed }), "a", Superseded},
		{"restarted, no pass yet", volume.VerbUnlock, status(func(s *volume.Status) { mounted(s); s.Since = nil }), "b", Pending},
		{"restarted", volume.VerbUnlock, status(func(s *volume.Status) { mounted(s); s.WishSeq, s.Answered = 0, 0 }), "b", Fulfilled},
		{"restarted, revoked", volume.VerbUnlock, status(func(s *volume.Status) { s.Class, s.WishSeq, s.Answered = fault.Revoked, 0, 0 }), "b", Hopeless},
	} {
		a := Accepted{Volume: "x", Verb: tt.verb, Wish: 7, run: "a"}
		if got := judge(a, tt.s, tt.run); got != tt.want {
			t.Errorf("%s: outcome %d, want %d", tt.name, got, tt.want)
		}
	}
}
