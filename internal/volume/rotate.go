// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
)

// RotateOrder is what an operator asks of a volume's keys, as it came over the socket.
type RotateOrder struct {
	KeyARN string `json:"key_arn,omitempty"` // the CMK to move to
	// From: only if this is the CMK to leave. Whoever moves many volumes has looked at
	// them some time ago.
	From string `json:"from,omitempty"`
	// NewDataKey: a new data key and keyslot, instead of the same data key wrapped by
	// another CMK. Without KeyARN: under the CMK as it is.
	NewDataKey bool `json:"new_data_key,omitempty"`
	Abort      bool `json:"abort,omitempty"` // take the rotation back that is under way
	// Reencrypt: a new volume key for the data, once all else is done. Said again, it
	// goes on after a pause.
	Reencrypt bool `json:"reencrypt,omitempty"`
	Rate      int  `json:"rate,omitempty"` // of it, in MiB a second; 0 is the default
	Pause     bool `json:"pause,omitempty"`
	// DryRun: say whether it could begin now, and record nothing.
	DryRun bool `json:"dry_run,omitempty"`
}

// rewraps reports that the order is about the data key.
func (o RotateOrder) rewraps() bool { return o.KeyARN != "" || o.NewDataKey }

// RotateAnswer is what was recorded.
type RotateAnswer struct {
	Wish       uint64 // its number; see Status.Answered
	Generation int    // the volume's once it has come true
}

// Validate refuses what is missing or malformed.
func (o RotateOrder) Validate() error {
	switch {
	case !o.rewraps() && !o.Abort && !o.Reencrypt && !o.Pause:
		return &OrderError{"A rotation needs the CMK to move to, the word for a new data key or for a new volume key, or the word to abort."}
	case o.Abort && (o.NewDataKey || o.Reencrypt):
		return &OrderError{"To abort takes a rotation back: a new data key or volume key is no argument of it."}
	case o.Pause && (o.rewraps() || o.Abort || o.Reencrypt):
		return &OrderError{"To pause is an order by itself. A reencryption goes on when it is ordered again."}
	case o.Rate != 0 && !o.Reencrypt:
		return &OrderError{"The rate is that of a reencryption."}
	case o.Rate < 0 || o.Rate > MaxRate:
		return &OrderError{fmt.Sprintf("The rate is 1 to %d MiB a second.", MaxRate)}
	case o.From != "" && (o.Abort || o.KeyARN == "" || o.KeyARN == o.From):
		return &OrderError{"The CMK to leave goes with another one to move to."}
	case o.From != "" && !envelope.ValidKeyARN(o.From), o.KeyARN != "" && !envelope.ValidKeyARN(o.KeyARN):
		return &OrderError{"The key must be a key ARN such as arn:aws:kms:us-east-1:111111111111:key/aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee; an alias is refused."}
	}
	return nil
}

// Rotate records that a volume's keys are to be rotated, durably, and returns at
// once: the worker does it under the mounted volume. A new CMK that plainly
// cannot be used is told first, and then nothing is recorded. Errors:
// ErrNoSuchVolume, *OrderError, *ConflictError, *fault.Error.
func (r *Reconciler) Rotate(ctx context.Context, name string, o RotateOrder) (a RotateAnswer, err error) {
	w, ok := r.worker(name)
	if !ok {
		return a, fmt.Errorf("%w: %q", ErrNoSuchVolume, name)
	}
	if err := o.Validate(); err != nil {
		return a, err
	}
	if err := w.tryRotation(ctx, o); err != nil || o.DryRun {
		return a, err
	}
	if a, err = w.recordRotation(o); err != nil {
		return a, err
	}
	r.keepKeys()
	w.ring()
	r.tell()
	return a, nil
}

// tryRotation asks of the new CMK what a re-wrap will ask of it, with a key that
// is thrown away.
func (w *worker) tryRotation(ctx context.Context, o RotateOrder) error {
	w.mu.Lock()
	err := w.fitsRotation(o)
	s := w.claim.pinned(w.spec)
	w.mu.Unlock()
	if err != nil || o.Abort || o.Pause {
		return err
	}
	if o.Reencrypt {
		if _, err := w.ports.Reencryptor.ReencryptCommand(ctx, s.Mapping(), minHotzone); err != nil {
			return err // a cryptsetup that must not do it
		}
	}
	if !o.rewraps() {
		return nil // its CMK is asked by the volume's exams all the time
	}
	s.KeyARN = o.target(s.KeyARN)
	w.ports.Keyring.ForgetRefusals(s.KeyARN) // an operator wants KMS's answer of now
	err = w.ports.Keyring.TryFresh(ctx, s.keyRef())
	if err == nil || !o.DryRun && fault.ClassOf(err).WaitingHelps() && fault.ClassOf(err) != fault.Unknown {
		return nil // nobody answers: it is asked again for as long as that takes
	}
	return unusableTarget(s.KeyARN, err)
}

