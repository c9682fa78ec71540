// SPDX-License-Identifier: Apache-2.0

package envelope

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/volseal/volseal/internal/fault"
)

var testWrapped = []byte("a wrapped data key")

func prove(t *testing.T, k *Keyring, ref Ref, wrapped []byte) *Proof {
	t.Helper()
	p, err := k.Prove(t.Context(), ref, wrapped)
	if err != nil {
		t.Fatalf("Prove: %v", err)
	}
	t.Cleanup(p.Release)
	return p
}

func wantFault(t *testing.T, err error, class fault.Class, reason string) {
	t.Helper()
	if fault.ClassOf(err) != class || fault.ReasonOf(err) != reason {
		t.Fatalf("got class %q reason %q (%v), want %q %q", fault.ClassOf(err), fault.ReasonOf(err), err, class, reason)
	}
}

// The cache saves calls within the proof window.
func TestProveWithinWindowAsksOnce(t *testing.T) {
	ring, kms, clock := newTestRing(t, Options{})
	ref := testRef(t, testARN, "db")
	first := prove(t, ring, ref, testWrapped)
	clock.Move(10 * time.Second)
	second := prove(t, ring, ref, testWrapped)
	if kms.calls() != 1 || first.StartedAt() != second.StartedAt() {
		t.Fatalf("%d calls, started %v and %v", kms.calls(), first.StartedAt(), second.StartedAt())
	}
	if !ring.Valid(first) || !ring.Valid(second) {
		t.Fatal("a proof of exactly the window's age is valid")
	}
}

// The cache never bridges an outage: with the key in memory, an aged proof is
// worth nothing.
func TestCachedKeyCannotBridgeOutage(t *testing.T) {
	ring, kms, clock := newTestRing(t, Options{})
	ref := testRef(t, testARN, "db")
	p := prove(t, ring, ref, testWrapped)
	kms.answer(testARN, unreachable())
	clock.Move(10*time.Second + 1)
	if ring.Stats() != 1 {
		t.Fatal("the key should still be cached")
	}
	if ring.Valid(p) {
		t.Fatal("an aged proof is still valid")
	}
	_, err := ring.Prove(t.Context(), ref, testWrapped)
	wantFault(t, err, fault.Unreachable, "network")
	_, _, err = p.Derive(make([]byte, saltBytes))
	wantFault(t, err, fault.Unreachable, "proof-expired")
}

// A proof is as old as the start of its Decrypt, not its end.
func TestProofAgeCountsFromStart(t *testing.T) {
	ring, kms, clock := newTestRing(t, Options{})
	kms.during = func() { clock.Move(4 * time.Second) }
	before := clock.Now()
	p := prove(t, ring, testRef(t, testARN, "db"), testWrapped)
	if p.StartedAt() != before {
		t.Fatalf("started at %v, want %v", p.StartedAt(), before)
	}
	clock.Move(6*time.Second + 1)
	if ring.Valid(p) {
		t.Fatal("valid beyond the window counted from the start")
	}
}

// A Decrypt slower than the window proves nothing, and is not repeated for ever.
func TestProofTooSlow(t *testing.T) {
	ring, kms, clock := newTestRing(t, Options{})
	kms.during = func() { clock.Move(11 * time.Second) }
	_, err := ring.Prove(t.Context(), testRef(t, testARN, "db"), testWrapped)
	wantFault(t, err, fault.Unreachable, "proof-expired")
	if kms.calls() != attempts {
		t.Fatalf("%d calls", kms.calls())
	}
}

// The context and the CMK are part of what is cached: nothing crosses over.
func TestEntriesAreBoundToRef(t *testing.T) {
	ring, kms, _ := newTestRing(t, Options{})
	for _, ref := range []Ref{testRef(t, testARN, "db"), testRef(t, testARN, "other"), testRef(t, otherARN, "db")} {
		prove(t, ring, ref, testWrapped)
	}
	if kms.calls() != 3 || ring.Stats() != 3 {
		t.Fatalf("%d calls, %d entries", kms.calls(), ring.Stats())
	}
}

