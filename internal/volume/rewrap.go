// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
)

// A re-wrap moves a volume to another CMK. The data key, the keyslot and the salt
// stay; what changes is by whom the data key is wrapped. The order, and what a
// crash after each line leaves:
//
//	claim: the intent                            the old CMK opens the volume
//	old CMK: Decrypt, ReEncrypt                  the same
//	new CMK: Decrypt, equal to the old           the same
//	image with both tokens, tried                the same, and an image
//	header with both onto the device, tried      the old CMK opens it, and the new one could; or a torn
//	                                             header, which the image completes
//	claim: the pin is the new CMK, generation    the new CMK opens it, and the old one could
//	image with the new token alone, tried        the same
//	header with the new one onto the device      the new CMK opens it; or a torn header, as above
//	backup; claim: no intent                     done
//
// Every pass begins at the header that is there and at the claim, and does what is
// left. The old token goes only after the new one opened the keyslot from the
// device, by a live Decrypt; and the pin moves before it goes, so that at no moment a
// volume needs a CMK that nobody remembers.
//
// It is done while the volume is mounted: dm-crypt does not look at the header
// again. Only a volume that must not be opened before, see Rewrap.First, is
// re-wrapped while it is sealed.

// rewrap does what is left of a re-wrap, or of taking one back.
func (w *worker) rewrap(ctx context.Context, o observed) error {
	ctx, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	r, err := w.readRewrap(ctx, o)
	if err != nil {
		return err
	}
	defer r.release()
	switch {
	case o.claim.Stage == StageNone:
		return w.claimReady(o, r.header, r.opens) // a volume that was never open here, from a snapshot: it is known before it is changed
	case (r.moved || o.claim.Rewrap.Abort) && r.other != nil:
		return w.leaveToken(ctx, o, r.opens.Token) // what is not needed any more goes
	case r.moved || o.claim.Rewrap.Abort:
		return w.endRewrap(ctx, o, r)
	case r.other == nil && o.claim.Rewrap.NewKey:
		return w.addNewKey(ctx, o, r)
	case r.other == nil:
		return w.addNewToken(ctx, o, r)
	}
	return w.movePin(ctx, o, r)
}

// rewrapping is how far a re-wrap has come: what is on the device, with a live
// proof of the token that opens it.
type rewrapping struct {
	header *Header
	moved  bool       // the pin is the new CMK already: nothing can be taken back
	opens  Candidate  // the token of the pinned CMK
	other  *Candidate // of the other CMK: the new one, or, once the pin has moved, the old one
	proof  *envelope.Proof
}

func (r *rewrapping) release() { r.proof.Release() }

// crossing reports that the next step is to move the pin.
func (r *rewrapping) crossing(o observed) bool {
	return r.other != nil && !r.moved && !o.claim.Rewrap.Abort && o.claim.Stage != StageNone
}

// readRewrap judges the header on the device as an opening does.
func (w *worker) readRewrap(ctx context.Context, o observed) (*rewrapping, error) {
	h, err := w.freeze(ctx, o)
	if err != nil {
		return nil, err
	}
	defer w.ports.Crypt.Discard(h)
	r := &rewrapping{header: h, moved: o.rotated()}
	if r.opens, err = w.choose(o, h); err != nil {
		return nil, w.rejected(o, err)
	}
	r.other = otherToken(h, r.opens, o)
	if r.proof, err = w.prove(ctx, o.spec, r.opens.Token); err != nil {
		return nil, err
	}
	err = w.withPassphrase(o, r.opens, r.proof, func(p *envelope.Secret) error {
		if r.crossing(o) {
			return nil // what is tried then is the token that is to open the volume from there on
		}
		return w.try(ctx, h, r.opens, p)
	})
	if err != nil {
		r.release()
		return nil, err
	}
	return r, nil
}

// otherToken is the other token of a re-wrap: before the pin moved, the one that was
// added; afterwards, whatever else stands beside the one that opens.
func otherToken(h *Header, opens Candidate, o observed) *Candidate {
	moved := o.rotated()
	for i := range h.Candidates {
		c := &h.Candidates[i]
		switch {
		case string(c.Token.MAC) == string(opens.Token.MAC):
		case moved, o.claim.Rewrap.added(*c, opens) && c.Token.EncryptionContext.Equal(o.spec.Context):
			return c
		}
	}
	return nil
}