// unusableTarget: nobody's volume is revoked when it is the other CMK that says no.
func unusableTarget(arn string, err error) error {
	told := &fault.Error{
		Class: fault.ClassOf(err), Reason: fault.ReasonOf(err), Who: fault.WhoOf(err), Err: err,
		Cause: "The new CMK cannot be used: " + err.Error(),
		Hint:  fault.HintOf(err) + " Nothing was changed. To see all that it must allow: volseal key check " + arn,
	}
	if told.Class == fault.Revoked || told.Class == fault.Integrity {
		told.Class = fault.Misconfigured
	}
	return told
}

// target is the CMK that the volume is under afterwards.
func (o RotateOrder) target(now string) string { return cmp.Or(o.KeyARN, now) }

// fitsRotation refuses what cannot come true. The caller holds w.mu.
func (w *worker) fitsRotation(o RotateOrder) error {
	q, pending, name := w.claim.Quarantine, w.claim.Rewrap, w.spec.Name
	now := w.claim.pinned(w.spec).KeyARN
	switch {
	case w.claimErr != nil:
		return w.claimErr
	case o.Abort:
		return fitsAbort(name, o, w.claim)
	case o.Pause && !w.claim.Reencrypt.wanted():
		return &ConflictError{Message: "No reencryption is under way.", Hint: "See volseal status " + name + "."}
	case o.Pause:
		return nil
	case w.adopts(o):
		return nil
	case q != nil:
		return integrity(q.Reason, "The volume is quarantined: "+q.Cause, q.Hint)
	case w.claim.Stage != StageReady:
		return &ConflictError{
			Message: "The volume was never open on this host: there is no key to rotate.",
			Hint:    "Open it first: volseal unlock " + name + ". A blank volume takes its CMK from the configuration.",
		}
	case w.claim.Wish != WishMounted:
		return &ConflictError{
			Message: "The volume is to be " + string(w.claim.Wish) + ": its keys are rotated while it is mounted.",
			Hint:    "Open it first: volseal unlock " + name,
		}
	case w.claim.Reencrypt.wanted() && !o.rewraps():
		return nil // said again: it goes on, and at the rate that is given
	case w.claim.Reencrypt.onDevice():
		return reencryptConflict(name)
	case pending.wanted() && !o.rewraps():
		return nil // it follows
	case o.From != "" && o.From != cmp.Or(pending.From, now):
		return &ConflictError{
			Message: "The volume is not under the CMK to leave: it is under " + now + ".",
			Hint:    "Somebody has rotated it, or edited key_arn. See volseal status " + name + ".",
		}
	case pending.wanted() && (pending.To != o.target(now) || pending.NewKey != o.NewDataKey):
		return &ConflictError{
			Message: "Another rotation is under way, to " + pending.To + ".",
			Hint:    "Wait for it (volseal status " + name + "), or take it back: volseal rotate " + name + " --abort",
		}
	case pending.wanted():
		return nil // said again: it goes on, also if it was being taken back
	case !o.rewraps():
		return nil
	}
	return fitsTarget(now, o)
}

func fitsTarget(now string, o RotateOrder) error {
	switch here, there := envelope.KeyRegion(now), envelope.KeyRegion(o.target(now)); {
	case o.KeyARN == now && !o.NewDataKey:
		return &ConflictError{
			Message: "The volume is under that CMK already.",
			Hint:    "Name the CMK that it is to move to. For a new data key under this one, say --new-data-key.",
		}
	case here != there:
		return misconfigured("key-region", fmt.Sprintf("The new CMK is in %s, the volume's in %s.", there, here),
			"Use a CMK in the region of the volume: KMS and EBS do not cross regions.")
	}
	return nil
}

