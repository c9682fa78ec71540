// SPDX-License-Identifier: Apache-2.0

package envelope

import (
	"sync"
	"time"

	"github.com/volseal/volseal/internal/fault"
)

// Proof is a data key together with the evidence that KMS released it under the
// pinned CMK and context a moment ago. It is made in one place, Keyring.proofOf.
// Its owner releases it on each path.
type Proof struct {
	ring      *Keyring
	line      *lineage
	startedAt time.Duration

	mu  sync.Mutex // keeps Release from under Derive
	key *held      // nil once released
}

// StartedAt is when the Decrypt behind the proof began, on the Keyring's clock.
func (p *Proof) StartedAt() time.Duration { return p.startedAt }

// Derive returns the LUKS2 keyslot passphrase and the header's MAC key of the
// volume with this 32-byte salt, 32 bytes each; the caller destroys both. It
// refuses once the proof is no longer valid (Reason "proof-expired").
func (p *Proof) Derive(salt []byte) (passphrase, mac *Secret, err error) {
	if !p.ring.Valid(p) {
		return nil, nil, errProofExpired()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.key == nil {
		return nil, nil, errProofExpired()
	}
	return derive(p.key.key, salt)
}

// Release gives the key back; the proof is invalid afterwards. Harmless on nil
// and when repeated.
func (p *Proof) Release() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.key.drop()
	p.key = nil
}

func (p *Proof) released() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.key == nil
}

// errProofExpired is class Unreachable: nothing is wrong but the time, and the
// next attempt tells what the key service says now.
func errProofExpired() *fault.Error {
	return &fault.Error{
		Class:  fault.Unreachable,
		Reason: "proof-expired",
		Cause:  "The proof that the CMK is usable became too old, or its key was forgotten, before it was used.",
		Hint:   "Nothing to do: the next attempt asks KMS again. If it persists, KMS or this host is too slow for kms.proof_max_age.",
	}
}
