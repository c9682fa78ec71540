// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"slices"
	"testing"
)

// everyFacts calls visit with every combination of facts that observe can make:
// about twenty million. Whether a re-wrap is wanted is asked
// where there is a header, which is where it matters.
func everyFacts(visit func(Facts)) {
	bools := []bool{false, true}
	for _, wish := range []Wish{WishMounted, WishSealed, WishDetached} {
		for _, stage := range []Stage{StageNone, StageHeader, StageFilesystem, StageReady} {
			for cloud := CloudUnasked; cloud <= CloudUnusable; cloud++ {
				for header := HeaderUnread; header <= HeaderForeign; header++ {
					for bits := range 1 << 9 {
						b := func(i int) bool { return bools[bits>>i&1] }
						f := Facts{
							Wish: wish, Stage: stage, Cloud: cloud, Header: header,
							Rebuild: b(0), InitWanted: b(1), MayAttach: b(2), Quarantined: b(3), Device: b(4), Pending: b(5), Proved: b(6), Held: b(7), Opened: b(8),
						}
						everyOrder(f, visit)
						if f.Header == HeaderLUKS2 {
							for f.Rewrap = RewrapDue; f.Rewrap <= RewrapFirst; f.Rewrap++ {
								everyOrder(f, visit)
							}
						}
					}
				}
			}
		}
	}
}

func everyOrder(f Facts, visit func(Facts)) {
	everyMapping(f, visit)
	everyMaking(f, func(f Facts) { everyMapping(f, visit) })
}

// everyMaking goes through the states of an order. Before EC2 has named a volume
// there is none to find.
func everyMaking(f Facts, visit func(Facts)) {
	if f.Stage != StageNone || f.Held || f.Rebuild || f.Opened || f.Proved {
		return
	}
	for f.Making = MakingOrdered; f.Making <= MakingRestored; f.Making++ {
		if f.Making != MakingOrdered || !f.Device && f.Header == HeaderUnread && f.Cloud == CloudUnasked {
			visit(f)
		}
	}
}

// everyMapping goes through mappings and mounts. Due and Stopping are only ever
// found where they matter.
func everyMapping(f Facts, visit func(Facts)) {
	for f.Mapping = MapAbsent; f.Mapping <= MapWedged; f.Mapping++ {
		for f.Mount = MountNone; f.Mount <= MountForeign; f.Mount++ {
			f.Due, f.Stopping = DueNothing, false
			visit(f)
			everyReencryption(f, visit)
			switch {
			case f.Mapping == MapSound && f.Mount == MountHere:
				for f.Due = DueLock; f.Due <= DueFreeze; f.Due++ {
					visit(f)
				}
			case f.suspended() || f.Mapping == MapLost:
				f.Stopping = true
				visit(f)
			}
		}
	}
}

// everyReencryption goes through the states of one. They are looked at where the
// mapping is sound.
func everyReencryption(f Facts, visit func(Facts)) {
	if f.Mapping != MapSound || f.Stage != StageReady {
		return
	}
	for f.Reencrypt = ReencryptDue; f.Reencrypt <= ReencryptHalting; f.Reencrypt++ {
		visit(f)
		if f.Mount == MountHere {
			for f.Due = DueLock; f.Due <= DueFreeze; f.Due++ {
				visit(f)
			}
			f.Due = DueNothing
		}
	}
}

