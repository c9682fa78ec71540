// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/volseal/volseal/internal/control"
	"github.com/volseal/volseal/internal/volume"
)

// rotator is what a rotation of many needs of the agent, which knows rotations of
// one volume only.
type rotator interface {
	Rotate(ctx context.Context, name string, order volume.RotateOrder) (control.Accepted, error)
	Volume(ctx context.Context, name string) (volume.Status, error)
	Await(ctx context.Context, a control.Accepted, limit time.Duration, told func(volume.Status)) (volume.Status, control.Outcome, error)
}

// rotateMany gives one order for many volumes. A rotation that was begun is the
// agent's, which ends it also when nobody waits for it any more.
type rotateMany struct {
	agent  rotator
	order  volume.RotateOrder
	atOnce int
	limit  time.Duration       // of ctx, for those who read the report; 0: none
	told   func(volume.Status) // of each change of one that is waited for; may be nil
}

// examine asks of each volume that is not judged yet whether it could be rotated
// now. All are asked before the first is touched: where the new CMK cannot be used,
// or the agent is away, nothing has begun.
func (m rotateMany) examine(ctx context.Context, lines []rotatedVolume) error {
	trial := m.order
	trial.DryRun = true
	return m.each(lines, func(line *rotatedVolume) error {
		_, err := m.agent.Rotate(ctx, line.Volume, trial)
		switch {
		case err == nil:
			line.Result = canBeRotated
		case ctx.Err() != nil:
			return notBegun(ctx)
		case !isOfVolume(err):
			return err // the same for all
		default:
			m.refused(ctx, line, err)
		}
		return nil
	}, "")
}

// refused notes that an order was refused for the volume's sake. Where the volume
// does not stand as it did, as when the run before has ended its rotation since, it
// is judged by how it stands.
func (m rotateMany) refused(ctx context.Context, line *rotatedVolume, err error) {
	line.Result = ""
	if exitCode(err) == exitConflict {
		if now, lost := m.agent.Volume(ctx, line.Volume); lost == nil {
			line.judge(now, m.order.KeyARN)
		}
	}
	if line.Result == "" {
		line.refused(m.order.KeyARN, err)
	}
}

// rotate rotates those that can be, so many at a time, and returns when each of
// them has ended, cannot end, or ctx has.
func (m rotateMany) rotate(ctx context.Context, lines []rotatedVolume) {
	m.each(lines, func(line *rotatedVolume) error { //nolint:errcheck // there is none
		m.rotateOne(ctx, line)
		return nil
	}, canBeRotated)
}

// each has do work on the lines of this result.
func (m rotateMany) each(lines []rotatedVolume, do func(*rotatedVolume) error, of rotateResult) error {
	var group errgroup.Group
	group.SetLimit(m.atOnce)
	for i := range lines {
		if line := &lines[i]; line.Result == of {
			group.Go(func() error { return do(line) })
		}
	}
	return group.Wait()
}

func (m rotateMany) rotateOne(ctx context.Context, line *rotatedVolume) {
	if ctx.Err() != nil {
		line.failed(notRotated, notBegun(ctx))
		return
	}
	accepted, err := m.agent.Rotate(ctx, line.Volume, m.order)
	switch {
	case err != nil && isOfVolume(err):
		m.refused(ctx, line, err)
		return
	case err != nil:
		line.failed(unfinished, m.cutShort(ctx, line, err)) // it may have been recorded
		return
	}
	told := func(v volume.Status) {
		line.stands(v)
		if m.told != nil {
			m.told(v)
		}
	}
	_, outcome, err := m.agent.Await(ctx, accepted, 0, told)
	m.ended(ctx, line, outcome, err)
}

// ended notes how the wait for a rotation ended.
func (m rotateMany) ended(ctx context.Context, line *rotatedVolume, outcome control.Outcome, err error) {
	if outcome == control.Fulfilled && line.KeyARN != m.order.KeyARN {
		outcome = control.Superseded // the generation is as awaited, by another rotation than this
	}
	switch {
	case err != nil:
		line.failed(unfinished, m.cutShort(ctx, line, err))
	case outcome == control.Fulfilled:
		line.Result = rotated
	case line.status.Rotation == nil: // taken back by somebody
		line.failed(notRotated, m.standing(line, outcome))
	default:
		line.failed(unfinished, m.standing(line, outcome))
	}
}

// cutShort is why nobody waited for the end.
func (m rotateMany) cutShort(ctx context.Context, line *rotatedVolume, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return m.standing(line, control.TimedOut)
	}
	return err
}

func (m rotateMany) standing(line *rotatedVolume, outcome control.Outcome) error {
	return &standsError{order: volume.Order{Verb: volume.VerbRotate}, limit: m.limit, status: heldUp(line.status), outcome: outcome}
}

// notBegun: a volume whose turn did not come.
func notBegun(ctx context.Context) error {
	e := &control.Error{Code: control.CodeInternal, Message: "Interrupted before its turn.", Hint: hintAgain}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		e.Code, e.Message = control.CodeTimeout, "The time was over before its turn."
	}
	return e
}

// isOfVolume reports whether an order was refused for one volume's sake. What else
// goes wrong is the same for the others, or nobody knows what was recorded.
func isOfVolume(err error) bool {
	var e *control.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case control.CodeConflict, control.CodeFailed, control.CodeNoSuchVolume, control.CodeOverloaded:
		return true
	}
	return false
}

// progressOfMany is progress for volumes that are waited for at the same time.
func (c *cli) progressOfMany() func(volume.Status) {
	if c.progress() == nil {
		return nil
	}
	var mu sync.Mutex
	of := map[string]func(volume.Status){}
	return func(v volume.Status) {
		mu.Lock()
		defer mu.Unlock()
		if of[v.Name] == nil {
			of[v.Name] = c.progress()
		}
		of[v.Name](v)
	}
}
