// SPDX-License-Identifier: Apache-2.0

package envelope

import "sync"

// held is a data key with several holders: the cache, and each proof handed out.
// The last to let go destroys it, so forgetting a key never pulls it from under
// somebody who is deriving from it.
type held struct {
	mu      sync.Mutex
	holders int
	key     *Secret
}

// hold takes ownership of key for one first holder.
func hold(key *Secret) *held { return &held{holders: 1, key: key} }

// share adds a holder. The caller must be one, or keep one from letting go.
func (h *held) share() *held {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.holders++
	return h
}

// drop ends one holder's share; nil-safe.
func (h *held) drop() {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.holders--; h.holders == 0 {
		h.key.Destroy()
	}
}
