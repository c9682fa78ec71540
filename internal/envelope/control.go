// SPDX-License-Identifier: Apache-2.0

package envelope

import "maps"

// Configure takes the options of a reload. Clock, Suspended and Observer stay
// unless given. Shorter times hold for what is cached too.
func (k *Keyring) Configure(o Options) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if o.Clock == nil {
		o.Clock = k.opts.Clock
	}
	if o.Suspended == nil {
		o.Suspended = k.opts.Suspended
	}
	if o.Observer == nil {
		o.Observer = k.opts.Observer
	}
	k.opts = o.withDefaults()
	k.tidy()
	for len(k.entries) > k.opts.MaxEntries {
		k.evictOldest()
	}
	if k.sweeper != nil {
		k.sweeper.Reset(0) // it was set for the old TTL
	}
}

// Purge forgets every data key under a CMK and every recent refusal, and
// invalidates its proofs, also those whose Decrypt is still under way. Use it
// when an operator asks for a fresh answer. The wrapped form of a fresh data key
// stays for the next new volume, which has it unwrapped anyway: operators who
// init one volume after another would otherwise never share one.
func (k *Keyring) Purge(keyARN string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.end(keyARN, evictedPurged)
	k.forgetRefusals(keyARN)
}

// Retain forgets the data keys of all but these refs: for a reload that changed
// or removed volumes. Proofs die with the last ref of their CMK.
func (k *Keyring) Retain(refs []Ref) {
	keep, arns := map[digest]bool{}, map[string]bool{}
	for _, r := range refs {
		keep[r.digest()], arns[r.KeyARN] = true, true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for arn := range k.lines {
		if !arns[arn] {
			k.end(arn, evictedPurged)
		}
	}
	for arn := range k.gates {
		if !arns[arn] {
			k.forgetGate(arn)
		}
	}
	k.evictIf(evictedPurged, func(e *entry) bool { return !keep[e.ref] })
	maps.DeleteFunc(k.fresh, func(ref digest, _ freshKey) bool { return !keep[ref] })
}

// Flush forgets everything and invalidates every proof.
func (k *Keyring) Flush() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.flush(evictedFlushed)
}

// Stats returns the number of cached data keys.
func (k *Keyring) Stats() (entries int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tidy()
	return len(k.entries)
}
