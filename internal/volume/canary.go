// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"time"

	"github.com/volseal/volseal/internal/envelope"
)

// canary asks, for a mounted volume, whether the next boot would find its key:
// the very token of its header is decrypted once an interval. Volumes that
// share a wrapped key share the call, through the keyring.
type canary struct {
	due    time.Time
	token  *envelope.Token // of the header on the disk; nil until read
	bound  string          // the binding under which it was accepted
	proved bool            // the last probe succeeded
}

// checkCanary probes when it is due. An error says what would keep the volume
// from mounting after a reboot; the mount itself is never touched.
func (w *worker) checkCanary(ctx context.Context, o observed) error {
	if time.Now().Before(w.canary.due) && w.canary.proved && w.canary.bound == o.spec.Binding() {
		return nil
	}
	w.canary.proved = false
	if w.canary.token == nil || w.canary.bound != o.spec.Binding() {
		if err := w.readToken(ctx, o); err != nil {
			return err
		}
	}
	p, err := w.prove(ctx, o.spec, *w.canary.token)
	if err != nil {
		return err
	}
	p.Release()
	w.canary.proved = true
	w.canary.due = time.Now().Add(w.probeInterval())
	return nil
}

// accept keeps the token of a header that was accepted just now.
func (c *canary) accept(t envelope.Token, s Spec) {
	c.token, c.bound = &t, s.Binding()
}

func (w *worker) readToken(ctx context.Context, o observed) error {
	h, err := w.freeze(ctx, o)
	if err != nil {
		return err
	}
	defer w.ports.Crypt.Discard(h)
	c, err := w.choose(o, h)
	if err != nil {
		return w.rejected(o, err)
	}
	w.canary.accept(c.Token, o.spec)
	return w.claimReady(o, h, c) // adopts what was mounted without a claim
}

// probeInterval is jittered by a tenth, so that a fleet does not probe in step.
func (w *worker) probeInterval() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.probe - w.probe/10 + jitter(w.probe/5)
}
