// SPDX-License-Identifier: Apache-2.0

package volume

// Step is the one thing to do next.
type Step string

// The steps. Each is idempotent and survives being killed at any point: the
// next pass observes afresh and adopts whatever was done.
const (
	StepNone        Step = ""             // nothing to do: the wish has come true, or only an operator can help
	StepRefuse      Step = "refuse"       // nothing may be done: the refusal says why
	StepAttach      Step = "attach"       // ask EC2 to attach
	StepAwait       Step = "await"        // EC2 or the kernel is at work: look again soon
	StepTakeBack    Step = "take-back"    // detach an attachment that is stuck in attaching
	StepFormat      Step = "format"       // prove blankness, build the header, record the claim
	StepWriteHeader Step = "write-header" // put the recorded header onto the device
	StepRewrap      Step = "rewrap"       // wrap the data key under another CMK: add, verify, then remove
	StepOpen        Step = "open"         // freeze, check, prove, open, check again, publish
	StepRenew       Step = "renew"        // prove anew what this process opened: the proof grew old meanwhile
	StepMount       Step = "mount"        // have systemd mount
	StepUnmount     Step = "unmount"      // have systemd stop the mount, and first who needs it
	StepClose       Step = "close"        // remove the mapping; the key leaves the kernel
	StepFreeze      Step = "freeze"       // suspend all I/O, then wipe the key from the kernel
	StepResume      Step = "resume"       // freeze the header, check, prove, give the key back, let I/O go on
	StepReencrypt   Step = "reencrypt"    // put a second volume key into the header, start the work, or clean up behind it
	StepHalt        Step = "halt"         // have the work end in good order
	StepUnwedge     Step = "unwedge"      // take down what a reencryption that was killed left behind
	StepAbandon     Step = "abandon"      // have all waiting I/O fail, so that an unmount can end
	StepDetach      Step = "detach"       // ask EC2 to detach
	StepCreate      Step = "create"       // ask EC2 for the ordered volume, under a client token
	StepForget      Step = "forget"       // EC2 could not make the volume: say why, and prepare to ask anew
	StepCallOff     Step = "call-off"     // drop an order of which nothing exists
)

// Steps lists every step that does something, for metrics.
func Steps() []Step {
	return []Step{
		StepRefuse, StepAttach, StepAwait, StepTakeBack, StepFormat, StepWriteHeader,
		StepOpen, StepRenew, StepMount, StepUnmount, StepClose, StepDetach,
		StepFreeze, StepResume, StepAbandon, StepRewrap,
		StepReencrypt, StepHalt, StepUnwedge, StepCreate, StepForget, StepCallOff,
	}
}

// Title is the step as a person reads it in a failure's summary.
func (s Step) Title() string {
	titles := map[Step]string{
		StepRefuse:      "Check volume",
		StepAttach:      "Attach volume",
		StepAwait:       "Attach volume",
		StepTakeBack:    "Attach volume",
		StepFormat:      "Format volume",
		StepWriteHeader: "Format volume",
		StepOpen:        "Unlock volume",
		StepRenew:       "Unlock volume",
		StepRewrap:      "Re-wrap data key",
		StepReencrypt:   "Reencrypt volume",
		StepHalt:        "Pause reencryption",
		StepUnwedge:     "Recover reencryption",
		StepMount:       "Mount volume",
		StepUnmount:     "Unmount volume",
		StepClose:       "Lock volume",
		StepDetach:      "Detach volume",
		StepFreeze:      "Freeze volume",
		StepResume:      "Resume volume",
		StepAbandon:     "Abandon volume",
		StepCreate:      "Create database volume",
		StepForget:      "Create database volume",
		StepCallOff:     "Create database volume",
	}
	return titles[s]
}

// next picks the one next step. It is pure and total.
//
//	opening   Detached ──attach──▶ Attached ──────────▶ Sealed ──open──▶ Unlocked ──mount──▶ Mounted
//	              ▲ await             │ format,            │ (proof)         │ refused,
//	              └ take-back         ▼ write-header       ▼                 ▼ or not ours: close, back to Sealed
//	                                Sealed            Quarantined
//	                                  └ rewrap, if it must come first                 rewrap ┘ else
//
//	closing   Mounted ──unmount──▶ Unlocked ──close──▶ Sealed ──detach──▶ Detached
//
//	making    ordered ──create──▶ named by EC2, Detached ──await──▶ ──attach──▶ …
//	             │  ▲                    │ in state error, or gone
//	             │  └──────forget────────┘
//	             └──call-off──▶ nothing, once an operator releases it
//
//	Quarantined: nothing opens; closing is still allowed, because it only takes access away.
//
//	key revoked, where a policy locks (Due):
//	  lock-graceful   Mounted ──unmount──▶ Unlocked ──close──▶ Sealed ──open, once there is a proof──▶ …
//	  lock-freeze     Mounted ──freeze──▶ frozen, shown as Sealed ──resume, once there is a proof──▶ Mounted
//	                                        │ an operator locks, the host stops, the disk is gone
//	                                        └──abandon──▶ all I/O fails ──unmount──▶ ──close──▶
//
//	a reencryption was killed: ──unwedge──▶ Sealed ──open──▶ …, whatever the wish or the phase
//
//	the disk is gone from under the mount: Quarantined, durably, then ──unmount──▶ ──close──▶ and wait for an operator
//
// An open mapping that is not mounted never stands without a valid proof: a
// later start of the mount unit would otherwise mount it with nobody asked. One
// that this process opened a moment ago is proved anew, since a host that opens
// many volumes at once can take longer than a proof lasts; any other is closed.
func next(f Facts) Step {
	if s := ending(f); s != StepNone {
		return s
	}
	s := onward(f)
	if f.reencrypting() && (s == StepUnmount || s == StepClose || s == StepFreeze) {
		return StepHalt // else it would work on what is being taken from under it
	}
	return s
}

