// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"fmt"
	"time"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
)

// HeaderReasons are the words for headers that are sound by themselves but not
// the ones expected here; the header policy has words of its own.
func HeaderReasons() []string {
	return []string{"uuid", "token-missing", "token-key", "token-context", "token-generation", "volume-key"}
}

// Limits of the steps that wait for processes or for systemd. A step that
// exceeds its limit is retried like any other failure.
const (
	openLimit  = 2 * time.Minute
	mountLimit = 2 * time.Minute
	mkfsLimit  = 30 * time.Minute
)

// open takes a volume from Sealed to Unlocked: freeze, check, prove, open,
// check again, publish. Until the last of these, the mapping has a name that
// no mount unit waits for.
func (w *worker) open(ctx context.Context, o observed) error {
	ctx, cancel := context.WithTimeout(ctx, openLimit+mkfsLimit)
	defer cancel()
	if stopping, err := w.ports.Mounts.Stopping(ctx); err != nil || stopping {
		return stoppingError(err)
	}
	mark, err := w.fingerprint(ctx, o) // first: to the canary, a header that is swapped from here on is another
	if err != nil {
		return err
	}
	h, err := w.freeze(ctx, o)
	if err != nil {
		return err
	}
	defer w.ports.Crypt.Discard(h)
	c, err := w.choose(o, h)
	if err != nil {
		return w.rejected(o, err)
	}
	proof, err := w.prove(ctx, o.spec, c.Token)
	if err != nil {
		return err
	}
	proof, err = w.openWith(ctx, o, h, c, proof)
	if err != nil {
		w.closeNow(ctx, o.spec.Pending())
		return err
	}
	w.opened(h, c)
	w.dropProof()
	w.proof, w.proved, w.work.began = proof, c.Token, false
	w.canary.accept(c.Token, h.UUID, mark)
	if w.examineConfig(ctx, o) == nil && w.examineClaim(ctx, o) == nil { // all else was asked just now
		w.passedExams()
	}
	return nil
}

// renew proves anew what this process opened, or closes it.
func (w *worker) renew(ctx context.Context, o observed) error {
	proof, err := w.prove(ctx, o.spec, w.proved)
	w.dropProof()
	if err != nil {
		w.closeNow(ctx, o.spec.Mapping())
		return err
	}
	w.proof = proof
	return nil
}

// frozen is the header as it is on the device. One that a re-wrap's write was cut
// short in is completed first.
func (w *worker) frozen(ctx context.Context, o observed) (*Header, error) {
	h, err := w.freezeAsClaimed(ctx, o)
	if fault.ClassOf(err) == fault.Integrity && o.claim.writing() {
		return w.completeHeader(ctx, o, err)
	}
	return h, err
}

// freezeAsClaimed admits an unfinished reencryption where this host knows of one.
func (w *worker) freezeAsClaimed(ctx context.Context, o observed) (*Header, error) {
	if o.claim.Reencrypt.onDevice() {
		return w.ports.Reencryptor.FreezeAny(ctx, o.device, o.spec.Name)
	}
	return w.ports.Crypt.Freeze(ctx, o.device, o.spec.Name)
}

// writing reports that an image may be on its way onto the device.
func (c Claim) writing() bool {
	return c.Rewrap.wanted() && !c.Reencrypt.onDevice() || c.Reencrypt.Stage == ReencryptHeader
}

func (w *worker) freeze(ctx context.Context, o observed) (*Header, error) {
	h, err := w.frozen(ctx, o)
	if err != nil {
		return nil, w.rejected(o, err)
	}
	if err := o.expects(h); err != nil {
		w.ports.Crypt.Discard(h)
		return nil, w.rejected(o, err)
	}
	return h, nil
}

// ended reports that the header is from the middle of a reencryption that has ended
// here: its key from before encrypts nothing any more.
func (o observed) ended(h *Header) bool {
	return h.Unfinished != nil && o.claim.VolumeKey != "" && h.Unfinished.Key == o.claim.VolumeKey
}