// A new Decrypt that returns another key than the cached one is an attack or a
// broken service: refused now and again until the old key is forgotten.
func TestKeyChanged(t *testing.T) {
	ring, kms, clock := newTestRing(t, Options{})
	ref := testRef(t, testARN, "db")
	p := prove(t, ring, ref, testWrapped)
	clock.Move(11 * time.Second)
	kms.twist = 1
	for range 2 {
		_, err := ring.Prove(t.Context(), ref, testWrapped)
		wantFault(t, err, fault.Integrity, "key-changed")
	}
	if ring.Valid(p) {
		t.Fatal("the old proof is valid")
	}
	ring.Flush()
	prove(t, ring, ref, testWrapped)
}

// A revoked answer for one key of a CMK ends all of them, at once, proofs handed
// out included, and leaves other CMKs alone.
func TestRevokedPurgesWholeCMK(t *testing.T) {
	ring, kms, clock := newTestRing(t, Options{})
	ref, other := testRef(t, testARN, "db"), testRef(t, otherARN, "db")
	sibling := prove(t, ring, ref, []byte("sibling"))
	stranger := prove(t, ring, other, testWrapped)
	kms.answer(testARN, revoked())
	_, err := ring.Prove(t.Context(), ref, testWrapped)
	wantFault(t, err, fault.Revoked, "DisabledException")
	if ring.Valid(sibling) || !ring.Valid(stranger) || ring.Stats() != 1 {
		t.Fatalf("sibling %v, stranger %v, %d entries", ring.Valid(sibling), ring.Valid(stranger), ring.Stats())
	}
	_, _, err = sibling.Derive(make([]byte, saltBytes))
	wantFault(t, err, fault.Unreachable, "proof-expired")

	// The refusal is repeated for a while, then KMS is asked again.
	calls := kms.calls()
	kms.answer(testARN, nil)
	_, err = ring.Prove(t.Context(), ref, testWrapped)
	wantFault(t, err, fault.Revoked, "DisabledException")
	if kms.calls() != calls {
		t.Fatal("KMS was asked within the negative TTL")
	}
	clock.Move(defaultNegativeTTL + 1)
	prove(t, ring, ref, testWrapped)
}

// An operator's Purge also forgets the refusal: reattach gets a fresh answer.
func TestPurgeForgetsRefusal(t *testing.T) {
	ring, kms, _ := newTestRing(t, Options{})
	ref := testRef(t, testARN, "db")
	kms.answer(testARN, revoked())
	_, err := ring.Prove(t.Context(), ref, testWrapped)
	wantFault(t, err, fault.Revoked, "DisabledException")
	kms.answer(testARN, nil)
	ring.Purge(testARN)
	prove(t, ring, ref, testWrapped)
}

// Errors that are not revocation purge nothing and are not remembered.
func TestOutageIsNotRemembered(t *testing.T) {
	ring, kms, clock := newTestRing(t, Options{})
	ref := testRef(t, testARN, "db")
	prove(t, ring, ref, testWrapped)
	for _, class := range []fault.Class{fault.Unreachable, fault.Throttled, fault.Identity, fault.Misconfigured, fault.Unknown, fault.Integrity} {
		clock.Move(11 * time.Second) // beyond the proof, and beyond any pause that being throttled brings
		kms.answer(testARN, &fault.Error{Class: class, Reason: "x", Cause: "x"})
		_, err := ring.Prove(t.Context(), ref, testWrapped)
		wantFault(t, err, class, "x")
		if ring.Stats() != 1 {
			t.Fatalf("%s emptied the cache", class)
		}
	}
	kms.answer(testARN, nil)
	prove(t, ring, ref, testWrapped)
}

// A purge that overtakes a Decrypt makes its answer worthless: the key may have
// been revoked after KMS looked.
func TestPurgeOvertakesDecrypt(t *testing.T) {
	ring, kms, _ := newTestRing(t, Options{})
	ref := testRef(t, testARN, "db")
	once := sync.Once{}
	kms.during = func() { once.Do(func() { ring.Purge(testARN) }) }
	p := prove(t, ring, ref, testWrapped)
	if kms.calls() != 2 || !ring.Valid(p) {
		t.Fatalf("%d calls, valid %v", kms.calls(), ring.Valid(p))
	}
}

// Suspend: what was in memory before is forgotten, whatever the clocks say.
func TestResumeFlushes(t *testing.T) {
	ring, kms, clock := newTestRing(t, Options{})
	ref := testRef(t, testARN, "db")
	p := prove(t, ring, ref, testWrapped)
	clock.Sleep(2 * time.Second)
	if ring.Valid(p) || ring.Stats() != 0 {
		t.Fatal("keys outlived a suspend")
	}
	prove(t, ring, ref, testWrapped)
	if kms.calls() != 2 {
		t.Fatalf("%d calls", kms.calls())
	}
}

