// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"time"

	"github.com/volseal/volseal/internal/fault"
)

// publish shows what the pass found. seq is the newest wish it dealt with.
func (w *worker) publish(o observed, seq uint64) {
	w.mu.Lock()
	s := w.status
	phase := s.Phase
	if o.complete {
		phase = o.facts.phase()
		s.Device, s.Mapping = o.device.Path, ""
		if o.mapping.Present {
			s.Mapping = o.spec.Mapping()
		}
		s.Layers = layers(o, w.cloudTold, w.cipher)
	}
	if w.claimErr == nil && w.claim.Quarantine != nil {
		phase = Quarantined
	}
	if s.Since == nil || s.Phase != phase {
		s.Since = timeOrNil(time.Now())
	}
	s.Phase = phase
	w.describe(&s, w.spec, w.claim)
	s.LastProof = timeOrNil(w.lastProof)
	s.WouldSurviveReboot = phase == Mounted && s.Wish == WishMounted && w.canary.passed && !w.notes.exam && w.failing.n == 0
	w.explainFailure(&s)
	s.Rotation = rotationOf(w.claim, w.spec, w.rotating, w.work)
	s.Answered = seq
	w.status = s
	w.mu.Unlock()
	w.told()
}

// describe fills in what configuration and claim say.
func (w *worker) describe(s *Status, spec Spec, c Claim) {
	s.VolumeID, s.Database, s.Mountpoint = spec.VolumeID, spec.Database, spec.Mountpoint
	s.KeyARN, s.Notice = c.pinned(spec).KeyARN, c.notice(spec)
	if s.VolumeID == "" {
		s.VolumeID = c.VolumeID
	}
	if c.Wish != "" {
		s.Wish = c.Wish
	}
	s.LUKSUUID, s.Generation = c.LUKSUUID, c.Generation
}

func (w *worker) explainFailure(s *Status) {
	s.Class, s.Error, s.Hint, s.Reason, s.FailedStep = fault.None, "", "", "", ""
	s.FailingSince, s.NextRetry, s.Who = nil, nil, []fault.Owner{}
	if q := w.claim.Quarantine; q != nil {
		e := q.err()
		s.Class, s.Error, s.Hint, s.Reason = e.Class, e.Cause, e.Hint, e.Reason
		s.FailingSince, s.Who = timeOrNil(q.Since), e.Class.Owners()
		s.FailedStep = q.Step
		return
	}
	if f := w.failing; f.n > 0 {
		s.Class, s.Error, s.Hint, s.Reason = fault.ClassOf(f.err), f.err.Error(), hintOf(f.err), reasonOf(f.err)
		s.FailedStep, s.FailingSince, s.NextRetry = f.title, timeOrNil(f.since), timeOrNil(f.retry)
		s.Who = fault.WhoOf(f.err)
	}
}

func hintOf(err error) string {
	if c, ok := asConflict(err); ok {
		return c.Hint
	}
	return fault.HintOf(err)
}

func reasonOf(err error) string {
	if _, ok := asConflict(err); ok {
		return "conflict"
	}
	return fault.ReasonOf(err)
}

// progress shows how far long work has come.
func (w *worker) progress(text string) {
	w.mu.Lock()
	changed, name := w.status.Progress != text, w.spec.Name
	w.status.Progress = text
	w.mu.Unlock()
	if changed {
		w.told()
	}
	w.ports.Recorder.Reconciled(name) // the loop turns, though the pass is long
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