// expects refuses a header of another volume than the one this host knows.
func (o observed) expects(h *Header) error {
	if o.claim.LUKSUUID == "" || h.UUID == o.claim.LUKSUUID {
		return o.expectsKey(h)
	}
	return integrity("uuid", fmt.Sprintf("The header of %s has another UUID than the one this host recorded.", o.volumeID),
		"If the volume was replaced on purpose: stop volseal.service, move "+o.spec.Name+".json away from /var/lib/volseal/claims, start it again.")
}

// expectsKey refuses a header of before a reencryption: by its volume key nothing
// on the volume can be read any more, and what was written by it would destroy data.
func (o observed) expectsKey(h *Header) error {
	older := o.claim.VolumeKey != "" && h.Key != "" && h.Key != o.claim.VolumeKey && h.newest() <= o.claim.Generation
	if r := o.claim.Reencrypt; r.Stage == ReencryptBegun {
		older = h.Unfinished == nil && h.newest() < r.Generation
	}
	if !older && !o.ended(h) {
		return nil
	}
	return otherVolumeKey(o.spec.Name)
}

func otherVolumeKey(name string) error {
	return integrity("volume-key", "The header has another volume key than the one that encrypts the volume.",
		"It is from before a reencryption, and makes garbage of the data. Put a backup from after it back: volseal header restore "+name+".")
}

// rejected counts a header that policy, MAC or claim refuses.
func (w *worker) rejected(o observed, err error) error {
	if fault.ClassOf(err) == fault.Integrity {
		w.ports.Recorder.HeaderRejected(o.spec.Name, fault.ReasonOf(err))
	}
	return err
}

// choose picks the token to open with: it must be for the pinned CMK and the
// configured context, and not older than the newest seen here. All of it is
// known before KMS is asked anything.
func (w *worker) choose(o observed, h *Header) (Candidate, error) {
	var best *Candidate
	var refused error
	for i := range h.Candidates {
		c := &h.Candidates[i]
		if err := o.acceptable(c.Token); err != nil {
			refused = err
			continue
		}
		if o.adding(c.Token) {
			continue
		}
		if best == nil || c.Token.Generation > best.Token.Generation {
			best = c
		}
	}
	if best != nil {
		return *best, nil
	}
	if refused == nil {
		refused = integrity("token-missing", "The header holds no token of volseal.",
			"This volume was not made by volseal, or its header was changed.")
	}
	return Candidate{}, refused
}

func (o observed) acceptable(t envelope.Token) error {
	switch {
	case t.KeyARN != o.spec.KeyARN:
		return o.unlike("token-key", "The header's data key is wrapped under another CMK than the configured one.",
			"If key_arn was edited, put the old ARN back and reload: a CMK is not changed by the configuration alone. Otherwise treat the volume as tampered with.")
	case !t.EncryptionContext.Equal(o.spec.Context):
		return o.unlike("token-context", "The header belongs to another database or encryption context than the configured one.",
			"If database or encryption_context was edited, put the old values back and reload. Otherwise the volume is not this database's.")
	case t.Generation < o.claim.Generation:
		return integrity("token-generation", fmt.Sprintf("The header is of generation %d; this host has seen generation %d.", t.Generation, o.claim.Generation),
			"An older header was put back. If that was you, run as root: volseal reattach "+o.spec.Name+" --accept-older-header")
	}
	return nil
}

// unlike blames the configuration where it was edited since the volume was last
// open, and else the header.
func (o observed) unlike(reason, cause, hint string) error {
	if o.claim.Binding != "" && o.claim.Binding != o.spec.Binding() {
		return misconfigured(reason, cause, hint)
	}
	return integrity(reason, cause, hint)
}