// A clock that goes back makes no proof younger.
func TestClockGoesBack(t *testing.T) {
	ring, kms, clock := newTestRing(t, Options{})
	ref := testRef(t, testARN, "db")
	p := prove(t, ring, ref, testWrapped)
	clock.Move(-1)
	if ring.Valid(p) {
		t.Fatal("a proof from the future is valid")
	}
	prove(t, ring, ref, testWrapped)
	if kms.calls() != 2 {
		t.Fatalf("%d calls", kms.calls())
	}
}

// Purging during use must not pull the key from under the user, and the last
// to let go wipes it.
func TestPurgeDuringUseIsSafe(t *testing.T) {
	ring, _, _ := newTestRing(t, Options{})
	ref := testRef(t, testARN, "db")
	p := prove(t, ring, ref, testWrapped)
	key := p.key.key
	ring.Purge(testARN)
	if len(key.Bytes()) != DataKeyBytes {
		t.Fatal("the key was destroyed while held")
	}
	p.Release()
	p.Release()
	if key.Bytes() != nil {
		t.Fatal("the key outlived its last holder")
	}
	if ring.Valid(p) {
		t.Fatal("a released proof is valid")
	}
	(*Proof)(nil).Release()
}

// Memory is bounded: the least recently used key goes.
func TestCapacity(t *testing.T) {
	var o counts
	ring, kms, clock := newTestRing(t, Options{MaxEntries: 2, Observer: &o})
	ref := testRef(t, testARN, "db")
	for _, w := range []string{"a", "b", "a", "c", "a"} {
		clock.Move(time.Second)
		prove(t, ring, ref, []byte(w))
	}
	if ring.Stats() != 2 || kms.calls() != 3 || o.evicted["capacity"] != 1 || o.hits != 2 || o.misses != 3 {
		t.Fatalf("%d entries, %d calls, %+v", ring.Stats(), kms.calls(), &o)
	}
	ring.Configure(Options{MaxEntries: 1})
	if ring.Stats() != 1 || o.evicted["capacity"] != 2 {
		t.Fatalf("%d entries, %+v", ring.Stats(), &o)
	}
}

type counts struct {
	hits, misses int
	evicted      map[string]int

	mu   sync.Mutex
	held map[fault.Class]int
}

func (c *counts) CacheHit()  { c.count(&c.hits) }
func (c *counts) CacheMiss() { c.count(&c.misses) }

func (c *counts) count(n *int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*n++
}

func (c *counts) CacheEvicted(reason string) {
	if c.evicted == nil {
		c.evicted = map[string]int{}
	}
	c.evicted[reason]++
}

func (c *counts) CallHeld(class fault.Class) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil {
		c.held = map[fault.Class]int{}
	}
	c.held[class]++
}

// A reload forgets what configuration no longer names.
func TestRetain(t *testing.T) {
	ring, _, _ := newTestRing(t, Options{})
	kept, changed, gone := testRef(t, testARN, "db"), testRef(t, testARN, "old"), testRef(t, otherARN, "db")
	p := prove(t, ring, kept, testWrapped)
	prove(t, ring, changed, testWrapped)
	q := prove(t, ring, gone, testWrapped)
	ring.Retain([]Ref{kept})
	if ring.Stats() != 1 || !ring.Valid(p) || ring.Valid(q) {
		t.Fatalf("%d entries, kept %v, gone %v", ring.Stats(), ring.Valid(p), ring.Valid(q))
	}
}

// No configuration can stretch the windows beyond their bounds.
func TestOptionsAreBounded(t *testing.T) {
	o := Options{ProofMaxAge: time.Hour, TTL: 24 * time.Hour, FreshMaxAge: 24 * time.Hour, NegativeTTL: 48 * time.Hour}.withDefaults()
	if o.ProofMaxAge != time.Minute || o.TTL != time.Hour || o.FreshMaxAge != time.Hour || o.NegativeTTL != time.Hour {
		t.Fatalf("%+v", o)
	}
}

// A shorter window after a reload holds for the proofs already out.
func TestConfigureShortensWindow(t *testing.T) {
	ring, _, clock := newTestRing(t, Options{})
	p := prove(t, ring, testRef(t, testARN, "db"), testWrapped)
	clock.Move(3 * time.Second)
	ring.Configure(Options{ProofMaxAge: 2 * time.Second})
	if ring.Valid(p) {
		t.Fatal("the old window still holds")
	}
}

