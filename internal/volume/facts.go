// SPDX-License-Identifier: Apache-2.0

package volume

import "time"

// Phase is how far a volume is open. It is derived from facts on every pass
// and never stored; an error stands beside it, never instead of it.
type Phase string

// The phases.
const (
	Detached    Phase = "Detached"
	Attached    Phase = "Attached"
	Sealed      Phase = "Sealed"
	Unlocked    Phase = "Unlocked"
	Mounted     Phase = "Mounted"
	Quarantined Phase = "Quarantined"
)

// Phases lists every phase, in opening order.
func Phases() []Phase {
	return []Phase{Detached, Attached, Sealed, Unlocked, Mounted, Quarantined}
}

// Wish is what the operator wants of a volume; it outlives restarts in the claim.
type Wish string

// The wishes.
const (
	WishMounted  Wish = "mounted"
	WishSealed   Wish = "sealed"
	WishDetached Wish = "detached"
)

// CloudState is EC2's word on the attachment, reduced to what next needs.
type CloudState int

// The states of an attachment.
const (
	CloudUnasked   CloudState = iota // not asked in this pass: the answer would change nothing
	CloudDetached                    // available, attached nowhere
	CloudAttaching                   // on its way here
	CloudStuck                       // on its way here for longer than stuckAfter
	CloudAttached                    // attached to this instance
	CloudDetaching                   // on its way off, from here
	CloudElsewhere                   // attached to another instance
	CloudCreating                    // being made; or made for us just now, and EC2 does not show it yet
	CloudBroken                      // in state error
	CloudGone                        // made for us, and EC2 has not known it for goneAfter
	CloudUnusable                    // any other state, such as deleted
)

// MappingState is the state of the published mapping.
type MappingState int

// The states of a mapping.
const (
	MapAbsent   MappingState = iota
	MapSound                 // on our device, with the claim's UUID, live
	MapUnsound               // anything else under our name
	MapLost                  // ours, but its device is gone from beneath it: all I/O fails
	MapHalted                // ours, suspended by us with its key still there: a freeze that was cut short
	MapFrozen                // ours, suspended, its key wiped: it goes on by a proof
	MapStranded              // ours, suspended, and its device is gone: it can never go on
	MapWedged                // ours, upon what a reencryption that was killed left: its I/O may wait for ever
)

// Due is what the revocation policy demands of a sound, mounted volume.
type Due int

// What can be due.
const (
	DueNothing Due = iota
	DueLock
	DueFreeze
)

// MountState is where the mapping is mounted.
type MountState int

// The states of a mount.
const (
	MountNone      MountState = iota
	MountHere                 // the mapping, at its mount point
	MountElsewhere            // the mapping, somewhere else
	MountForeign              // something else, at our mount point
)

// RewrapState is whether the data key is to be wrapped under another CMK.
type RewrapState int

// The states of a re-wrap.
const (
	RewrapNone  RewrapState = iota // there is none, or it is not to be tried again yet
	RewrapDue                      // while the volume is mounted
	RewrapFirst                    // before the volume is opened
)

// ReencryptState is what is to be done about a reencryption.
type ReencryptState int

// The states of a reencryption.
const (
	ReencryptIdle    ReencryptState = iota // there is none, or something else comes first
	ReencryptDue                           // a step of ours is due
	ReencryptWaits                         // paused, or not to be tried again yet
	ReencryptRuns                          // its unit is at work
	ReencryptHalting                       // its unit is at work, and is to end
)

// stuckAfter is how long an attachment may be "attaching" before it is taken
// back and tried anew. AWS's own CSI driver allows 90 s.
const stuckAfter = 90 * time.Second

// goneAfter is how long EC2 may not know a volume that it has named to us. What
// it tells lags behind what it did, and a volume forgotten too soon would be a
// second one later.
const goneAfter = 30 * time.Second

// Facts are what one pass observed, as small enumerations: small enough that a
// test visits every combination of them.
type Facts struct {
	Wish        Wish
	Rebuild     bool // an operator asked for a re-attach: whatever is open is closed first
	InitWanted  bool // an operator asked, in so many words, to format this volume
	MayAttach   bool // configuration: attaching and detaching are ours to do
	Quarantined bool // the claim says so
	Rewrap      RewrapState
	Stage       Stage
	Making      MakingState // MakingNothing unless Stage is StageNone
	Cloud       CloudState
	Device      bool
	Held        bool // something holds the device that is not our mapping
	Header      HeaderState
	Pending     bool // a mapping under the pending name: an opening that was cut short
	Mapping     MappingState
	Opened      bool // this process opened the mapping, after a proof
	Proved      bool // and that proof is still young enough
	Mount       MountState
	Reencrypt   ReencryptState // ReencryptIdle unless Mapping is MapSound
	Due         Due            // DueNothing unless Mapping is MapSound and Mount is MountHere
	Stopping    bool           // the host shuts down; asked only where suspended I/O or a dead mapping could hold it up
}

// open reports whether key material for the volume is in the kernel.
func (f Facts) open() bool { return f.Mapping != MapAbsent || f.Pending }

// reencrypting reports that a unit works on the mapping: it ends before the mapping goes.
func (f Facts) reencrypting() bool {
	return f.Reencrypt == ReencryptRuns || f.Reencrypt == ReencryptHalting
}

// lost reports that the disk was taken from under a mounted file system.
// Nothing of what is done to it can reach the disk any more. A lost mapping that is not
// mounted is no loss: it is closed like any other that stands unmounted. Neither
// is one of a host that shuts down: it may be we who let go, see StepAbandon.
func (f Facts) lost() bool { return f.Mapping == MapLost && f.Mount == MountHere && !f.Stopping }

// suspended reports that all I/O of the volume waits, perhaps for ever.
func (f Facts) suspended() bool {
	return f.Mapping == MapHalted || f.Mapping == MapFrozen || f.Mapping == MapStranded
}

// contradiction names what cannot be explained by any ordinary history, or "".
// Facts that merely wait for an operator (a foreign mount at our mount point)
// are refusals, not contradictions.
func (f Facts) contradiction() string {
	switch {
	case f.Mapping == MapUnsound:
		return "mapping-unsound"
	case f.lost():
		return "device-lost"
	case !f.Device && (f.Mapping == MapSound || f.Mapping == MapHalted || f.Mapping == MapFrozen):
		return "device-hidden"
	case f.Mount == MountHere && f.Mapping == MapAbsent:
		return "mount-without-mapping"
	case f.Mapping != MapAbsent || !f.Device || f.Header == HeaderUnread:
		return ""
	case (f.Stage == StageReady || f.Making == MakingRestored) && f.Header == HeaderBlank:
		return "header-gone"
	case f.Making == MakingBlank && f.Header == HeaderLUKS2:
		return "header-unexpected"
	case f.Header == HeaderForeign && f.Stage != StageHeader:
		return "header-foreign"
	}
	return ""
}

// phase derives the phase.
func (f Facts) phase() Phase {
	switch {
	case f.Quarantined || f.contradiction() != "":
		return Quarantined
	case f.suspended(), f.Mapping == MapLost, f.Mapping == MapWedged:
		return Sealed // nothing can be read: no key, or no disk, or only for as long as it lasts
	case f.Mount == MountHere:
		return Mounted
	case f.Mapping == MapSound:
		return Unlocked
	case f.Device && f.Header == HeaderLUKS2 && f.Stage != StageHeader:
		return Sealed
	case f.Device:
		return Attached
	}
	return Detached
}
