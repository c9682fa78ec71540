// SPDX-License-Identifier: Apache-2.0

package envelope

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"time"

	"github.com/volseal/volseal/internal/fault"
)

// maxWrappedKey is the longest CiphertextBlob that KMS takes.
const maxWrappedKey = 6144

type digest [sha256.Size]byte

// entry is one cached data key.
type entry struct {
	ref       digest // of its Ref
	line      *lineage
	key       *held
	proved    bool          // a Decrypt returned the key; false for one just generated, or in doubt
	startedAt time.Duration // when the last such Decrypt began
	keptAt    time.Duration // when KMS last gave the key: the TTL counts from here
	usedAt    time.Duration
}

// lineage ties together all that came from one CMK between two purges. To end it
// invalidates each proof made in it and each Decrypt still under way.
type lineage struct{ ended bool }

// refusal is a revoked answer, repeated for NegativeTTL.
type refusal struct {
	keyARN string
	at     time.Duration
	err    error
}

// entry identifies one wrapped key under one CMK and context. Each part is
// preceded by its length, so no two triples run together.
func (r Ref) entry(wrapped []byte) digest {
	return hashOf(wrapped, []byte(r.KeyARN), r.Context.Canonical())
}

func (r Ref) digest() digest { return hashOf([]byte(r.KeyARN), r.Context.Canonical()) }

func hashOf(parts ...[]byte) digest {
	b := make([]byte, 0, 1024)
	for _, p := range parts {
		b = binary.BigEndian.AppendUint64(b, uint64(len(p)))
		b = append(b, p...)
	}
	return sha256.Sum256(b)
}

// keep takes ownership of a key that KMS has just unwrapped. If the CMK was
// purged meanwhile it is dropped: whoever waits asks again.
func (k *Keyring) keep(id digest, ref Ref, line *lineage, started time.Duration, key *Secret) error {
	if len(key.Bytes()) != DataKeyBytes {
		key.Destroy()
		return errKeyChanged("The key service returned a data key of the wrong length.")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.tidy()
	if line.ended {
		key.Destroy()
		return nil
	}
	e := k.entries[id]
	switch {
	case e == nil:
		e = k.insert(id, ref, line, now, key)
	case e.key.key.Equal(key):
		key.Destroy() // those who hold a proof share the older copy
	default:
		key.Destroy()
		e.proved = false // and e stays to contradict the next answer too
		return errKeyChanged("KMS unwrapped the data key to something else than before.")
	}
	e.proved, e.startedAt, e.keptAt = true, started, now
	return nil
}

// insert adds an entry without a proof and makes room for it.
func (k *Keyring) insert(id digest, ref Ref, line *lineage, now time.Duration, key *Secret) *entry {
	for len(k.entries) >= k.opts.MaxEntries {
		k.evictOldest()
	}
	e := &entry{ref: ref.digest(), line: line, key: hold(key), keptAt: now, usedAt: now}
	k.entries[id] = e
	if k.sweeper == nil {
		k.sweeper = time.AfterFunc(k.opts.TTL, k.sweep)
	}
	return e
}

// heed acts on the failure of a call for a key of this CMK: if it says revoked,
// all that came from the CMK goes.
func (k *Keyring) heed(keyARN string, err error) {
	if fault.ClassOf(err) != fault.Revoked {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.end(keyARN, evictedRevoked)
	k.forgetFresh(keyARN)
}

// refuse has a revoked answer repeated for a while to who asks for this entry.
func (k *Keyring) refuse(id digest, keyARN string, err error) {
	if fault.ClassOf(err) != fault.Revoked {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.tidy()
	if k.opts.NegativeTTL > 0 && len(k.refusals) < k.opts.MaxEntries {
		k.refusals[id] = refusal{keyARN: keyARN, at: now, err: err}
	}
}

// line returns the CMK's current lineage.
func (k *Keyring) line(keyARN string) *lineage {
	l := k.lines[keyARN]
	if l == nil {
		l = &lineage{}
		k.lines[keyARN] = l
	}
	return l
}

// end forgets what came from one CMK and invalidates its proofs.
func (k *Keyring) end(keyARN, reason string) {
	l := k.lines[keyARN]
	if l == nil {
		return
	}
	l.ended = true
	delete(k.lines, keyARN)
	k.evictIf(reason, func(e *entry) bool { return e.line == l })
}

// forgetFresh has the next new volume under this CMK get a new data key.
func (k *Keyring) forgetFresh(keyARN string) {
	maps.DeleteFunc(k.fresh, func(_ digest, f freshKey) bool { return f.keyARN == keyARN })
}

// reset forgets everything but what has been counted.
func (k *Keyring) reset() {
	for _, l := range k.lines {
		l.ended = true
	}
	k.lines = map[string]*lineage{}
	k.entries = map[digest]*entry{}
	k.refusals = map[digest]refusal{}
	k.fresh = map[digest]freshKey{}
	for arn := range k.gates {
		k.forgetGate(arn)
	}
	k.gates = map[string]*gate{}
	if k.sweeper != nil {
		k.sweeper.Stop()
		k.sweeper = nil
	}
}

func (k *Keyring) flush(reason string) {
	k.evictIf(reason, func(*entry) bool { return true })
	k.reset()
}

// tidy forgets what is over, and everything if the machine was suspended since
// the last look, then returns the time. Each entrance calls it under the lock.
func (k *Keyring) tidy() (now time.Duration) {
	now = k.opts.Clock()
	slept := k.opts.Suspended()
	if slept-k.slept > time.Second { // less is the distance of two clock readings
		k.flush(evictedResumed)
	}
	k.slept = slept
	k.evictIf(evictedExpired, func(e *entry) bool { return now < e.keptAt || now-e.keptAt >= k.opts.TTL })
	maps.DeleteFunc(k.refusals, func(_ digest, r refusal) bool { return !within(now, r.at, k.opts.NegativeTTL) })
	return now
}

// sweep keeps the TTL's promise when nobody looks.
func (k *Keyring) sweep() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.sweeper != nil {
		k.sweeper.Stop() // a later one; this run replaces it
		k.sweeper = nil
	}
	now := k.tidy()
	next := k.opts.TTL
	for _, e := range k.entries {
		next = min(next, e.keptAt+k.opts.TTL-now)
	}
	if len(k.entries) > 0 {
		k.sweeper = time.AfterFunc(next, k.sweep)
	}
}

func (k *Keyring) evictIf(reason string, over func(*entry) bool) {
	for id, e := range k.entries {
		if over(e) {
			k.evict(id, reason)
		}
	}
}

func (k *Keyring) evictOldest() {
	var oldest digest
	for id, e := range k.entries {
		if o := k.entries[oldest]; o == nil || e.usedAt < o.usedAt {
			oldest = id
		}
	}
	k.evict(oldest, evictedCapacity)
}

func (k *Keyring) evict(id digest, reason string) {
	k.entries[id].key.drop()
	delete(k.entries, id)
	k.opts.Observer.CacheEvicted(reason)
}

func (k *Keyring) observer() Observer {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.opts.Observer
}

func errKeyChanged(cause string) *fault.Error {
	return &fault.Error{
		Class:  fault.Integrity,
		Reason: "key-changed",
		Cause:  cause,
		Hint:   "One wrapped key has one plaintext: something answers that is not KMS. Check the endpoint and the proxies on the way before anything else.",
	}
}

func errWrappedSize() *fault.Error {
	return &fault.Error{
		Class:  fault.Integrity,
		Reason: "token-wrapped-key",
		Cause:  "The wrapped data key is empty or longer than KMS can have made it.",
		Hint:   "Compare the header with a backup.",
	}
}