// Bad sizes never reach KMS.
func TestWrappedSize(t *testing.T) {
	ring, kms, _ := newTestRing(t, Options{})
	for _, n := range []int{0, maxWrappedKey + 1} {
		_, err := ring.Prove(t.Context(), testRef(t, testARN, "db"), make([]byte, n))
		wantFault(t, err, fault.Integrity, "token-wrapped-key")
	}
	if kms.calls() != 0 {
		t.Fatal("KMS was asked")
	}
}

// Fresh keys are shared within limits, by one Ref only, and are proved.
func TestFreshReuse(t *testing.T) {
	ring, kms, clock := newTestRing(t, Options{MaxVolumesPerDataKey: 2})
	ref, other := testRef(t, testARN, "db"), testRef(t, testARN, "other")
	fresh := func(r Ref) string {
		t.Helper()
		p, wrapped, err := ring.Fresh(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Release()
		if !ring.Valid(p) {
			t.Fatal("a fresh key without a live proof")
		}
		return string(wrapped)
	}
	a, b, c := fresh(ref), fresh(ref), fresh(ref)
	if a != b || b == c {
		t.Fatalf("shared by %q %q %q, want the third apart", a, b, c)
	}
	if fresh(other) == c {
		t.Fatal("two databases share a data key")
	}
	clock.Move(time.Hour + 1)
	if d := fresh(ref); d == c {
		t.Fatal("shared beyond FreshMaxAge")
	}
	if kms.generated != 4 {
		t.Fatalf("%d data keys made, want 4", kms.generated)
	}
}

// Volumes made at the same time, or one after another by an operator whose each
// word purges, share one key; trying takes no share, and a failure gives it back.
func TestFreshIsSharedByACrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring, kms := bubbleRing(t, Options{MaxVolumesPerDataKey: 16})
		kms.takes = time.Second
		ref := testRef(t, testARN, "db")
		var crowd sync.WaitGroup
		for range 16 {
			crowd.Go(func() {
				if err := ring.TryFresh(t.Context(), ref); err != nil {
					t.Error(err)
				}
			})
		}
		crowd.Wait()
		kms.answer(testARN, &fault.Error{Class: fault.Unreachable, Reason: "network"})
		ring.Purge(testARN)
		if _, _, err := ring.Fresh(t.Context(), ref); err == nil {
			t.Error("a key without a proof")
		}
		kms.answer(testARN, nil)
		for range 16 {
			ring.Purge(testARN)
			p, _, err := ring.Fresh(t.Context(), ref)
			if err != nil {
				t.Fatal(err)
			}
			p.Release()
		}
		if kms.generated != 1 {
			t.Errorf("%d data keys made, want 1", kms.generated)
		}
	})
}

// Right after boot the clock reads next to nothing: a key that was only generated
// must not look as if it had just been proved, nor one in doubt.
func TestUnprovedIsNotYoung(t *testing.T) {
	ring, kms, clock := newTestRing(t, Options{})
	clock.Move(time.Second - clock.Now())
	ref := testRef(t, testARN, "db")
	p, wrapped, err := ring.Fresh(t.Context(), ref)
	if err != nil || kms.calls() != 1 {
		t.Fatalf("%d calls, %v", kms.calls(), err)
	}
	p.Release()
	clock.Move(11 * time.Second)
	kms.twist = 1
	_, err = ring.Prove(t.Context(), ref, wrapped)
	wantFault(t, err, fault.Integrity, "key-changed")
	ring.Configure(Options{ProofMaxAge: time.Minute}) // a reload does not revive it
	_, err = ring.Prove(t.Context(), ref, wrapped)
	wantFault(t, err, fault.Integrity, "key-changed")
}

// A data key that does not unwrap to what came with it is never used.
func TestFreshIsCompared(t *testing.T) {
	ring, kms, _ := newTestRing(t, Options{})
	kms.during = func() { kms.twist = 7 }
	_, _, err := ring.Fresh(t.Context(), testRef(t, testARN, "db"))
	wantFault(t, err, fault.Integrity, "key-changed")
}