// added reports whether the candidate is what this re-wrap has put beside opens.
func (r Rewrap) added(c, opens Candidate) bool {
	return c.Token.KeyARN == r.To && c.Token.Generation == opens.Token.Generation+1 && (c.Keyslot != opens.Keyslot) == r.NewKey
}

// completeHeader ends a write that was cut short; any other header that was refused
// stays so. What was there is kept, as of any header that is written over. An outage
// is no blame on the disk: the header is completed once it is over.
func (w *worker) completeHeader(ctx context.Context, o observed, refused error) (*Header, error) {
	path := w.ports.Claims.Image(o.spec.Name, intendedImage)
	err := w.cutShort(ctx, o, path)
	if err == nil {
		w.log.Warn("completing a header whose writing was cut short", "image", path)
		err = w.replaceHeader(ctx, o, path, &HeaderRestored{})
	}
	switch {
	case err == nil:
		return w.freezeAsClaimed(ctx, o)
	case fault.ClassOf(err) == fault.Integrity:
		return nil, refused
	}
	return nil, err
}

// cutShort returns nil if the two copies of the header differ, one of them is still
// sound and of this volume, and the image that was being written is as good as a
// backup. Two equal copies are not our doing, whatever is wrong with them.
func (w *worker) cutShort(ctx context.Context, o observed, path string) error {
	copies, err := w.ports.Archive.Copies(ctx, o.device)
	if err != nil {
		return err
	}
	known := func(c HeaderCopy) bool { return c.Err == nil && c.UUID == o.claim.LUKSUUID }
	if copies.Differ == nil || !known(copies.Primary) && !known(copies.Secondary) {
		return errNotOurs()
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return errNotOurs()
	}
	judged := w.ports.Archive.Judge
	if o.claim.Reencrypt.Stage == ReencryptHeader {
		judged = func(_ Device, path string) (*Header, error) { return w.judgeIntended(o, path) }
	}
	h, err := judged(o.device, path)
	if err == nil {
		_, err = w.vouch(ctx, o, h)
	}
	return err
}

func errNotOurs() error {
	return integrity("header-copies", "The header was not damaged by a write of this agent.", "Put a backup back: volseal header restore.")
}

// addNewToken puts the token of the new CMK beside the old one.
func (w *worker) addNewToken(ctx context.Context, o observed, r *rewrapping) error {
	to := envelope.Ref{KeyARN: o.claim.Rewrap.To, Context: o.spec.Context}
	rewrapped, err := w.ports.Keyring.Rewrap(ctx, o.spec.keyRef(), to.KeyARN, r.opens.Token.WrappedKey)
	if err != nil {
		return err
	}
	t := r.opens.Token
	t.Generation, t.KeyARN, t.WrappedKey, t.MAC = t.Generation+1, to.KeyARN, rewrapped, nil
	if err := w.seal(ctx, o, r, &t); err != nil {
		return err
	}
	return w.putImage(ctx, o, o.afterwards(), func(path string) error {
		return w.ports.Archive.Retoken(ctx, o.device, path, []envelope.Token{t, r.opens.Token})
	})
}

// leaveToken leaves one token, and the keyslot that it opens.
func (w *worker) leaveToken(ctx context.Context, o observed, t envelope.Token) error {
	return w.putImage(ctx, o, o, func(path string) error {
		return w.ports.Archive.Retoken(ctx, o.device, path, []envelope.Token{t})
	})
}

// seal gives the new token its MAC, by a proof of its own: what was wrapped anew
// is what was there before.
func (w *worker) seal(ctx context.Context, o observed, r *rewrapping, t *envelope.Token) error {
	proof, err := w.proveOther(ctx, o, r, *t)
	if err != nil {
		return err
	}
	defer proof.Release()
	passphrase, mac, err := proof.Derive(t.Salt)
	if err != nil {
		return err
	}
	defer passphrase.Destroy()
	defer mac.Destroy()
	return t.Seal(mac, r.opens.Meaning)
}

