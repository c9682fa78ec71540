// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
)

// Revocation is a run of revoked answers to the Decrypts of a mounted volume. It
// is in the claim so that a restart of the agent does not begin the grace anew.
type Revocation struct {
	Since    time.Time `json:"since"`  // of the first answer
	Latest   time.Time `json:"latest"` // of the last one that counts
	Answers  int       `json:"answers"`
	Freezing bool      `json:"freezing,omitempty"` // the volume was about to be frozen, or is
}

// A policy locks after the grace, and only after this much. KMS is eventually
// consistent: for some minutes after a change it may answer this or that.
const (
	enoughAnswers = 3
	enoughTime    = 2 * time.Minute
	// answersApart is longer than the keyring repeats a refusal without asking,
	// so that each answer that counts is KMS's own.
	answersApart = 30 * time.Second
	// answersGap ends a run: what was said before so long a silence (KMS could
	// not be reached, or no agent ran) says nothing about now.
	answersGap = time.Hour
	// verdictAge is how old the last revoked answer may be when a lock is begun.
	verdictAge = time.Minute
)

// and is the run with one more answer.
func (r *Revocation) and(now time.Time) *Revocation {
	switch {
	case r == nil, now.Before(r.Latest), now.Sub(r.Latest) > answersGap:
		return &Revocation{Since: now, Latest: now, Answers: 1}
	case now.Sub(r.Latest) < answersApart:
		return r
	}
	return &Revocation{Since: r.Since, Latest: now, Answers: r.Answers + 1, Freezing: r.Freezing}
}

// ripe is when the run is long enough to lock, if answers go on until then.
func (r *Revocation) ripe(grace time.Duration) time.Time { return r.Since.Add(max(grace, enoughTime)) }

func (r *Revocation) confirmed(grace time.Duration, now time.Time) bool {
	return r.Answers >= enoughAnswers && !now.Before(r.ripe(grace))
}

// weigh takes a refusal by KMS of the key of a mounted volume into account. Only
// the customer's own no confirms and only success clears (acquit); all else (an
// outage, throttling, no identity, a policy of the platform's) is no answer of
// the customer's, and does neither.
func (w *worker) weigh(s Spec, err error) error {
	if !fault.CustomerRefuses(err) || !s.OnRevocation.locks() {
		return err
	}
	now := time.Now()
	r := w.revocation().and(now)
	w.remember(r)
	if r.confirmed(s.RevocationGrace, now) {
		w.condemned = now
		w.log.Error("revocation confirmed", "policy", string(s.OnRevocation), "since", r.Since.UTC(), "answers", r.Answers)
	}
	return forewarned(err, s, r.ripe(s.RevocationGrace))
}

// acquit begins everything anew: the key was usable just now. That the volume is
// suspended by us stays known until it has been seen to go on.
func (w *worker) acquit() {
	w.condemned = time.Time{}
	if r := w.revocation(); r != nil && !r.Freezing {
		w.remember(nil)
	}
}

func (w *worker) revocation() *Revocation {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.claim.Revocation
}

// remember keeps the run, durably if the disk lets it: a full disk must not keep
// a customer's key in the kernel.
func (w *worker) remember(r *Revocation) {
	err := w.update(func(c *Claim) { c.Revocation = r })
	if err != nil {
		w.log.Error("revoked answers are not recorded", "error", err)
		w.mu.Lock()
		w.claim.Revocation = r
		w.mu.Unlock()
	}
}

// forewarned adds to a refusal what becomes of the volume.
func forewarned(err error, s Spec, at time.Time) error {
	var e *fault.Error
	if !errors.As(err, &e) {
		return err
	}
	told := *e
	told.Hint = fmt.Sprintf("%s Policy %s takes the volume away at %s unless the key is usable again by then.", e.Hint, s.OnRevocation, at.UTC().Format("15:04:05 UTC"))
	return &told
}

// due is what the policy of now demands, on an answer of just now.
func (w *worker) due(o observed) Due {
	if o.facts.Mapping != MapSound || o.facts.Mount != MountHere || w.condemned.IsZero() || time.Since(w.condemned) > verdictAge {
		return DueNothing
	}
	switch o.spec.OnRevocation {
	case LockGraceful:
		return DueLock
	case LockFreeze:
		return DueFreeze
	default:
		return DueNothing
	}
}

func (c Claim) freezing() bool { return c.Revocation != nil && c.Revocation.Freezing }

// suspend first records what it is about to do: a mapping that is suspended with
// its key in place is then known as half-done, and not as somebody else's work.
func (w *worker) suspend(ctx context.Context, o observed) error {
	now := time.Now()
	r := Revocation{Since: now, Latest: now}
	if known := w.revocation(); known != nil {
		r = *known
	}
	r.Freezing = true
	w.remember(&r)
	return w.ports.Crypt.Suspend(ctx, o.spec.Mapping())
}

// resume is an opening in all but the mapping, which is still there.
func (w *worker) resume(ctx context.Context, o observed) error {
	ctx, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	err := w.proven(ctx, o, w.prove, func(h *Header, c Candidate, p *envelope.Secret) error {
		err := w.ports.Crypt.Resume(ctx, o.device, h, c.Keyslot, o.spec.Mapping(), p)
		if err == nil {
			w.opened(h, c)
		}
		return err
	})
	if err == nil {
		w.remember(nil)
	}
	return err
}

func (w *worker) abandon(ctx context.Context, o observed) error {
	w.log.Warn("failing all I/O of a suspended volume", "stopping", o.facts.Stopping, "wish", string(o.facts.Wish))
	return w.ports.Crypt.Abandon(ctx, o.spec.Mapping())
}