// A revoked answer to GenerateDataKey purges like any other.
func TestFreshRevoked(t *testing.T) {
	ring, kms, _ := newTestRing(t, Options{})
	ref := testRef(t, testARN, "db")
	p := prove(t, ring, ref, testWrapped)
	kms.answer(testARN, revoked())
	_, _, err := ring.Fresh(t.Context(), testRef(t, testARN, "new"))
	wantFault(t, err, fault.Revoked, "DisabledException")
	if ring.Valid(p) {
		t.Fatal("the sibling's proof survived")
	}
}

// bubbleRing follows the bubble's time.
func bubbleRing(t *testing.T, o Options) (*Keyring, *fakeKMS) {
	ring, kms, clock := newTestRing(t, o)
	clock.base = time.Now()
	return ring, kms
}

// One Decrypt at a time per wrapped key, whatever the crowd.
func TestCrowdSharesOneDecrypt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring, kms := bubbleRing(t, Options{})
		kms.takes = time.Second
		ref := testRef(t, testARN, "db")
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				p, err := ring.Prove(t.Context(), ref, testWrapped)
				if err != nil {
					t.Error(err)
				}
				p.Release()
			})
		}
		wg.Wait()
		if kms.calls() != 1 {
			t.Fatalf("%d calls", kms.calls())
		}
	})
}

// The first caller's cancelled context fails that caller alone.
func TestCancelledCallerLeavesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring, kms := bubbleRing(t, Options{})
		kms.takes = 2 * time.Second
		ref := testRef(t, testARN, "db")
		ctx, cancel := context.WithCancel(t.Context())
		first := make(chan error, 1)
		go func() { _, err := ring.Prove(ctx, ref, testWrapped); first <- err }()
		synctest.Wait()
		second := make(chan error, 1)
		go func() {
			p, err := ring.Prove(t.Context(), ref, testWrapped)
			p.Release()
			second <- err
		}()
		synctest.Wait()
		cancel()
		err := <-first
		wantFault(t, err, fault.Unreachable, "gave-up")
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("%v does not tell of the cancellation", err)
		}
		if err := <-second; err != nil {
			t.Fatal(err)
		}
		if kms.calls() != 1 {
			t.Fatalf("%d calls", kms.calls())
		}
	})
}

// A call that hangs ends with the window, so nobody hangs on it for ever.
func TestHangingDecryptEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring, kms := bubbleRing(t, Options{ProofMaxAge: 3 * time.Second})
		kms.takes = time.Hour
		start := time.Now()
		_, err := ring.Prove(t.Context(), testRef(t, testARN, "db"), testWrapped)
		wantFault(t, err, fault.Unreachable, "timeout")
		if took := time.Since(start); took != 3*time.Second {
			t.Fatalf("took %v", took)
		}
	})
}

// The key leaves memory when its TTL ends, though nobody asks for it.
func TestTTLIsKeptUnwatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring, _ := bubbleRing(t, Options{TTL: time.Minute})
		p := prove(t, ring, testRef(t, testARN, "db"), testWrapped)
		key := p.key.key
		p.Release()
		time.Sleep(30 * time.Second)
		prove(t, ring, testRef(t, testARN, "db"), testWrapped).Release() // a new Decrypt: the TTL starts again
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if key.Bytes() == nil {
			t.Fatal("forgotten early")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if key.Bytes() != nil {
			t.Fatal("the key outlived its TTL")
		}
	})
}

// Many goroutines, purges and flushes among them, leave no key behind. Run with -race.
func TestConcurrentUse(t *testing.T) {
	before := mappings(t)
	ring, _, clock := newTestRing(t, Options{MaxEntries: 3})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			ref := testRef(t, testARN, fmt.Sprint("db", g%4))
			for i := range 200 {
				switch i % 20 {
				case 7:
					ring.Purge(testARN)
				case 13:
					ring.Flush()
				case 17:
					clock.Move(time.Second)
				}
				p, err := ring.Prove(t.Context(), ref, testWrapped)
				if err != nil {
					if fault.ReasonOf(err) != "proof-expired" {
						t.Error(err)
					}
					continue
				}
				if a, b, err := p.Derive(make([]byte, saltBytes)); err == nil {
					a.Destroy()
					b.Destroy()
				}
				p.Release()
			}
		})
	}
	wg.Wait()
	ring.Flush()
	if n := mappings(t) - before; n != 0 {
		t.Fatalf("%d secrets were left in memory", n)
	}
}