// onward is the way to the wish.
func onward(f Facts) Step {
	if f.Wish != WishMounted || f.Rebuild {
		if s := closing(f); s != StepNone {
			return s
		}
	}
	switch f.Wish {
	case WishDetached:
		return detaching(f)
	case WishMounted:
		return opening(f)
	}
	return StepNone
}

// ending takes down what is dead, whatever the wish. A loss is recorded first,
// or a crash half-way would mount the volume again with nobody having looked.
func ending(f Facts) Step {
	switch {
	case f.Mapping == MapStranded, f.suspended() && f.Stopping && f.Mount != MountNone:
		return StepAbandon
	case f.Mapping == MapWedged:
		return StepUnwedge
	case f.lost() && f.Quarantined:
		return StepUnmount
	case f.Mapping == MapLost && (f.Mount == MountNone || f.Mount == MountForeign):
		return StepClose
	}
	return StepNone
}

// closing takes the volume down to Sealed, one layer at a time.
func closing(f Facts) Step {
	switch {
	case f.Wish == WishMounted && (f.phase() == Mounted || f.phase() == Sealed && f.suspended()):
		return StepNone // sound and mounted: a re-attach has nothing to do. Frozen: it resumes
	case f.Mount == MountHere && f.suspended():
		return StepAbandon // an unmount would wait for ever
	case f.Mount == MountHere:
		return StepUnmount
	case f.Mount == MountElsewhere:
		return StepRefuse // somebody's own mount: theirs to end
	case f.open():
		return StepClose
	}
	return StepNone
}

func detaching(f Facts) Step {
	switch {
	case f.Making == MakingOrdered:
		return StepCallOff
	case f.Making != MakingNothing && f.Cloud == CloudGone:
		return StepForget
	case f.Cloud == CloudAttached || f.Cloud == CloudAttaching || f.Cloud == CloudStuck:
		if !f.MayAttach || f.Device && f.Held {
			return StepRefuse
		}
		return StepDetach
	case f.Cloud == CloudDetaching || f.Device:
		return StepAwait
	}
	return StepNone
}

func opening(f Facts) Step {
	switch f.phase() {
	case Quarantined:
		return StepNone
	case Mounted:
		return keeping(f)
	case Unlocked:
		return mounting(f)
	}
	switch {
	case f.Mount == MountElsewhere:
		return StepRefuse
	case f.suspended():
		return thawing(f)
	case f.Mapping == MapLost:
		return StepNone // the host stops, and systemd unmounts
	case f.Pending:
		return StepClose
	case f.Mount == MountForeign:
		return StepRefuse
	}
	switch f.phase() {
	case Sealed:
		return unlocking(f)
	case Attached:
		return formatting(f)
	}
	return attaching(f)
}

// keeping leaves a mounted volume alone, unless the policy says otherwise. Keys
// are rotated under it: nothing that is mounted notices.
func keeping(f Facts) Step {
	switch f.Due {
	case DueLock:
		return StepUnmount
	case DueFreeze:
		if f.Reencrypt != ReencryptIdle {
			return StepUnmount // with two volume keys it cannot be resumed in place
		}
		return StepFreeze
	}
	switch {
	case f.Rewrap != RewrapNone:
		return StepRewrap
	case f.Reencrypt == ReencryptDue:
		return StepReencrypt
	case f.Reencrypt == ReencryptHalting:
		return StepHalt
	}
	return StepNone
}

func thawing(f Facts) Step {
	switch {
	case f.Mount != MountHere:
		return StepClose
	case f.Mapping == MapHalted:
		return StepFreeze // before anything else, the key goes
	}
	return StepResume
}

func mounting(f Facts) Step {
	switch {
	case f.Mount == MountElsewhere:
		return StepRefuse
	case !f.Opened || f.Mount == MountForeign:
		return StepClose
	case !f.Proved:
		return StepRenew
	}
	return StepMount
}

func unlocking(f Facts) Step {
	if s := attachedHere(f); s != StepNone {
		return s
	}
	if f.InitWanted && f.Stage != StageFilesystem {
		return StepRefuse // there is a header already: formatting it anew would destroy data
	}
	if f.Rewrap == RewrapFirst && f.Stage != StageFilesystem {
		return StepRewrap
	}
	return StepOpen
}

func formatting(f Facts) Step {
	if s := attachedHere(f); s != StepNone {
		return s
	}
	switch {
	case f.Stage == StageHeader:
		return StepWriteHeader
	case f.Header == HeaderBlank && f.Stage == StageNone && (f.InitWanted || f.Making == MakingBlank):
		return StepFormat // to order a volume is to order that it be formatted
	}
	return StepRefuse
}

// attachedHere insists on EC2's word that the device we see is attached to this
// instance and to no other. StepNone means that it is.
func attachedHere(f Facts) Step {
	switch f.Cloud {
	case CloudAttached:
		return StepNone
	case CloudAttaching, CloudDetaching:
		return StepAwait
	}
	return StepRefuse
}

func attaching(f Facts) Step {
	if f.Making == MakingOrdered {
		return StepCreate
	}
	switch f.Cloud {
	case CloudCreating:
		return StepAwait
	case CloudBroken, CloudGone:
		if f.Making != MakingNothing {
			return StepForget
		}
		return StepRefuse
	case CloudDetached:
		if f.MayAttach {
			return StepAttach
		}
		return StepAwait
	case CloudStuck:
		if f.MayAttach {
			return StepTakeBack
		}
		return StepAwait
	case CloudAttaching, CloudAttached, CloudDetaching:
		return StepAwait
	}
	return StepRefuse
}