// Each rule is a promise to a customer; it holds for every combination of facts.
func TestNextKeepsItsPromises(t *testing.T) {
	steps := append(Steps(), StepNone)
	demanded := [...]Step{DueNothing: StepNone, DueLock: StepUnmount, DueFreeze: StepFreeze}
	rules := []struct {
		name  string
		holds func(f Facts, s Step) bool
	}{
		{"a step is one of the known ones", func(_ Facts, s Step) bool { return slices.Contains(steps, s) }},
		{"nothing opens, mounts, formats or attaches against the operator's wish", func(f Facts, s Step) bool {
			return f.Wish == WishMounted || !opens(s)
		}},
		{"nothing opens, mounts, formats or attaches in quarantine", func(f Facts, s Step) bool {
			return f.phase() != Quarantined || !opens(s)
		}},
		{"open needs our header on our attached device, and nothing open or mounted", func(f Facts, s Step) bool {
			return s != StepOpen || f.Device && f.Header == HeaderLUKS2 && f.Cloud == CloudAttached && !f.open() && f.Mount == MountNone
		}},
		{"a re-wrap needs the claim's word, and a sound mounted volume that no policy locks", func(f Facts, s Step) bool {
			return s != StepRewrap || f.Rewrap != RewrapNone && f.phase() == Mounted && f.Mapping == MapSound && f.Due == DueNothing || f.phase() == Sealed
		}},
		{"a reencryption needs the claim's word, and a sound mounted volume that no policy locks, and waits for a re-wrap", func(f Facts, s Step) bool {
			return s != StepReencrypt || f.Reencrypt == ReencryptDue && f.Wish == WishMounted && f.phase() == Mounted && f.Mapping == MapSound && f.Due == DueNothing && f.Rewrap == RewrapNone
		}},
		{"nothing is taken from under the unit of a reencryption: it ends first", func(f Facts, s Step) bool {
			return !f.reencrypting() || s != StepUnmount && s != StepClose && s != StepFreeze
		}},
		{"it is told to end only where an operator wants that, or something is to be taken from under it", func(f Facts, s Step) bool {
			return s != StepHalt || f.Reencrypt == ReencryptHalting || f.Reencrypt == ReencryptRuns && (f.Wish != WishMounted || f.Due != DueNothing || f.phase() != Mounted)
		}},
		{"what a killed reencryption left is taken down first of all, since writers wait for it", func(f Facts, s Step) bool {
			return (f.Mapping == MapWedged) == (s == StepUnwedge)
		}},
		{"a volume with two volume keys is never frozen: it could not be resumed in place", func(f Facts, s Step) bool {
			return s != StepFreeze || f.Reencrypt == ReencryptIdle || f.suspended()
		}},
		{"or, where it comes first, our header on our attached device, and no init under way", func(f Facts, s Step) bool {
			return s != StepRewrap || f.phase() == Mounted ||
				f.Rewrap == RewrapFirst && f.Stage != StageFilesystem && f.Header == HeaderLUKS2 && f.Cloud == CloudAttached && !f.InitWanted
		}},
		{"no volume opens before a re-wrap that comes first, and no other stands in the way", func(f Facts, s Step) bool {
			return s != StepOpen || f.Rewrap != RewrapFirst || f.Stage == StageFilesystem
		}},
		{"format needs the word init or create, a blank header area and no claim", func(f Facts, s Step) bool {
			return s != StepFormat || (f.InitWanted || f.Making == MakingBlank) && f.Header == HeaderBlank && f.Stage == StageNone && f.Device && f.Cloud == CloudAttached
		}},
		{"what was made from a snapshot is never formatted", func(f Facts, s Step) bool {
			return f.Making != MakingRestored || s != StepFormat && s != StepWriteHeader
		}},
		{"what was made blank is never opened before it was formatted", func(f Facts, s Step) bool {
			return f.Making != MakingBlank || s != StepOpen
		}},
		{"a volume is asked for only by an order, and while EC2 has named none", func(f Facts, s Step) bool {
			return s != StepCreate || f.Making == MakingOrdered && f.Wish == WishMounted
		}},
		{"a volume is forgotten only if it was ordered, and EC2 says that it is broken or gone", func(f Facts, s Step) bool {
			return s != StepForget || (f.Making == MakingBlank || f.Making == MakingRestored) &&
				(f.Cloud == CloudGone || f.Cloud == CloudBroken && f.Wish == WishMounted)
		}},
		{"an order is dropped only if an operator released it before EC2 named a volume", func(f Facts, s Step) bool {
			return s != StepCallOff || f.Making == MakingOrdered && f.Wish == WishDetached
		}},
		{"a header is written only where the claim says that one was begun", func(f Facts, s Step) bool {
			return s != StepWriteHeader || f.Stage == StageHeader && f.Device && f.Cloud == CloudAttached && !f.open()
		}},
		{"mount needs a sound mapping of ours and a valid proof", func(f Facts, s Step) bool {
			return s != StepMount || f.Mapping == MapSound && f.Opened && f.Proved && f.Device && f.Mount == MountNone
		}},
		{"a sound mounted volume is left alone, but for a re-wrap, while it should be mounted and no policy says otherwise", func(f Facts, s Step) bool {
			return f.Wish != WishMounted || f.phase() != Mounted || f.Due != DueNothing ||
				s == StepNone && f.Rewrap == RewrapNone || s == StepRewrap && f.Rewrap != RewrapNone ||
				f.Reencrypt != ReencryptIdle && (s == StepReencrypt || s == StepHalt)
		}},
		{"an unmounted mapping without a proof is closed, or proved anew by who opened it, unless somebody else mounted it", func(f Facts, s Step) bool {
			return f.Wish != WishMounted || f.phase() != Unlocked || f.Proved && f.Opened || f.Mount == MountElsewhere ||
				s == StepClose || s == StepRenew && f.Opened || s == StepHalt && f.reencrypting()
		}},
		{"a volume is never detached while it is open or mounted", func(f Facts, s Step) bool {
			return s != StepDetach && s != StepTakeBack || (!f.Device || !f.Held) && !f.open() && f.Mount != MountHere && f.Mount != MountElsewhere
		}},
		{"attaching and detaching are left alone where they are not ours", func(f Facts, s Step) bool {
			return f.MayAttach || s != StepAttach && s != StepDetach && s != StepTakeBack
		}},
		{"a mapping is never closed beneath its own mount", func(f Facts, s Step) bool {
			return s != StepClose || f.Mount != MountHere && f.Mount != MountElsewhere
		}},
		{"quarantine does nothing by itself, but take down what has lost its disk", func(f Facts, s Step) bool {
			return f.phase() != Quarantined || f.Wish != WishMounted || f.Rebuild || s == StepNone ||
				f.Mapping == MapLost && (s == StepUnmount || s == StepClose) ||
				s == StepAbandon && (f.Stopping || f.Mapping == MapStranded) || s == StepUnwedge
		}},
		{"a policy does what it is called, and no more", func(f Facts, s Step) bool {
			return f.Wish != WishMounted || f.phase() != Mounted ||
				s == demanded[f.Due] || f.Due == DueNothing && (s == StepRewrap || s == StepReencrypt || s == StepHalt) ||
				f.Reencrypt != ReencryptIdle && (s == StepUnmount || s == StepHalt)
		}},
		{"a key is given back only to our own frozen mapping, with its device here and by the operator's wish", func(f Facts, s Step) bool {
			return s != StepResume || f.Mapping == MapFrozen && f.Mount == MountHere && f.Device && f.Wish == WishMounted && f.phase() != Quarantined && !f.Stopping
		}},
		{"nothing is unmounted or mounted over suspended I/O: that would wait for ever", func(f Facts, s Step) bool {
			return !f.suspended() || s != StepUnmount && s != StepMount
		}},
		{"I/O is failed only if it can never go on, the host stops, or an operator takes the volume away", func(f Facts, s Step) bool {
			return s != StepAbandon || f.suspended() && (f.Mapping == MapStranded || f.Stopping || f.Wish != WishMounted || f.Rebuild && f.phase() == Quarantined)
		}},
		{"a host that stops never waits for suspended I/O", func(f Facts, s Step) bool {
			return !f.suspended() || !f.Stopping || f.Mount == MountNone || s == StepAbandon
		}},
		{"a lost disk is recorded before the evidence goes, unless an operator takes the volume down anyway", func(f Facts, s Step) bool {
			return !f.lost() || f.Quarantined || f.Wish != WishMounted || f.Rebuild || s == StepNone
		}},
		{"what has lost its disk is not mounted, nor anything opened beside it", func(f Facts, s Step) bool {
			return f.Mapping != MapLost || !opens(s)
		}},
	}
	everyFacts(func(f Facts) {
		if t.Failed() {
			return
		}
		s := next(f)
		for _, r := range rules {
			if !r.holds(f, s) {
				t.Errorf("%s: next(%+v) = %q", r.name, f, s)
			}
		}
	})
}

