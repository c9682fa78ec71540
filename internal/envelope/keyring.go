// SPDX-License-Identifier: Apache-2.0

package envelope

import (
	"context"
	"sync"
	"time"

	"github.com/volseal/volseal/internal/fault"
	"golang.org/x/sync/singleflight"
)

// Keyring hands out data keys, each only with a live proof: a successful Decrypt
// of that very wrapped key, under the pinned CMK and the configured context,
// started no longer than ProofMaxAge ago.
//
// It caches, and the cache can never stand in for a proof:
//
//	Prove ──► look ── live proof? ──► Proof          the only way out
//	            ▲         │ no
//	            │         ▼
//	          keep ◄── KMS Decrypt, one at a time per wrapped key
//
// A Decrypt only ever puts a proof into the cache; a Proof is only ever made
// from one found there that is live at that moment (proofOf). A cached data key
// whose proof has aged is good for one thing: to be compared with what the next
// Decrypt returns. So an outage of KMS ends all proofs within ProofMaxAge.
//
// Errors are *fault.Error; those of the KMS pass through unchanged. All methods
// may be called concurrently.
type Keyring struct {
	kms     KMS
	flights singleflight.Group // Decrypts under way, by entry
	making  singleflight.Group // data keys being made, by Ref

	mu       sync.Mutex
	opts     Options
	slept    time.Duration // Suspended, at the last look
	lines    map[string]*lineage
	entries  map[digest]*entry
	refusals map[digest]refusal
	fresh    map[digest]freshKey
	gates    map[string]*gate // of CMKs, by ARN; see call
	pace     pace
	sweeper  *time.Timer // nil while there is nothing to sweep
}

// Ref names a data key's CMK, pinned by configuration, and the encryption
// context, rebuilt from configuration. Neither ever comes from a disk.
type Ref struct {
	KeyARN  string
	Context Context
}

// attempts bounds how often Prove asks anew because what it waited for was
// purged or had aged by the time it arrived.
const attempts = 3

// NewKeyring returns an empty keyring in front of k.
func NewKeyring(k KMS, o Options) *Keyring {
	r := &Keyring{kms: k, opts: o.withDefaults(), pace: newPace()}
	r.slept = r.opts.Suspended()
	r.reset()
	return r
}

// Prove returns the data key only together with a live proof. The caller
// releases the Proof. wrapped is 1 to 6144 bytes as found in a token.
//
// Concurrent callers for one wrapped key share one Decrypt; a caller whose ctx
// ends leaves alone (Reason "gave-up"). A Decrypt that returns another key than
// the one before is class Integrity, Reason "key-changed".
func (k *Keyring) Prove(ctx context.Context, ref Ref, wrapped []byte) (*Proof, error) {
	if len(wrapped) == 0 || len(wrapped) > maxWrappedKey {
		return nil, errWrappedSize()
	}
	id := ref.entry(wrapped)
	for n := range attempts {
		p, err := k.look(id)
		if p != nil || err != nil {
			k.count(n == 0 && p != nil)
			return p, err
		}
		if err := k.ask(ctx, id, ref, wrapped); err != nil {
			k.count(false)
			return nil, err
		}
	}
	return nil, errProofExpired()
}

func (k *Keyring) count(hit bool) {
	if hit {
		k.observer().CacheHit()
	} else {
		k.observer().CacheMiss()
	}
}

// look returns a Proof if the cache holds a live one, the refusal if KMS gave
// one just now, or neither: then KMS is to be asked.
func (k *Keyring) look(id digest) (*Proof, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.tidy()
	if r, refused := k.refusals[id]; refused {
		return nil, r.err
	}
	e := k.entries[id]
	if !k.live(e, now) {
		return nil, nil
	}
	e.usedAt = now
	return k.proofOf(e), nil
}

// live is the rule: a successful Decrypt of the entry began within ProofMaxAge.
func (k *Keyring) live(e *entry, now time.Duration) bool {
	return e != nil && e.proved && within(now, e.startedAt, k.opts.ProofMaxAge)
}

// proofOf makes every Proof there is. Its only caller has just seen that e is live.
func (k *Keyring) proofOf(e *entry) *Proof {
	return &Proof{ring: k, line: e.line, startedAt: e.startedAt, key: e.key.share()}
}

// ask waits for a Decrypt of this entry, the one under way or a new one. Nil
// means that one succeeded, not that it is good enough for this caller: it may
// have begun long before, or a purge may have overtaken it. The caller looks.
func (k *Keyring) ask(ctx context.Context, id digest, ref Ref, wrapped []byte) error {
	if ctx.Err() != nil {
		return errGaveUp(ctx)
	}
	flight := k.flights.DoChan(string(id[:]), func() (any, error) {
		return nil, k.decrypt(ctx, id, ref, wrapped)
	})
	select {
	case done := <-flight:
		return done.Err
	case <-ctx.Done():
		return errGaveUp(ctx)
	}
}

// decrypt is the one place that unwraps. It outlives the caller that happened to
// come first, since others may wait for it too, but not the proof window: what
// arrives later is worthless.
func (k *Keyring) decrypt(ctx context.Context, id digest, ref Ref, wrapped []byte) error {
	if k.alive(id) {
		return nil // another flight has just brought a proof
	}
	var line *lineage
	var started time.Duration
	var key *Secret
	err := k.call(ctx, ref.KeyARN, func() (err error) {
		var window time.Duration
		line, started, window = k.begin(ref)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), window)
		defer cancel()
		key, err = k.kms.Decrypt(ctx, ref.KeyARN, ref.Context, wrapped)
		return err
	})
	if err != nil {
		k.heed(ref.KeyARN, err)
		k.refuse(id, ref.KeyARN, err)
		return err
	}
	return k.keep(id, ref, line, started, key)
}

func (k *Keyring) alive(id digest) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.tidy()
	return k.live(k.entries[id], now)
}

// begin notes when a call starts, before it does and after all waiting for it: a
// proof's age counts from there.
func (k *Keyring) begin(ref Ref) (line *lineage, started, window time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.tidy()
	return k.line(ref.KeyARN), now, k.opts.ProofMaxAge
}

// Valid reports whether a proof may still be acted upon: it is of this keyring,
// not released, not older than ProofMaxAge, and its CMK's keys have not been
// purged since. Ask again immediately before the act that needs it.
func (k *Keyring) Valid(p *Proof) bool {
	if p == nil || p.ring != k || p.released() {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.tidy()
	return !p.line.ended && within(now, p.startedAt, k.opts.ProofMaxAge)
}

// within reports whether since lies in the last limit before now. What seems to
// lie in the future does not: no clock of ours goes back, so doubt it.
func within(now, since, limit time.Duration) bool {
	return now >= since && now-since <= limit
}

// errGaveUp is class Unreachable: the caller left before KMS answered.
func errGaveUp(ctx context.Context) *fault.Error {
	return &fault.Error{
		Class:  fault.Unreachable,
		Reason: "gave-up",
		Cause:  "The wait for KMS was given up before it answered.",
		Hint:   "Nothing to do: it is asked again.",
		Err:    ctx.Err(),
	}
}
