// SPDX-License-Identifier: Apache-2.0

package control

import (
	"testing"
	"time"
)

// TestDenials protects the journal from any local user, and the record from
// silence: what was left out is told with the next line.
func TestDenials(t *testing.T) {
	d, now := newDenials(), time.Now()
	logged := 0
	for range 1000 {
		if _, ok := d.log(1000, now); ok {
			logged++
		}
	}
	if logged != deniedBurst {
		t.Errorf("%d lines for 1000 requests at once", logged)
	}
	if n, ok := d.log(1001, now); !ok || n != 0 {
		t.Errorf("another user: %d left out, %v", n, ok)
	}
	now = now.Add(deniedEvery)
	if n, ok := d.log(1000, now); !ok || n != 1000-deniedBurst {
		t.Errorf("later: %d left out, %v", n, ok)
	}
	if n, ok := d.log(1000, now.Add(deniedEvery)); !ok || n != 0 {
		t.Errorf("later still: %d left out, %v", n, ok)
	}
}

// TestDenialsOfMany protects the agent's memory, and the journal, from a user
// with many ids.
func TestDenialsOfMany(t *testing.T) {
	d, now := newDenials(), time.Now()
	total, logged := 0, 0
	for uid := range uint32(10_000) {
		for range deniedBurst + 1 {
			total++
			if _, ok := d.log(uid, now); ok {
				logged++
			}
		}
	}
	if want := (deniedUsers + 1) * deniedBurst; logged != want || len(d.users) != deniedUsers {
		t.Errorf("%d lines, want %d; %d users", logged, want, len(d.users))
	}
	// Once all are quiet, a newcomer has a place of its own, and nothing is lost.
	now = now.Add(deniedBurst * deniedEvery)
	if n, ok := d.log(70_000, now); !ok || n != 0 {
		t.Errorf("newcomer: %d left out, %v", n, ok)
	}
	if got := logged + d.rest.unlogged; len(d.users) != 1 || got != total {
		t.Errorf("%d users; %d requests known of %d", len(d.users), got, total)
	}
}