// fitsAbort: there is a way back until the new CMK opens the volume.
func fitsAbort(name string, o RotateOrder, c Claim) error {
	switch r := c.Rewrap; {
	case c.Reencrypt.onDevice():
		return &ConflictError{
			Message: "It is too late: the header has two volume keys, and a part of the data may be under the new one. A reencryption can only be ended forwards.",
			Hint:    "It may rest, though: volseal rotate " + name + " --pause",
		}
	case c.Reencrypt.wanted() && o.KeyARN == "":
		return nil
	case !r.wanted():
		return &ConflictError{
			Message: "No rotation is under way.",
			Hint:    "One that is done is undone by another one: volseal rotate " + name + " --key-arn OLD",
		}
	case o.KeyARN != "" && o.KeyARN != r.To:
		return &ConflictError{
			Message: "The rotation that is under way is to another CMK, " + r.To + ".",
			Hint:    "If that is the one to be taken back: volseal rotate " + name + " --abort",
		}
	case r.Moved:
		return &ConflictError{
			Message: "It is too late: the new CMK opens the volume already, and the rotation ends by itself.",
			Hint:    "To go back, once it has: volseal rotate " + name + " --key-arn OLD",
		}
	}
	return nil
}

// recordRotation is do for a rotation: the wish for the volume stays what it is.
func (w *worker) recordRotation(o RotateOrder) (a RotateAnswer, err error) {
	w.saving.Lock()
	defer w.saving.Unlock()
	w.mu.Lock()
	err = w.fitsRotation(o)
	w.mu.Unlock()
	if err != nil {
		return a, err
	}
	change := func(c *Claim) {
		w.orderRewrap(c, o)
		w.orderReencryption(c, o)
		a.Generation = c.generationAfter()
	}
	err = w.updateAnd(change, func() {
		w.notes.rotate = true
		w.status.WishSeq++
		w.status.Rotation = rotationOf(w.claim, w.spec, failing{}, reencrypting{})
		a.Wish = w.status.WishSeq
	})
	if err == nil {
		w.log.Info("rotation recorded", "to", o.KeyARN, "new_data_key", o.NewDataKey, "reencrypt", o.Reencrypt, "pause", o.Pause, "abort", o.Abort)
	}
	return a, err
}

// generationAfter is the volume's generation once its rotation is over.
func (c Claim) generationAfter() int {
	n := c.Generation
	if c.Rewrap.wanted() && !c.Rewrap.Moved && !c.Rewrap.Abort {
		n++
	}
	switch {
	case c.Reencrypt.Generation != 0:
		return c.Reencrypt.Generation
	case c.Reencrypt.wanted():
		n++
	}
	return n
}

// orderRewrap is called under w.mu.
func (w *worker) orderRewrap(c *Claim, o RotateOrder) {
	switch {
	case o.Pause || !o.rewraps() && !o.Abort:
	case c.Rewrap.wanted() && (!o.Abort || !c.Rewrap.Moved):
		c.Rewrap.Abort = o.Abort
	case o.rewraps():
		now := c.pinned(w.spec).KeyARN
		c.Rewrap = Rewrap{From: now, To: o.target(now), NewKey: o.NewDataKey}
	}
}

// orderReencryption is called under w.mu. To abort takes back what was ordered to follow, too.
func (w *worker) orderReencryption(c *Claim, o RotateOrder) {
	r := &c.Reencrypt
	switch {
	case o.Abort:
		*r = Reencryption{}
	case o.Pause:
		r.Paused = true
	case o.Reencrypt && w.adopts(o):
		*r, c.Quarantine = Reencryption{Stage: ReencryptBegun, Rate: o.Rate}, nil
	case o.Reencrypt && r.wanted():
		r.Paused, r.Rate = false, o.Rate
	case o.Reencrypt:
		*r = Reencryption{Stage: ReencryptOrdered, Rate: o.Rate}
	}
}

// adopts reports that an operator has a reencryption go on that this host did not
// begin: of a disk or a snapshot whose host is lost. It is admitted like one of our
// own, and proved like it. The caller holds w.mu.
func (w *worker) adopts(o RotateOrder) bool {
	q := w.claim.Quarantine
	return o.Reencrypt && !o.rewraps() && q != nil && q.Reason == ReasonUnfinished && !w.claim.Reencrypt.wanted() && !w.claim.Rewrap.wanted()
}

// ReasonUnfinished is the header rule that refuses an unfinished reencryption of
// which this host does not know.
const ReasonUnfinished = "requirements"

func reencryptConflict(name string) error {
	return &ConflictError{
		Message: "The volume's reencryption has not finished: until then its header is not backed up, restored or rotated.",
		Hint:    "See volseal status " + name + " for how far it is.",
	}
}

// rewrapDue is whether a re-wrap is to be done in this pass. One that failed under
// a mounted volume rests, like every step that failed, but nothing else with it.
func (w *worker) rewrapDue(o observed) RewrapState {
	switch r := o.claim.Rewrap; {
	case !r.wanted():
		return RewrapNone
	case r.First && !o.facts.open():
		return RewrapFirst
	case time.Now().Before(w.rotating.retry):
		return RewrapNone
	}
	return RewrapDue
}