// proveOther decrypts under the CMK that the volume is being moved to, and
// compares with the key that opens it now.
func (w *worker) proveOther(ctx context.Context, o observed, r *rewrapping, t envelope.Token) (*envelope.Proof, error) {
	s := o.spec
	s.KeyARN = o.claim.Rewrap.To
	proof, err := w.ports.Keyring.Prove(ctx, s.keyRef(), t.WrappedKey)
	if err = w.keyAnswered(ctx, s, err); err != nil {
		return nil, ofNewKey(err)
	}
	if o.claim.Rewrap.NewKey {
		return proof, nil // it shall differ; what it is good for, the keyslot tells
	}
	if err := r.proof.Same(proof); err != nil {
		proof.Release()
		return nil, ofNewKey(err)
	}
	return proof, nil
}

// ofNewKey: it is not the key that opens the volume which was refused. The class
// must not say so: nobody's volume is revoked, and no disk is to blame.
func ofNewKey(err error) error {
	class := fault.ClassOf(err)
	if class != fault.Revoked && class != fault.Integrity {
		return err
	}
	return &fault.Error{
		Class: fault.Misconfigured, Reason: fault.ReasonOf(err), Who: fault.WhoOf(err), Err: err,
		Cause: "The other CMK does not unwrap the data key: " + err.Error(),
		Hint:  fault.HintOf(err) + " The volume stays with the old CMK until then.",
	}
}

// putImage puts onto the device an image that build makes. It is tried before,
// as the volume is to be opened with it; whoever reads it next tries it on the device.
func (w *worker) putImage(ctx context.Context, o, as observed, build func(path string) error) error {
	if _, err := w.ports.Claims.Draft(o.spec.Name); err != nil { // makes the directory
		return err
	}
	path := w.ports.Claims.Image(o.spec.Name, intendedImage)
	if err := build(path); err != nil {
		return err
	}
	h, err := w.ports.Archive.Judge(o.device, path)
	if err != nil {
		return err
	}
	if _, err := w.vouch(ctx, as, h); err != nil {
		return err
	}
	return w.writeImage(ctx, o, path)
}

// movePin is the point of no return: the new token opens the keyslot, from the
// device, by a live Decrypt of the same data key, and there is a backup of it; so
// from here on it is what opens the volume.
func (w *worker) movePin(ctx context.Context, o observed, r *rewrapping) error {
	proof, err := w.proveOther(ctx, o, r, r.other.Token)
	if err != nil {
		return err
	}
	proof.Release()
	as := o.afterwards()
	if _, err := w.backUpWritten(ctx, as, r.header); err != nil { // tries what was read from the device
		return err
	}
	moved := false
	err = w.update(func(c *Claim) { // under w.mu
		if c.Rewrap != o.claim.Rewrap || c.pinned(w.spec).KeyARN != o.spec.KeyARN {
			return // somebody spoke meanwhile, and what was proved is not what is meant now: the next pass begins anew
		}
		moved, c.Rewrap.Moved = true, true
		if c.Pin = (Pin{From: w.spec.KeyARN, To: as.spec.KeyARN}); c.Pin.From == c.Pin.To {
			c.Pin = Pin{} // the CMK is what the configuration says
		}
		c.Generation, c.Binding = r.other.Token.Generation, as.spec.Binding()
	})
	if err == nil && moved {
		w.canary.token = nil // what was accepted before was for the old CMK
		w.log.Warn("volume moved to another CMK", "from", o.spec.KeyARN, "to", as.spec.KeyARN)
		w.moved()
	}
	return err
}

// endRewrap is done with a header that holds one token, which has just opened it.
func (w *worker) endRewrap(ctx context.Context, o observed, r *rewrapping) error {
	if _, err := w.backUpWritten(ctx, o, r.header); err != nil {
		return err
	}
	err := w.update(func(c *Claim) {
		if c.Rewrap == o.claim.Rewrap { // else there is a new intent by now
			c.Rewrap = Rewrap{}
		}
	})
	if err != nil {
		return err
	}
	w.canary.due = time.Time{}                                  // the next boot would find another header than the last exam did
	os.Remove(w.ports.Claims.Image(o.spec.Name, intendedImage)) // the backup is equal
	w.moved()
	return nil
}
