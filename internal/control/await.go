// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"time"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// Outcome is how a wait ended.
type Outcome int

// The outcomes of a wait.
const (
	Pending    Outcome = iota // not ended
	Fulfilled                 // the wish has come true
	Hopeless                  // a class stands that waiting cannot mend
	Superseded                // another operator wished otherwise meanwhile
	TimedOut                  // the time is over
)

// A wait outlives a restart of the agent: the wish is in its claim. This is how
// often, and how long apart, a lost agent is looked for.
const (
	lostTries = 10
	lostPause = 500 * time.Millisecond
)

// Await follows a volume until the wish a has come true, cannot come true, or
// limit has passed (0: no limit). It returns the last status it saw. It asks the
// agent to answer on a change and so never polls. told, which may be nil, is
// called with each status on the way.
func (c *Client) Await(ctx context.Context, a Accepted, limit time.Duration, told func(volume.Status)) (volume.Status, Outcome, error) {
	deadline := time.Time{}
	if limit > 0 {
		deadline = time.Now().Add(limit)
	}
	var (
		seen moment
		last volume.Status
	)
	for {
		s, m, err := c.newer(ctx, a.Volume, seen, deadline)
		if err != nil {
			return last, Pending, err
		}
		seen, last = m, s
		if told != nil {
			told(s)
		}
		if o := judge(a, s, m.run); o != Pending {
			return s, o, nil
		}
		if _, over := remaining(deadline); over {
			return s, TimedOut, nil
		}
	}
}

// newer is the first status after seen, or the one that stands at the deadline.
// An agent that is away is looked for, for a while.
func (c *Client) newer(ctx context.Context, name string, seen moment, deadline time.Time) (volume.Status, moment, error) {
	lost := 0
	for {
		wait, over := remaining(deadline)
		asked := time.Now()
		s, m, err := c.volume(ctx, name, seen, wait)
		switch {
		case err == nil && (over || m != seen):
			return s, m, nil
		case err == nil:
			err = pace(ctx, asked, wait)
		case isLost(err) && !over && lost < lostTries:
			lost++
			seen = moment{}
			err = pause(ctx, min(lostPause, wait))
		}
		if err != nil {
			return s, m, err
		}
	}
}

// remaining is how long to wait still, and whether that time is over.
func remaining(deadline time.Time) (time.Duration, bool) {
	if deadline.IsZero() {
		return MaxWait, false
	}
	left := time.Until(deadline)
	return max(left, 0), left <= 0
}

// pace slows down a client whose agent answered before the wait was over though
// nothing had changed, as one that is stopping does: no client polls in a busy loop.
func pace(ctx context.Context, asked time.Time, wait time.Duration) error {
	return pause(ctx, min(lostPause, max(0, wait-time.Since(asked))))
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// isLost reports whether the agent seems to be away, as in a restart.
func isLost(err error) bool {
	var e *Error
	return errors.As(err, &e) && (e.Code == CodeNotRunning || e.Code == CodeUnavailable)
}

// judge compares a status with the wish. Nothing that was known before the wish
// was dealt with counts: neither an old error nor a phase about to change.
func judge(a Accepted, s volume.Status, run string) Outcome {
	if !answers(a, s, run) {
		return Pending
	}
	if a.Verb == volume.VerbRotate {
		return judgeRotation(a, s)
	}
	switch {
	case s.Wish != wanted(a.Verb):
		return Superseded
	case s.Satisfied():
		return Fulfilled
	case s.Reason == "conflict":
		return Hopeless
	case s.Wish != volume.WishMounted:
		// Closing goes on in quarantine and without a CMK: it only takes access away.
		return Pending
	case s.Phase == volume.Quarantined, s.Class != fault.None && !s.Class.WaitingHelps():
		return Hopeless
	}
	return Pending
}

// judgeRotation: the end of a rotation shows in the volume's generation.
func judgeRotation(a Accepted, s volume.Status) Outcome {
	r := s.Rotation
	switch {
	case r == nil && s.Generation == a.Generation:
		return Fulfilled
	case r == nil, s.Wish != volume.WishMounted:
		return Superseded
	case s.Phase == volume.Quarantined, r.Class != fault.None && !r.Class.WaitingHelps():
		return Hopeless
	}
	return Pending
}

// answers reports whether a finished pass of the agent knew of the wish. Another
// run of the agent numbers from the beginning, but began with the wish in the
// claim: there, the first finished pass is the answer.
func answers(a Accepted, s volume.Status, run string) bool {
	if run != a.run {
		return s.Since != nil
	}
	return s.Answered >= a.Wish
}

// wanted is the wish that a verb leaves behind.
func wanted(v volume.Verb) volume.Wish {
	switch v {
	case volume.VerbLock:
		return volume.WishSealed
	case volume.VerbRelease:
		return volume.WishDetached
	default:
		return volume.WishMounted
	}
}