// prove obtains the data key together with a live proof, and tells everybody
// who wants to know how the CMK fared.
func (w *worker) prove(ctx context.Context, s Spec, t envelope.Token) (*envelope.Proof, error) {
	started := time.Now()
	p, err := w.ports.Keyring.Prove(ctx, s.keyRef(), t.WrappedKey)
	if ctx.Err() != nil && err != nil {
		return nil, err
	}
	w.ports.Keys.Record(s.KeyARN, err)
	if err != nil {
		w.ports.Recorder.DecryptFailed(s.Name, fault.ClassOf(err))
		return nil, err
	}
	w.lastProof = started
	w.acquit()
	return p, nil
}

// openWith opens under the pending name, finishes an init that is under way,
// and publishes. It returns the proof that stands: the given one, or a newer one
// where that grew too old meanwhile, since publishing is what lets systemd
// mount. On an error both are released.
func (w *worker) openWith(ctx context.Context, o observed, h *Header, c Candidate, proof *envelope.Proof) (*envelope.Proof, error) {
	err := w.openPending(ctx, o, h, c, proof)
	if err == nil {
		err = w.claimReady(o, h, c)
	}
	if err == nil && !w.ports.Keyring.Valid(proof) {
		proof.Release()
		proof, err = w.prove(ctx, o.spec, c.Token)
	}
	if err == nil {
		err = w.ports.Crypt.Publish(ctx, o.spec.Pending(), o.spec.Mapping())
	}
	if err != nil && proof != nil {
		proof.Release()
	}
	return proof, err
}

// openPending opens, and finishes an init that is under way.
func (w *worker) openPending(ctx context.Context, o observed, h *Header, c Candidate, proof *envelope.Proof) error {
	if o.claim.Reencrypt.Stage == ReencryptBegun { // what a kill left, if the host did not boot since
		if err := w.ports.Reencryptor.CloseLayers(ctx, o.spec.Mapping(), h.UUID); err != nil {
			return err
		}
	}
	err := w.withPassphrase(o, c, proof, func(p *envelope.Secret) error {
		return w.ports.Crypt.Open(ctx, o.device, h, c.Keyslot, o.spec.Pending(), p)
	})
	if err != nil {
		return err
	}
	if o.claim.Stage != StageFilesystem {
		return nil
	}
	if o.claim.VolumeID != o.volumeID {
		return unfinishedElsewhere()
	}
	return w.ports.Formatter.MakeFilesystem(ctx, o.spec.Pending(), o.spec.Filesystem)
}

type prover func(context.Context, Spec, envelope.Token) (*envelope.Proof, error)

// proven freezes and judges the header, proves the key, and has the keyslot's
// passphrase used.
func (w *worker) proven(ctx context.Context, o observed, prove prover, use func(*Header, Candidate, *envelope.Secret) error) error {
	h, err := w.freeze(ctx, o)
	if err != nil {
		return err
	}
	defer w.ports.Crypt.Discard(h)
	c, err := w.choose(o, h)
	if err != nil {
		return w.rejected(o, err)
	}
	proof, err := prove(ctx, o.spec, c.Token)
	if err != nil {
		return err
	}
	defer proof.Release()
	return w.withPassphrase(o, c, proof, func(p *envelope.Secret) error { return use(h, c, p) })
}

// withPassphrase has the keyslot's passphrase used, and counts a header that is
// refused.
func (w *worker) withPassphrase(o observed, c Candidate, proof *envelope.Proof, use func(*envelope.Secret) error) error {
	return w.rejected(o, withKey(c, proof, use))
}

// withKey verifies the header's MAC before the keyslot is touched, and then has
// it used.
func withKey(c Candidate, proof *envelope.Proof, use func(*envelope.Secret) error) error {
	passphrase, mac, err := proof.Derive(c.Token.Salt)
	if err != nil {
		return err
	}
	defer passphrase.Destroy()
	defer mac.Destroy()
	if err := c.Token.Verify(mac, c.Meaning); err != nil {
		return err
	}
	if c.Also != nil { // of the same data key and salt
		if err := c.Also.Token.Verify(mac, c.Also.Meaning); err != nil {
			return err
		}
	}
	return use(passphrase)
}

