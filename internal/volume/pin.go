// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"errors"

	"github.com/volseal/volseal/internal/envelope"
)

// Pin says that a re-wrap has moved a volume from one CMK to another, while the
// configuration may still name the first. It is in the claim because until then
// nothing else would say so; never in the header, which anybody may have written.
// The zero value is none.
type Pin struct {
	From string `json:"from"` // what key_arn was when the re-wrap was done
	To   string `json:"to"`   // the CMK that opens the volume now
}

// Rewrap is the intent to have the volume opened by another wrapped key: its data
// key wrapped under another CMK. The zero value is none.
type Rewrap struct {
	From string `json:"from,omitempty"` // the CMK that opened the volume when it was ordered
	To   string `json:"to"`
	// NewKey: by a new data key in a keyslot of its own, under To, which may be the
	// same CMK as before.
	NewKey bool `json:"new_key,omitempty"`
	// First: the volume is not opened before it is done.
	First bool `json:"first,omitempty"`
	// Abort takes the intent back, as long as the pin has not moved: what is in the
	// header for it already goes.
	Abort bool `json:"abort,omitempty"`
	// Moved: the pin has moved. What is left to do is to remove what is old.
	Moved bool `json:"moved,omitempty"`
}

func (r Rewrap) wanted() bool { return r.To != "" }

func (c Claim) validatePin() error {
	for _, arn := range []string{c.Pin.From, c.Pin.To, c.Rewrap.From, c.Rewrap.To} {
		if arn != "" && !envelope.ValidKeyARN(arn) {
			return errors.New("the pin or the re-wrap names what is no key ARN")
		}
	}
	if (c.Pin.From == "") != (c.Pin.To == "") || !c.Rewrap.wanted() && c.Rewrap != (Rewrap{}) {
		return errors.New("the pin or the re-wrap is incomplete")
	}
	if c.Rewrap.Moved && c.Rewrap.Abort {
		return errors.New("a re-wrap is taken back that cannot be any more")
	}
	return nil
}

// pinned is the volume as it is to be opened: with the CMK that a re-wrap moved
// it to, if the configuration still names the one before. A configuration that
// names any other is taken at its word, and the header then refused.
func (c Claim) pinned(s Spec) Spec {
	if c.Pin.To != "" && s.KeyARN == c.Pin.From {
		s.KeyARN = c.Pin.To
	}
	return s
}

// outdated reports that the configuration names the new CMK itself: from here on
// it alone counts again.
func (c Claim) outdated(s Spec) bool { return c.Pin.To != "" && s.KeyARN == c.Pin.To }

// notice is what somebody should do about a volume that works.
func (c Claim) notice(s Spec) string {
	if c.Pin.To == "" || s.KeyARN != c.Pin.From {
		return ""
	}
	return "The volume was moved to another CMK, but key_arn in volumes.d still names the old one. Set it to " + c.Pin.To + " and run volseal reload: only this host remembers the move."
}

// refs are the CMKs and contexts that the volume needs: the one that opens it,
// and the one that it is being moved to.
func (c Claim) refs(s Spec) []envelope.Ref {
	refs := []envelope.Ref{c.pinned(s).keyRef()}
	if to := c.Rewrap.To; to != "" && to != refs[0].KeyARN {
		refs = append(refs, envelope.Ref{KeyARN: to, Context: s.Context})
	}
	return refs
}

// settlePin drops a pin that the configuration has caught up with. Should the
// disk refuse, the record does no harm, and the next pass tries again.
func (w *worker) settlePin() {
	w.mu.Lock()
	over := w.claimErr == nil && w.claim.outdated(w.spec)
	w.mu.Unlock()
	if !over {
		return
	}
	if err := w.update(func(c *Claim) { c.Pin = Pin{} }); err != nil {
		w.log.Warn("the record of a re-wrap stays in the claim", "error", err)
	}
}
