// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"time"

	"github.com/volseal/volseal/internal/envelope"
)

// canary asks, for a mounted volume, what the next boot would ask: is the key
// usable, does the header on the disk open, does the claim say so, does EC2. It
// looks and never acts: no answer unmounts, closes or quarantines anything.
type canary struct {
	due     time.Time
	passed  bool            // every exam, when it was last held
	token   *envelope.Token // of the header that was last accepted; nil until then
	uuid    string          // of that header
	print   Fingerprint     // of that header
	reading chan printed    // a read of the device that has not ended yet
}

type printed struct {
	print Fingerprint
	err   error
}

const (
	// cloudProbes is after how many probes EC2 is asked again. What it tells
	// changes by the hand of an operator, not by itself.
	cloudProbes = 10
	// readPatience is for a disk that answers slowly. One that hangs must not
	// keep the worker from what an operator asks for.
	readPatience = 10 * time.Second
)

// checkCanary holds the exams when they are due. An error says what would keep
// the volume from mounting after a reboot.
func (w *worker) checkCanary(ctx context.Context, o observed) error {
	if w.canary.passed && time.Now().Before(w.canary.due) {
		return nil
	}
	w.canary.passed = false
	for _, exam := range []func(context.Context, observed) error{
		w.examineKey, w.examineHeader, w.examineClaim, w.examineConfig, w.examineCloud,
	} {
		if err := exam(ctx, o); err != nil {
			return err
		}
	}
	w.passedExams()
	return nil
}

// forgetExams: what is closed, or has lost its key or its disk, is examined as
// new when it is mounted again. What was opened a moment ago passed them all.
func (w *worker) forgetExams(o observed) {
	if !o.complete {
		return
	}
	switch o.facts.phase() {
	case Unlocked, Mounted, Quarantined:
	default:
		w.canary = canary{}
	}
}

func (w *worker) passedExams() {
	w.canary.passed, w.canary.due = true, time.Now().Add(w.probeInterval())
}

// examineKey decrypts the very token that the volume was last accepted with,
// also when the header on the disk is another by now: it is the key of what is
// mounted. Volumes that share a wrapped key share the call, through the keyring.
func (w *worker) examineKey(ctx context.Context, o observed) error {
	if w.canary.token == nil {
		return nil // the header comes first, and needs a proof of its own
	}
	if err := o.acceptable(*w.canary.token); err != nil {
		return w.rejected(o, err)
	}
	p, err := w.proveMounted(ctx, o.spec, *w.canary.token)
	p.Release()
	return err
}

// proveMounted proves the key of a mounted volume; the revocation policy heeds the answer.
func (w *worker) proveMounted(ctx context.Context, s Spec, t envelope.Token) (*envelope.Proof, error) {
	p, err := w.prove(ctx, s, t)
	switch {
	case err == nil:
		w.remember(nil) // neither revoked nor frozen
	case ctx.Err() == nil:
		err = w.weigh(s, err)
	}
	return p, err
}

// examineHeader judges the header as an opening does, and only when it is
// another than the one that passed before.
func (w *worker) examineHeader(ctx context.Context, o observed) error {
	mark, err := w.fingerprint(ctx, o)
	if err != nil {
		return err
	}
	c := w.canary
	if c.token != nil && c.print == mark && c.uuid == o.claim.LUKSUUID && o.claim.Stage == StageReady {
		return nil
	}
	return w.acceptHeader(ctx, o, mark)
}

func (w *worker) acceptHeader(ctx context.Context, o observed, mark Fingerprint) error {
	return w.proven(ctx, o, w.proveMounted, func(h *Header, c Candidate, p *envelope.Secret) error {
		if err := w.try(ctx, h, c, p); err != nil {
			return err
		}
		w.canary.accept(c.Token, h.UUID, mark)
		return w.claimReady(o, h, c) // adopts what was mounted without a claim
	})
}

// accept remembers a header that opened just now.
func (c *canary) accept(t envelope.Token, uuid string, mark Fingerprint) {
	c.passed, c.token, c.uuid, c.print = false, &t, uuid, mark
}

// fingerprint waits only so long; a read that hangs is waited for again, not
// begun again.
func (w *worker) fingerprint(ctx context.Context, o observed) (Fingerprint, error) {
	if w.canary.reading == nil {
		ch := make(chan printed, 1)
		w.canary.reading = ch
		go func() {
			mark, err := w.ports.Crypt.Fingerprint(ctx, o.device)
			ch <- printed{mark, err}
		}()
	}
	patience := time.NewTimer(readPatience)
	defer patience.Stop()
	select {
	case r := <-w.canary.reading:
		w.canary.reading = nil
		return r.print, r.err
	case <-ctx.Done():
		return Fingerprint{}, ctx.Err()
	case <-patience.C:
		return Fingerprint{}, unknown("device-slow", "The device of "+o.volumeID+" does not answer a read of its header.",
			"Look at the volume's I/O in CloudWatch and into the kernel log. The database waits for the same disk.")
	}
}

// examineClaim reads what the next boot will read.
func (w *worker) examineClaim(_ context.Context, o observed) error {
	w.saving.Lock()
	defer w.saving.Unlock()
	disk, err := w.ports.Claims.Load(o.spec.Name)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if disk.means(w.claim) {
		return nil
	}
	return misconfigured("claim-changed", "The claim of "+o.spec.Name+" in /var/lib/volseal/claims is no longer the one that the agent wrote.",
		"The next boot goes by the file. If you changed it or moved it away on purpose, run: volseal reattach "+o.spec.Name+"; a mounted volume is not touched by that.")
}

func (w *worker) examineConfig(context.Context, observed) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.doubt
}

// examineCloud asks EC2 what an opening asks.
func (w *worker) examineCloud(ctx context.Context, o observed) error {
	if time.Since(w.cloudSaw) < cloudProbes*w.probeInterval() {
		return nil
	}
	if err := w.askCloud(ctx, &o); err != nil {
		return err
	}
	if o.facts.Cloud != CloudAttached {
		return refusalByCloud(o)
	}
	return nil
}

// probeInterval is jittered by a tenth, so that a fleet does not probe in step.
func (w *worker) probeInterval() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.probe - w.probe/10 + jitter(w.probe/5)
}

// examined reports whether an error is an exam's: about the next boot, and no
// reason to do anything to what is mounted.
func examined(o observed, step Step) bool { return step == StepNone && o.facts.phase() == Mounted }
