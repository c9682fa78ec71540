// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/volseal/volseal/internal/fault"
)

// mayAskAnew keeps failed tries from piling up in EC2.
func (w *worker) mayAskAnew(ctx context.Context, m *Making) error {
	if len(m.Broken) < maxBroken {
		return nil
	}
	left, err := w.stillThere(ctx, m.Broken)
	if err != nil {
		return err
	}
	if len(left) >= maxBroken {
		return leftBehind(left)
	}
	return w.note(m, func(_ *Claim, n *Making) { n.Broken = left })
}

// stillThere are those of the ids that EC2 knows.
func (w *worker) stillThere(ctx context.Context, ids []string) (left []string, err error) {
	for _, id := range ids {
		if strings.HasPrefix(id, "snap-") {
			_, err = w.ports.Maker.Snapshot(ctx, id)
		} else {
			_, err = w.ports.Cloud.Volume(ctx, id)
		}
		switch {
		case err == nil:
			left = append(left, id)
		case !unheardOf(err):
			return nil, err
		}
	}
	return left, nil
}

func unheardOf(err error) bool {
	r := fault.ReasonOf(err)
	return r == ReasonNoVolume || r == ReasonNoSnapshot
}

// missingState is what to make of EC2's not knowing a volume that it has named.
func (w *worker) missingState() CloudState {
	if w.lagging() {
		return CloudCreating
	}
	return CloudGone
}

// lagging reports that EC2 may yet show what it does not show now.
func (w *worker) lagging() bool {
	if w.missing.IsZero() {
		w.missing = time.Now()
	}
	return time.Since(w.missing) < goneAfter
}

// forget gives up a volume that EC2 could not make, and says why. The order
// stands, under another token.
func (w *worker) forget(ctx context.Context, o observed) error {
	ctx, cancel := context.WithTimeout(ctx, createLimit)
	defer cancel()
	m := o.claim.Making
	why := w.whyNotMade(ctx, o)
	if ctx.Err() != nil {
		return why // it is forgotten together with the reason
	}
	err := w.note(m, func(c *Claim, n *Making) {
		*n = *n.anew()
		if o.facts.Cloud == CloudBroken {
			n.Broken = append(n.Broken, o.volumeID)
		}
		c.VolumeID = ""
	})
	if err != nil || o.facts.Wish != WishMounted {
		return err
	}
	w.missing, w.cloudTold = time.Time{}, toldByCloud{}
	return why
}

// whyNotMade asks KMS for what EC2 does not tell.
func (w *worker) whyNotMade(ctx context.Context, o observed) error {
	m := o.claim.Making
	cause := "EC2 accepted the order, but " + o.volumeID + " has vanished since: it could not be made."
	reason := "volume-vanished"
	hint := ""
	if o.facts.Cloud == CloudBroken {
		cause, reason = "EC2 could not make "+o.volumeID+": it is in state error.", "volume-error"
		hint = " " + deleteHint(append(slices.Clone(m.Broken), o.volumeID))
	}
	return w.unusableByEC2(ctx, o.spec, m.Asked, &fault.Error{Reason: reason, Cause: cause, Hint: hint})
}

// unusableByEC2 completes a failure that EC2 gives no reason for: a CMK that is
// not usable for this host either is the reason; else it is what EC2 alone needs.
func (w *worker) unusableByEC2(ctx context.Context, s Spec, key string, e *fault.Error) error {
	err := w.tryKey(ctx, s, key)
	if err != nil {
		e.Class, e.Who, e.Err = fault.ClassOf(err), fault.WhoOf(err), err
		e.Cause += " The CMK cannot be used: " + err.Error()
		e.Hint = fault.HintOf(err) + e.Hint
		if r := fault.ReasonOf(err); r != "" {
			e.Reason = r
		}
		return mayBeUnshared(e, key)
	}
	e.Class, e.Who = fault.Misconfigured, []fault.Owner{fault.Customer, fault.Platform}
	e.Cause += " This host can use the CMK, so most likely it is EC2's own use of it that is not allowed."
	e.Hint = "The key policy, or this host's role, lacks kms:CreateGrant, kms:GenerateDataKeyWithoutPlaintext or kms:ReEncrypt* for EC2." + e.Hint
	return mayBeUnshared(e, key)
}

// mayBeUnshared adds the likeliest reason for a CMK that says no to a new volume.
func mayBeUnshared(err error, key string) error {
	var e *fault.Error
	if !errors.As(err, &e) || e.Class != fault.Revoked && e.Class != fault.Misconfigured {
		return err
	}
	told := *e
	told.Hint = strings.TrimSpace(e.Hint + " The key may not have been shared with this account: volseal key check " + key +
		" says what is missing, volseal key policy prints what the customer has to add. Once it is there, the volume is made by itself.")
	return &told
}

func leftBehind(ids []string) error {
	return misconfigured("left-behind", "What was made for this order is still there: "+strings.Join(ids, ", ")+".", deleteHint(ids))
}

func deleteHint(ids []string) string {
	var commands []string
	for _, id := range ids {
		what := "volume"
		if strings.HasPrefix(id, "snap-") {
			what = "snapshot"
		}
		commands = append(commands, fmt.Sprintf("aws ec2 delete-%s --%s-id %s", what, what, id))
	}
	return "Nothing is deleted by itself. If you do not need it: " + strings.Join(commands, "; ") + "."
}

// callOffOrder drops an order that an operator released, once it is certain that
// nothing of it exists. What does exist stays in sight.
func (w *worker) callOffOrder(ctx context.Context, o observed) error {
	ctx, cancel := context.WithTimeout(ctx, createLimit)
	defer cancel()
	m := o.claim.Making
	if m.Asked != "" {
		id, err := w.ports.Maker.FindVolume(ctx, m.Token)
		switch {
		case err != nil:
			return err
		case id != "":
			return w.note(m, func(c *Claim, _ *Making) { c.VolumeID = id })
		case w.lagging():
			return unknown("order-open", "EC2 was asked for a volume, and does not show yet whether it made one.", "Wait: it is asked again.")
		}
	}
	ids := m.Broken
	if m.Copy != "" {
		ids = append(slices.Clone(ids), m.Copy)
	}
	left, err := w.stillThere(ctx, ids)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return leftBehind(left)
	}
	w.missing = time.Time{}
	return w.note(m, func(c *Claim, _ *Making) { c.Making, c.Rewrap = nil, Rewrap{} })
}
