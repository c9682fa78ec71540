// SPDX-License-Identifier: Apache-2.0

package envelope

import (
	"context"
	"time"
)

// Observer counts what the cache does. It must not block.
type Observer interface {
	CacheHit()
	CacheMiss()
	CacheEvicted(reason string) // one of a closed set of words
}

// Options of a Keyring; zero values take the defaults given.
type Options struct {
	ProofMaxAge          time.Duration        // 10 s, at most 60 s
	TTL                  time.Duration        // 5 min, at most 1 h
	NegativeTTL          time.Duration        // 10 s
	MaxVolumesPerDataKey int                  // 16
	FreshMaxAge          time.Duration        // 1 h
	MaxEntries           int                  // 256
	Clock                func() time.Duration // since boot, suspend included: CLOCK_BOOTTIME
	Observer             Observer             // may be nil
}

// Ref names a data key's CMK, pinned, and the context it is bound to.
type Ref struct {
	KeyARN  string
	Context Context
}

// Keyring hands out data keys, each only with a live proof.
type Keyring struct{}

// NewKeyring returns an empty keyring in front of k.
func NewKeyring(k KMS, o Options) *Keyring { panic("not written yet") }

// Prove returns the data key together with a live proof.
func (k *Keyring) Prove(ctx context.Context, ref Ref, wrapped []byte) (*Proof, error) {
	panic("not written yet")
}

// Fresh returns a proved data key for a new volume.
func (k *Keyring) Fresh(ctx context.Context, ref Ref) (p *Proof, wrapped []byte, err error) {
	panic("not written yet")
}

// Valid reports whether a proof may still be acted upon.
func (k *Keyring) Valid(p *Proof) bool { panic("not written yet") }

// Configure takes new options after a reload.
func (k *Keyring) Configure(o Options) { panic("not written yet") }

// Purge forgets every key under a CMK.
func (k *Keyring) Purge(keyARN string) { panic("not written yet") }

// Flush forgets everything.
func (k *Keyring) Flush() { panic("not written yet") }

// Stats returns the number of cached data keys.
func (k *Keyring) Stats() (entries int) { panic("not written yet") }

// Proof is a data key with the evidence that KMS released it just now.
type Proof struct{}

// StartedAt is when the Decrypt behind the proof began, on the Keyring's clock.
func (p *Proof) StartedAt() time.Duration { panic("not written yet") }

// Derive returns the keyslot passphrase and the header's MAC key, 32 bytes each.
func (p *Proof) Derive(salt []byte) (passphrase, mac *Secret, err error) { panic("not written yet") }

// Release gives the key back; the proof is dead afterwards.
func (p *Proof) Release() { panic("not written yet") }
