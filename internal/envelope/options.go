// SPDX-License-Identifier: Apache-2.0

package envelope

import (
	"time"

	"github.com/volseal/volseal/internal/fault"
)

// Observer counts what the cache and the gate before KMS do. It must not block.
type Observer interface {
	CacheHit()                  // a live proof was at hand
	CacheMiss()                 // KMS had to be asked
	CacheEvicted(reason string) // a data key was forgotten, for one of Evictions
	// CallHeld: a call was not made because KMS had not answered (Unreachable) or had
	// throttled this account (Throttled) a moment ago. The caller gets that class.
	CallHeld(class fault.Class)
}

// Holds lists every class of CallHeld, for metrics that start at 0.
func Holds() []fault.Class { return []fault.Class{fault.Unreachable, fault.Throttled} }

// Why the cache forgets a data key.
const (
	evictedExpired  = "expired"  // its TTL passed
	evictedCapacity = "capacity" // MaxEntries are in use
	evictedRevoked  = "revoked"  // KMS answered so for some key of the CMK
	evictedPurged   = "purged"   // Purge or Retain
	evictedFlushed  = "flushed"  // Flush: an operator, or the end
	evictedResumed  = "resumed"  // the machine was suspended in between
)

// Evictions lists every reason, for metrics that start at 0.
func Evictions() []string {
	return []string{evictedExpired, evictedCapacity, evictedRevoked, evictedPurged, evictedFlushed, evictedResumed}
}

// The bounds that no configuration can exceed.
const (
	maxProofMaxAge = time.Minute
	maxTTL         = time.Hour
	maxFreshMaxAge = time.Hour
)

// Options of a Keyring. Zero values take the default, values beyond the bound
// the bound.
type Options struct {
	ProofMaxAge          time.Duration        // how old a proof may be: 10 s, at most 60 s
	TTL                  time.Duration        // how long a data key stays in memory after its last Decrypt: 5 min, at most 1 h
	NegativeTTL          time.Duration        // how long a revoked answer is repeated without asking: 10 s, at most TTL; < 0: never
	MaxVolumesPerDataKey int                  // volumes that may share one fresh data key: 16
	FreshMaxAge          time.Duration        // how long a fresh data key is handed out again: 1 h, at most that
	MaxEntries           int                  // data keys in memory, and so locked pages: 256
	Clock                func() time.Duration // SinceBoot
	Suspended            func() time.Duration // Suspended
	Observer             Observer             // none
}

// defaultNegativeTTL is short on purpose. A repeated refusal only spares KMS the
// other volumes of one database in the same pass; it must not be what a customer
// who has just enabled the key again waits for. The reconciler's slowest retry
// comes after 30 s, the canary after 60: both find it gone.
const defaultNegativeTTL = 10 * time.Second

func (o Options) withDefaults() Options {
	o.ProofMaxAge = bounded(o.ProofMaxAge, 10*time.Second, maxProofMaxAge)
	o.TTL = bounded(o.TTL, 5*time.Minute, maxTTL)
	o.FreshMaxAge = bounded(o.FreshMaxAge, maxFreshMaxAge, maxFreshMaxAge)
	if o.NegativeTTL >= 0 {
		o.NegativeTTL = bounded(o.NegativeTTL, defaultNegativeTTL, o.TTL)
	}
	if o.MaxVolumesPerDataKey <= 0 {
		o.MaxVolumesPerDataKey = 16
	}
	if o.MaxEntries <= 0 {
		o.MaxEntries = 256
	}
	if o.Clock == nil {
		o.Clock = SinceBoot
	}
	if o.Suspended == nil {
		o.Suspended = Suspended
	}
	if o.Observer == nil {
		o.Observer = nobody{}
	}
	return o
}

func bounded(d, byDefault, most time.Duration) time.Duration {
	if d <= 0 {
		d = byDefault
	}
	return min(d, most)
}

// nobody observes nothing.
type nobody struct{}

func (nobody) CacheHit()            {}
func (nobody) CacheMiss()           {}
func (nobody) CacheEvicted(string)  {}
func (nobody) CallHeld(fault.Class) {}