// claimReady records, before anything can be stored, that from here on the
// volume may hold data.
func (w *worker) claimReady(o observed, h *Header, c Candidate) error {
	return w.update(func(cl *Claim) {
		cl.VolumeID, cl.LUKSUUID, cl.Binding = o.volumeID, h.UUID, o.spec.Binding()
		cl.Generation, cl.Stage = c.Token.Generation, StageReady
		if cl.VolumeKey != "" && h.Key != "" {
			cl.VolumeKey = h.Key // a later reencryption, on another host
		}
		if h.Unfinished != nil && cl.Reencrypt.adopted() {
			cl.Reencrypt.Generation = h.Unfinished.Generation
		}
		cl.Revocation = nil // it was proved, and nothing of it is suspended
		cl.Making = nil
	})
}

// mount has systemd mount. If that fails, the mapping is closed at once: it
// must not stand open for a later mount that nobody proved.
func (w *worker) mount(ctx context.Context, o observed) error {
	mctx, cancel := context.WithTimeout(ctx, mountLimit)
	defer cancel()
	err := w.ports.Mounts.Start(mctx, o.spec.Mountpoint)
	if err == nil {
		return nil
	}
	w.dropProof()
	w.closeNow(ctx, o.spec.Mapping())
	return err
}

// unmountLimit is for a database that takes its time to stop. Stopping again is harmless.
const unmountLimit = 10 * time.Minute

func (w *worker) unmount(ctx context.Context, o observed) error {
	ctx, cancel := context.WithTimeout(ctx, unmountLimit)
	defer cancel()
	err := w.ports.Mounts.Stop(ctx, o.spec.Mountpoint)
	if err == nil {
		return nil
	}
	now, lookErr := w.ports.Mounts.Find(ctx, o.mapping, o.spec.Mountpoint)
	if lookErr != nil || len(now.Ecryptfs) == 0 {
		return err
	}
	return heldByEcryptfs(now.Ecryptfs[0], err)
}

// heldByEcryptfs names what systemd need not know of: an eCryptfs that was
// mounted by hand keeps the directory beneath it in use.
func heldByEcryptfs(e Ecryptfs, err error) error {
	return &fault.Error{
		Class: fault.ClassOf(err), Reason: "busy",
		Cause: fmt.Sprintf("The volume cannot be unmounted while eCryptfs is mounted at %s.", e.Path),
		Hint:  "Stop what uses it, then unmount it: umount '" + e.Path + "'. It is not volseal's to end. After that the volume is unmounted by itself.",
		Err:   err,
	}
}

func stoppingError(err error) error {
	return &fault.Error{
		Class: fault.Unknown, Reason: "host-stopping",
		Cause: "The host is shutting down, or systemd does not say; nothing is opened.",
		Hint:  "After the boot the volume is opened as usual.", Err: err,
	}
}

// closeNow takes back an opening, even when the agent is being stopped. Busy
// means that it is mounted after all; the next pass, or agent, will see it.
func (w *worker) closeNow(ctx context.Context, mapping string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), openLimit)
	defer cancel()
	if err := w.ports.Crypt.Close(ctx, mapping); err != nil && fault.ReasonOf(err) != "busy" {
		w.log.Error("mapping stays open", "mapping", mapping, "error", err)
	}
}

func (w *worker) closeAll(ctx context.Context, o observed) error {
	ctx, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	w.dropProof()
	if err := w.ports.Crypt.Close(ctx, o.spec.Pending()); err != nil {
		return err
	}
	return w.ports.Crypt.Close(ctx, o.spec.Mapping())
}

func (w *worker) dropProof() {
	if w.proof != nil {
		w.proof.Release()
		w.proof = nil
	}
}

func integrity(reason, cause, hint string) error {
	return &fault.Error{Class: fault.Integrity, Reason: reason, Cause: cause, Hint: hint}
}