func opens(s Step) bool {
	switch s {
	case StepCreate, StepAttach, StepFormat, StepWriteHeader, StepOpen, StepRenew, StepMount, StepTakeBack, StepResume, StepRewrap:
		return true
	}
	return false
}

// From every state of an ordinary history, steps that succeed lead to the wish:
// no pair of steps undoes each other for ever.
func TestNextArrives(t *testing.T) {
	everyFacts(func(f Facts) {
		if t.Failed() || !f.ordinary() {
			return
		}
		begin := f
		for range 14 {
			s := next(f)
			if s == StepNone {
				break
			}
			f = f.after(s)
		}
		if s := next(f); s != StepNone || !f.arrived() {
			t.Errorf("from %+v\nstuck at %+v, next %q", begin, f, s)
		}
	})
}

// ordinary is a state that a healthy world can be in at the start of a pass.
func (f Facts) ordinary() bool {
	switch {
	case !f.MayAttach || f.Held || f.Quarantined || f.Mount == MountForeign || f.Mount == MountElsewhere:
		return false
	case f.Making == MakingOrdered:
		return f.Mapping == MapAbsent && !f.Pending && !f.Opened && f.Mount == MountNone && !f.InitWanted
	case f.Cloud == CloudUnasked || f.Cloud == CloudElsewhere || f.Cloud == CloudUnusable || f.Making == MakingNothing && f.Cloud >= CloudBroken:
		return false
	case f.Device != (f.Cloud == CloudAttached) || f.Mapping == MapUnsound:
		return false
	case (f.Mapping == MapLost || f.suspended()) && (f.Stage != StageReady || f.Pending) || f.Stopping:
		return false
	case (f.Mapping == MapFrozen || f.Mapping == MapHalted) && !f.Device:
		return false
	case f.Mapping == MapStranded && f.Mount == MountHere && f.Wish == WishMounted && !f.Rebuild:
		return false // a loss as well
	case f.lost() && f.Wish == WishMounted && !f.Rebuild:
		return false // waits for an operator
	case f.Mount == MountHere && f.Mapping != MapSound && f.Mapping != MapLost && f.Mapping != MapWedged && !f.suspended() || f.Mapping == MapSound && (f.Stage != StageReady || f.Pending || !f.Device):
		return false
	case f.Pending && !f.Device:
		return false
	}
	if f.Making != MakingNothing && f.Mapping != MapAbsent {
		return false // nothing of it was ever opened
	}
	if f.Mapping == MapWedged && (f.Stage != StageReady || f.Pending || !f.Device || f.Opened && f.Mount != MountNone) {
		return false
	}
	want := map[Stage]HeaderState{StageNone: HeaderBlank, StageHeader: HeaderForeign, StageFilesystem: HeaderLUKS2, StageReady: HeaderLUKS2}
	if f.Making == MakingRestored {
		want[f.Stage] = HeaderLUKS2
	}
	if f.Header != want[f.Stage] || f.Pending && f.Header != HeaderLUKS2 {
		return false
	}
	return f.InitWanted == (f.Stage == StageNone && f.Making == MakingNothing)
}