// rewrapped notes how a re-wrap got on under a mounted volume. Its failure is not
// the volume's: that works, and would after a reboot.
func (w *worker) rewrapped(err error) {
	if err == nil {
		w.rotating = failing{}
		return
	}
	f := &w.rotating
	if class := fault.ClassOf(err); f.n == 0 || fault.ClassOf(f.err) != class {
		*f = failing{step: StepRewrap, title: StepRewrap.Title(), since: time.Now()}
		w.logFailure(StepRewrap, err)
	}
	f.err, f.n = err, f.n+1
	f.retry = time.Now().Add(RetryAfter(fault.ClassOf(err), f.n))
}

// Rotation is one of a volume's keys that is under way.
type Rotation struct {
	KeyARN     string        `json:"key_arn"`      // the CMK that it moves to
	NewDataKey bool          `json:"new_data_key"` // with a new data key
	Reencrypt  bool          `json:"reencrypt"`    // with a new volume key, after all else
	DoneBytes  int64         `json:"done_bytes"`   // of the data, under the new volume key
	TotalBytes int64         `json:"total_bytes"`  // of the data; 0 while that is not known
	Stage      RotationStage `json:"stage"`
	Class      fault.Class   `json:"class"` // of what keeps it; "" if nothing does
	Error      string        `json:"error"`
	Hint       string        `json:"hint"`
	Who        []fault.Owner `json:"who"` // must act, the likeliest first; never nil
	Reason     string        `json:"reason"`

	FailingSince *time.Time `json:"failing_since"`
	NextRetry    *time.Time `json:"next_retry"`
}

// RotationStage is how far a rotation is.
type RotationStage string

// The stages of a rotation.
const (
	RotationAdding   RotationStage = "adding"   // what was before opens the volume; it can be taken back
	RotationAborting RotationStage = "aborting" // it is being taken back
	RotationRemoving RotationStage = "removing" // what is new opens the volume; what is old is being removed

	RotationReencrypting RotationStage = "reencrypting" // the data is being put under the new volume key
	RotationPaused       RotationStage = "paused"       // it rests until an operator orders it again
)

// RotationStages lists them all.
func RotationStages() []RotationStage {
	return []RotationStage{RotationAdding, RotationAborting, RotationRemoving, RotationReencrypting, RotationPaused}
}

func rotationOf(c Claim, spec Spec, rewrapping failing, work reencrypting) *Rotation {
	r := &Rotation{Reencrypt: c.Reencrypt.wanted(), Who: []fault.Owner{}}
	switch {
	case c.Rewrap.wanted():
		r.KeyARN, r.NewDataKey, r.Stage = c.Rewrap.To, c.Rewrap.NewKey, c.Rewrap.stage()
		r.held(rewrapping)
	case c.Reencrypt.wanted():
		r.KeyARN, r.Stage = c.pinned(spec).KeyARN, RotationReencrypting
		if c.Reencrypt.Paused {
			r.Stage = RotationPaused
		}
		r.DoneBytes, r.TotalBytes = work.done, work.total
		r.held(work.failing)
	default:
		return nil
	}
	return r
}

func (r Rewrap) stage() RotationStage {
	switch {
	case r.Moved:
		return RotationRemoving
	case r.Abort:
		return RotationAborting
	}
	return RotationAdding
}

// held tells what keeps it, if anything does.
func (r *Rotation) held(f failing) {
	if f.n == 0 {
		return
	}
	r.Class, r.Error, r.Hint, r.Reason = fault.ClassOf(f.err), f.err.Error(), hintOf(f.err), reasonOf(f.err)
	r.Who, r.FailingSince, r.NextRetry = fault.WhoOf(f.err), timeOrNil(f.since), timeOrNil(f.retry)
}

// rotated reports that the pin has moved, or that the configuration names the new
// CMK by itself already.
func (o observed) rotated() bool {
	r := o.claim.Rewrap
	return r.Moved || r.To != r.From && o.spec.KeyARN == r.To
}

// adding reports that the token is the one of a new data key that is not accepted
// yet: until the pin has moved, what was before opens the volume.
func (o observed) adding(t envelope.Token) bool {
	r := o.claim.Rewrap
	return r.NewKey && !o.rotated() && o.claim.Generation > 0 && t.Generation > o.claim.Generation
}

// afterwards is the volume as it is to be when its rotation is over.
func (o observed) afterwards() observed {
	o.spec.KeyARN, o.claim.Rewrap = o.claim.Rewrap.To, Rewrap{}
	return o
}
