// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/volseal/volseal/internal/fault"
)

// createLimit bounds one try: a few requests to KMS and EC2.
const createLimit = time.Minute

// create gets an order as far as EC2 has named a volume. It is called again and
// again until then, and returns nil too where something has to be awaited.
func (w *worker) create(ctx context.Context, o observed) error {
	ctx, cancel := context.WithTimeout(ctx, createLimit)
	defer cancel()
	m := o.claim.Making
	if m.Asked != "" { // by a process that was killed before it heard the answer, or got none
		return w.ask(ctx, o, m)
	}
	if err := w.mayAskAnew(ctx, m); err != nil {
		return err
	}
	if m.Snapshot == "" {
		return w.ask(ctx, o, m)
	}
	return w.createFrom(ctx, o, m)
}

// ask has EC2 make the volume. That it is about to be asked is in the claim
// first: an answer that nobody hears must not become a second volume.
func (w *worker) ask(ctx context.Context, o observed, m *Making) error {
	w.progress(m.progress())
	first := m.Asked == ""
	if first {
		key := m.key(o.spec)
		if err := w.tryKey(ctx, o.spec, key); err != nil {
			return mayBeUnshared(err, key)
		}
		err := w.begin(m, func(n *Making) { n.Asked = key })
		if err != nil {
			return err
		}
		m = w.making()
	}
	id, err := w.ports.Maker.CreateVolume(ctx, m.wanted(o.spec))
	switch {
	case err == nil:
		w.missing = time.Time{}
		return w.note(m, func(c *Claim, _ *Making) { c.VolumeID = id })
	case first && refused(err): // and no earlier request can have been heard
		return errors.Join(err, w.note(m, func(_ *Claim, n *Making) { *n = *n.anew() }))
	}
	return err
}

// wanted is what EC2 is asked for. All of it is fixed while Asked stands: EC2
// refuses another request under the same client token.
func (m *Making) wanted(s Spec) NewVolume {
	v := NewVolume{Token: m.Token, Name: s.Name, Database: s.Database, KeyARN: m.Asked, SizeGiB: m.SizeGiB, Snapshot: m.Snapshot}
	if m.Copy != "" {
		v.Snapshot = m.Copy
	}
	return v
}

// refused reports an answer which says that nothing was made. One that does not
// come, or that nobody understands, says nothing.
func refused(err error) bool {
	switch fault.ClassOf(err) {
	case fault.Misconfigured:
		return fault.ReasonOf(err) != ReasonTokenUsed
	case fault.Throttled, fault.Identity:
		return true
	default:
		return false
	}
}

// tryKey finds out whether a CMK is usable before anything is made under it.
func (w *worker) tryKey(ctx context.Context, s Spec, key string) error {
	ref := s.keyRef()
	ref.KeyARN = key
	err := w.ports.Keyring.TryFresh(ctx, ref)
	if key != s.KeyARN { // the book has those of the configuration
		return err
	}
	return w.keyAnswered(ctx, s, err)
}

// tellMaking shows that a volume is being made.
func (w *worker) tellMaking(step Step, o observed) {
	switch {
	case step == StepCreate: // tells more by itself
	case o.beingMade() && o.facts.Wish == WishMounted:
		w.progress(o.claim.Making.progress())
	default:
		w.progress("")
	}
}

// beingMade reports that nothing can be done but to wait for EC2, or to ask it.
func (o observed) beingMade() bool {
	switch o.facts.Cloud {
	case CloudUnasked, CloudCreating, CloudBroken, CloudGone:
		return o.facts.Making == MakingOrdered || o.facts.Making != MakingNothing && !o.facts.Device && o.facts.Wish == WishMounted
	default:
		return false
	}
}

// asOrdered refuses what EC2 describes as another volume than was asked for.
func (m *Making) asOrdered(v CloudVolume) error {
	if v.KeyARN == m.Asked {
		return nil
	}
	return misconfigured("ebs-key", fmt.Sprintf("EC2 reports that %s is not encrypted under the CMK that was asked for.", v.ID),
		"Nothing is put onto it. Look at the volume in EC2; to be rid of it: volseal release, then delete it there.")
}

func (w *worker) making() *Making {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.claim.Making
}

// note changes the order that this pass began with, durably, together with what
// else in the claim belongs to it.
func (w *worker) note(m *Making, change func(*Claim, *Making)) error {
	return w.noteIf(m, func(*Claim) bool { return true }, change)
}

// begin is note for what is about to be asked of EC2: not once an operator has
// wished otherwise.
func (w *worker) begin(m *Making, change func(*Making)) error {
	return w.noteIf(m, func(c *Claim) bool { return c.Wish == WishMounted }, func(_ *Claim, n *Making) { change(n) })
}

func (w *worker) noteIf(m *Making, may func(*Claim) bool, change func(*Claim, *Making)) error {
	stands := false
	err := w.update(func(c *Claim) {
		if stands = c.Making != nil && c.Making.Token == m.Token && may(c); stands {
			n := *c.Making
			c.Making = &n
			change(c, &n)
		}
	})
	if err == nil && !stands {
		err = &ConflictError{Message: "The order was called off, or is another one by now.", Hint: "See volseal status."}
	}
	return err
}
