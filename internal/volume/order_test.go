// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"errors"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"
)

// Only an order whose arguments are all sound and all the verb's own is taken.
func TestOrderIsStrict(t *testing.T) {
	const alias = "arn:aws:kms:us-east-1:111111111111:alias/db"
	for name, c := range map[string]struct {
		order Order
		good  bool
	}{
		"the smallest":           {Order{Verb: VerbCreate, SizeGiB: 1}, true},
		"the largest":            {Order{Verb: VerbCreate, SizeGiB: 16384}, true},
		"no size":                {Order{Verb: VerbCreate}, false},
		"a negative size":        {Order{Verb: VerbCreate, SizeGiB: -1}, false},
		"too large":              {Order{Verb: VerbCreate, SizeGiB: 16385}, false},
		"create with a snapshot": {Order{Verb: VerbCreate, SizeGiB: 1, Snapshot: testSnap}, false},
		"create with a key":      {Order{Verb: VerbCreate, SizeGiB: 1, KeyARN: testARN}, false},
		"restore":                {Order{Verb: VerbRestore, Snapshot: testSnap}, true},
		"restore, an old id":     {Order{Verb: VerbRestore, Snapshot: "snap-01234567"}, true},
		"restore under a key":    {Order{Verb: VerbRestore, Snapshot: testSnap, KeyARN: testARN}, true},
		"restore under an alias": {Order{Verb: VerbRestore, Snapshot: testSnap, KeyARN: alias}, false},
		"restore of nothing":     {Order{Verb: VerbRestore}, false},
		"restore of a volume":    {Order{Verb: VerbRestore, Snapshot: testVol}, false},
		"restore, a longer id":   {Order{Verb: VerbRestore, Snapshot: testSnap + "0"}, false},
		"restore, a line more":   {Order{Verb: VerbRestore, Snapshot: testSnap + "\n"}, false},
		"restore with a size":    {Order{Verb: VerbRestore, Snapshot: testSnap, SizeGiB: 10}, false},
		"unlock":                 {Order{Verb: VerbUnlock}, true},
		"unlock with a size":     {Order{Verb: VerbUnlock, SizeGiB: 1}, false},
		"init with a snapshot":   {Order{Verb: VerbInit, Snapshot: testSnap}, false},
		"release with a key":     {Order{Verb: VerbRelease, KeyARN: testARN}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var malformed *OrderError
			if err := c.order.Validate(); (err == nil) != c.good || err != nil && !errors.As(err, &malformed) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// The reconciler itself checks an order, whoever passes it on.
func TestBadOrderIsNotRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t, emptyEC2(), t.TempDir())
		defer h.stop()
		if seq, err := h.r.Do("orders", Order{Verb: VerbCreate}); err == nil || seq != 0 {
			t.Errorf("got wish %d, %v", seq, err)
		}
	})
}

// No claim that an order makes is one that the next agent cannot read.
func TestOrderedClaimIsReadable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := rapid.SampledFrom([]Order{
			{Verb: VerbCreate, SizeGiB: rapid.IntRange(1, MaxSizeGiB).Draw(t, "size")},
			{Verb: VerbRestore, Snapshot: testSnap},
			{Verb: VerbRestore, Snapshot: testSnap, KeyARN: otherARN},
		}).Draw(t, "order")
		m := newMaking(o)
		if again := m.anew(); again.Token == m.Token || again.validate() != nil {
			t.Fatalf("anew: %+v", again)
		}
		if err := m.validate(); err != nil || !m.meets(o) {
			t.Fatal(err)
		}
	})
}
