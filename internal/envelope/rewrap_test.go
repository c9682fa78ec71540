// SPDX-License-Identifier: Apache-2.0

package envelope

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/volseal/volseal/internal/fault"
)

// TestRewrapIsProvedBeforeItCounts: ReEncrypt's answer is only bytes. It is this
// volume's key if a live Decrypt under the other CMK says so, and not before.
func TestRewrapIsProvedBeforeItCounts(t *testing.T) {
	ring, kms, clock := newTestRing(t, Options{})
	from, to := testRef(t, testARN, "db"), testRef(t, otherARN, "db")
	wrapped := []byte("wrapped by the first")
	old, err := ring.Prove(t.Context(), from, wrapped)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Release()
	for name, c := range map[string]struct {
		answer []byte
		reason string
	}{"the same": {nil, ""}, "another key": {[]byte("of somebody else"), "key-changed"}} {
		kms.rewrapped = c.answer
		clock.Move(time.Minute)
		rewrapped, err := ring.Rewrap(t.Context(), from, otherARN, wrapped)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		calls := kms.calls()
		next, err := ring.Prove(t.Context(), to, rewrapped)
		if err != nil || kms.calls() != calls+1 {
			t.Fatalf("%s: %v, %d Decrypts", name, err, kms.calls()-calls)
		}
		if err := old.Same(next); fault.ReasonOf(err) != c.reason {
			t.Errorf("%s: %v", name, err)
		}
		next.Release()
		if err := old.Same(next); fault.ReasonOf(err) != "proof-expired" {
			t.Errorf("of a released proof: %v", err)
		}
	}
}

// TestRewrapRefusalPurgesNothing: a missing permission to re-wrap is no word on
// the key that opens the volume, whatever class its refusal has.
func TestRewrapRefusalPurgesNothing(t *testing.T) {
	ring, kms, _ := newTestRing(t, Options{})
	from := testRef(t, testARN, "db")
	p, err := ring.Prove(t.Context(), from, []byte("wrapped"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Release()
	kms.rewrapErr = revoked()
	if _, err := ring.Rewrap(t.Context(), from, otherARN, []byte("wrapped")); err == nil {
		t.Fatal("not refused")
	}
	if !ring.Valid(p) || ring.Stats() != 1 {
		t.Error("the refusal ended a proof of the old CMK")
	}
	kms.rewrapErr, kms.rewrapped = nil, make([]byte, maxWrappedKey+1)
	for _, wrapped := range [][]byte{nil, make([]byte, maxWrappedKey+1), []byte("wrapped")} {
		if _, err := ring.Rewrap(t.Context(), from, otherARN, wrapped); fault.ReasonOf(err) != "token-wrapped-key" {
			t.Errorf("%d bytes: %v", len(wrapped), err)
		}
	}
}

// TestNewIsNobodyElses: a data key that replaces another one must not be one that
// other volumes have, nor be handed to later ones.
func TestNewIsNobodyElses(t *testing.T) {
	ring, kms, _ := newTestRing(t, Options{})
	ref := testRef(t, testARN, "db")
	seen := map[string]int{}
	for _, obtain := range []func(context.Context, Ref) (*Proof, []byte, error){ring.Fresh, ring.New, ring.New, ring.Fresh} {
		p, wrapped, err := obtain(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		p.Release()
		seen[string(wrapped)]++
	}
	if got := slices.Sorted(maps.Values(seen)); !slices.Equal(got, []int{1, 1, 2}) {
		t.Errorf("handed out %v times, want a new one twice, and a shared one to two", got)
	}
	kms.answer(testARN, revoked())
	if p, _, err := ring.New(t.Context(), ref); fault.ClassOf(err) != fault.Revoked || p != nil {
		t.Errorf("refused: %v", err)
	}
}
