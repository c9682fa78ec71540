// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"crypto/sha256"
	"slices"
	"time"

	"github.com/volseal/volseal/internal/envelope"
)

// tried is a header whose keyslot a token opened a moment ago. Every step reads the
// device anew and has a live proof of its own, and judges what it read. But where
// that is to the byte what was opened before, to open it again tells nothing more.
//
// It names no key, and needs none: to know the token's MAC is not enough, whoever
// asks has verified it, and so holds the key that was tried.
type tried struct {
	sum [sha256.Size]byte // Header.Sum
	mac string            // of the token
	at  time.Time
}

const (
	// triedLasts spans the steps of one re-wrap. Later the header is tried again: what
	// opens it may be another by then, too.
	triedLasts = time.Minute
	// triedKept is what a re-wrap passes through: one token, both, the other one.
	triedKept = 4
)

// try has the keyslot of a header tried whose MAC was verified with the key of p.
func (w *worker) try(ctx context.Context, h *Header, c Candidate, p *envelope.Secret) error {
	if w.triedLately(h, c) {
		return nil
	}
	if err := w.ports.Crypt.Try(ctx, h, c.Keyslot, p); err != nil {
		return err
	}
	w.opened(h, c)
	return nil
}

func (w *worker) triedLately(h *Header, c Candidate) bool {
	return slices.ContainsFunc(w.tried, func(t tried) bool {
		return t.sum == h.Sum && t.mac == string(c.Token.MAC) && time.Since(t.at) < triedLasts
	})
}

// opened remembers that the token opened its keyslot of the header.
func (w *worker) opened(h *Header, c Candidate) {
	w.tried = append(w.tried, tried{h.Sum, string(c.Token.MAC), time.Now()})
	w.tried = w.tried[max(0, len(w.tried)-triedKept):]
}