func (f Facts) arrived() bool {
	switch f.Wish {
	case WishSealed:
		return !f.open() && f.Mount == MountNone
	case WishDetached:
		return f.phase() == Detached && (f.Cloud == CloudDetached || f.Making == MakingNothing && f.Cloud == CloudUnasked ||
			f.Cloud == CloudCreating || f.Cloud == CloudBroken) // the last two are EC2's and an operator's to end
	}
	return f.phase() == Mounted
}

// after is the world after a step that succeeded.
func (f Facts) after(s Step) Facts {
	switch s {
	case StepAttach, StepTakeBack:
		f.Cloud = CloudAttaching
	case StepCreate:
		f.Making, f.Cloud = MakingBlank, CloudCreating
	case StepForget:
		f.Making, f.Cloud = MakingOrdered, CloudUnasked
	case StepCallOff:
		f.Making = MakingNothing
	case StepAwait:
		switch f.Cloud {
		case CloudCreating:
			f.Cloud = CloudDetached
			if f.Making == MakingBlank {
				f.Header = HeaderBlank
			}
		case CloudAttaching:
			f.Cloud, f.Device = CloudAttached, true
		default:
			f.Cloud, f.Device = CloudDetached, false
		}
	case StepFormat, StepWriteHeader:
		f.Stage, f.Header, f.InitWanted, f.Making = StageFilesystem, HeaderLUKS2, false, MakingNothing
	case StepRewrap:
		f.Rewrap = RewrapNone
	case StepOpen:
		f.Stage, f.Making, f.Mapping, f.Opened, f.Proved = StageReady, MakingNothing, MapSound, true, false // a slow host
	case StepRenew:
		f.Proved = true
	case StepMount:
		f.Mount = MountHere
	case StepUnmount:
		f.Mount, f.Due = MountNone, DueNothing
	case StepFreeze:
		f.Mapping, f.Due = MapFrozen, DueNothing
	case StepResume:
		f.Mapping = MapSound
	case StepReencrypt:
		f.Reencrypt = ReencryptRuns
	case StepHalt:
		f.Reencrypt = ReencryptWaits
	case StepUnwedge:
		f.Mapping, f.Mount = MapAbsent, MountNone
	case StepAbandon:
		f.Mapping = MapLost
	case StepClose:
		f.Mapping, f.Pending, f.Reencrypt = MapAbsent, false, ReencryptIdle
	case StepDetach:
		f.Cloud = CloudDetaching
	}
	if !f.open() && f.Mount == MountNone {
		f.Rebuild = false
	}
	return f
}
