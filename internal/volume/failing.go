// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"errors"
	"time"

	"github.com/volseal/volseal/internal/fault"
)

// failing is the run of failures of one step; its zero value is no failure.
type failing struct {
	step  Step
	title string // of the step, for a person
	err   error
	n     int
	since time.Time
	retry time.Time
}

// pause is the rest before a retry, or before EC2 is asked again. An event ends
// it early only if the device or the mount changed meanwhile: a host's worth of
// udev chatter must not become so many calls to KMS and EC2.
type pause struct {
	until    time.Time
	device   bool
	mount    MountState
	ecryptfs int // mounts on the volume: one that is gone may be what an unmount waited for
	stopping bool
}

func pauseFor(d time.Duration, o observed) pause {
	return pause{until: time.Now().Add(d), device: o.facts.Device, mount: o.facts.Mount, ecryptfs: len(o.mount.Ecryptfs), stopping: o.facts.Stopping}
}

func (p pause) lasts(o observed) bool {
	return time.Now().Before(p.until) && p.device == o.facts.Device && p.mount == o.facts.Mount &&
		p.ecryptfs == len(o.mount.Ecryptfs) && p.stopping == o.facts.Stopping
}

// fail keeps the error for status and plans the retry. Blame on the disk
// quarantines the volume, durably: no restart may forget it. Not so while it is
// mounted: what an exam finds stays an error beside the phase, which goes when
// it is mended; the next opening judges the disk for itself.
func (w *worker) fail(o observed, step Step, err error) {
	class := fault.ClassOf(err)
	changed := w.failing.n == 0 || w.failing.step != step || fault.ClassOf(w.failing.err) != class
	if changed {
		w.failing = failing{step: step, title: failedTitle(step, o), since: time.Now()}
	}
	w.failing.err = err
	w.failing.n++
	w.failing.retry = time.Now().Add(RetryAfter(class, w.failing.n))
	if step == StepForget { // each try may leave a volume that an operator has to delete
		w.failing.retry = time.Now().Add(retryByHand)
	}
	if changed {
		w.logFailure(step, err)
	}
	if o.facts.Wish == WishMounted && o.facts.Mount != MountHere {
		w.ports.Recorder.MountRefused(o.spec.Name, class)
	}
	if o.contradicts(step) || class == fault.Integrity && !examined(o, step) {
		w.quarantine(err, o.seq)
	}
	if _, conflict := asConflict(err); conflict || !class.WaitingHelps() {
		w.init = false // spent: what refused it must be looked at before anything is formatted
	}
}

// contradicts reports that the pass found what no ordinary history explains.
func (o observed) contradicts(step Step) bool {
	return step == StepNone && o.complete && o.facts.contradiction() != ""
}

// failedTitle names what failed. Where no step was chosen yet, or all of them
// are refused, it is the step that the volume's phase leads to.
func failedTitle(step Step, o observed) string {
	f := o.facts
	switch {
	case o.beingMade() && f.contradiction() == "":
		return CreateTitle(o.claim.Making.SizeGiB)
	case step != StepNone && step != StepRefuse:
		return step.Title()
	case step == StepNone && (f.contradiction() != "" || f.Wish == WishMounted && f.phase() == Mounted):
		return StepRefuse.Title() // what was found, or an exam of the canary
	case f.Wish == WishDetached:
		return StepDetach.Title()
	case f.Wish == WishSealed:
		return StepClose.Title()
	case f.Mount != MountNone || f.Mapping != MapAbsent:
		return StepMount.Title()
	case f.InitWanted:
		return StepFormat.Title()
	case f.Device:
		return StepOpen.Title()
	}
	return StepAttach.Title()
}

// logFailure is one line for a run of equal failures.
func (w *worker) logFailure(step Step, err error) {
	w.log.Warn("step failed", "step", string(step), "class", string(fault.ClassOf(err)),
		"reason", fault.ReasonOf(err), "error", err.Error(), "hint", fault.HintOf(err), "detail", detail(err))
}

// detail is the technical error beneath the cause, for the journal only.
func detail(err error) string {
	var e *fault.Error
	if errors.As(err, &e) && e.Err != nil {
		return e.Err.Error()
	}
	return ""
}

// quarantine is durable. It yields to an operator who has spoken since the pass
// began: what that pass saw is not news about the new wish.
func (w *worker) quarantine(err error, seq uint64) {
	q := &Quarantine{
		Step: w.failing.title, Class: unusual(fault.ClassOf(err)), Reason: fault.ReasonOf(err), Cause: err.Error(), Hint: fault.HintOf(err), Since: time.Now().UTC(),
	}
	set := false
	uerr := w.update(func(c *Claim) {
		if c.Quarantine == nil && w.status.WishSeq == seq {
			c.Quarantine, set = q, true
			if c.Reencrypt.adopted() {
				c.Reencrypt = Reencryption{} // it cannot go on; let a backup be put back, or another word be said
			}
		}
	})
	if !set {
		return
	}
	if uerr != nil {
		w.log.Error("quarantine is not durable", "error", uerr)
		w.mu.Lock()
		w.claim.Quarantine = q // holds at least until this process ends
		w.mu.Unlock()
	}
	w.log.Error("volume quarantined", "reason", q.Reason, "cause", q.Cause, "hint", q.Hint)
}

// unusual leaves the usual class out of the claim, so that agents which know no
// other can read it.
func unusual(c fault.Class) fault.Class {
	if c == fault.Integrity {
		return fault.None
	}
	return c
}

// update changes the claim durably, or not at all. change runs under w.mu.
func (w *worker) update(change func(*Claim)) error {
	w.saving.Lock()
	defer w.saving.Unlock()
	return w.updateAnd(change, func() {})
}

// updateAnd also does, in the same moment in which the new claim is seen, what
// belongs to it. The caller holds w.saving.
func (w *worker) updateAnd(change func(*Claim), also func()) error {
	w.mu.Lock()
	c, err := w.claim, w.claimErr
	if err == nil {
		change(&c)
	}
	same := c == w.claim
	w.mu.Unlock()
	if err == nil && !same {
		err = w.ports.Claims.Save(c)
	}
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.claim = c
	also()
	return nil
}
