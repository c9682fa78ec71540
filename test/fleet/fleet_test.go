// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"testing"
	"testing/synctest"
	"time"
)

// small is a fleet that is simulated in a blink: 150 hosts with 4 volumes each,
// against a quota as large for each host as that of the full one.
func small(keys int) Scenario {
	return Scenario{Hosts: 150, Volumes: 4, Keys: keys, Quota: 150, Spread: 2 * time.Second, Within: 5 * time.Minute}
}

func live(t *testing.T, s Scenario, naive bool) (r Result) {
	t.Helper()
	began := time.Now()
	synctest.Test(t, func(t *testing.T) {
		var err error
		if r, err = Run(s, naive); err != nil {
			t.Fatal(err)
		}
	})
	t.Logf("naive %v: 99%% mounted after %v, all after %v (%d), %d calls, %d throttled, %d held back, peak %.0f/s (%.0f/s during the outage), in flight %d, others throttled %.1f %%; computed in %v",
		naive, r.Most.Round(tick), r.AllMounted.Round(tick), r.Mounted, r.Calls, r.Throttled, r.Held, r.Peak, r.PeakDuring, r.InFlight, 100*r.Others, time.Since(began).Round(time.Millisecond))
	if r.AllMounted == 0 {
		t.Errorf("only %d volumes were mounted", r.Mounted)
	}
	return r
}

// A reboot of everything costs one answered call for each distinct wrapped key,
// and is not much slower than a client that asks as often as it likes.
func TestRebootOfEverything(t *testing.T) {
	t.Parallel()
	for _, keys := range []int{1, 4} {
		s := small(keys)
		r, naive := live(t, s, false), live(t, s, true)
		if served := r.Calls - r.Throttled; served != s.Hosts*keys {
			t.Errorf("%d answered calls for %d wrapped keys", served, s.Hosts*keys)
		}
		if r.Throttled > naive.Throttled || r.Calls > naive.Calls {
			t.Errorf("%d calls, %d throttled; naive %d and %d", r.Calls, r.Throttled, naive.Calls, naive.Throttled)
		}
		if r.AllMounted > naive.AllMounted+20*time.Second {
			t.Errorf("all mounted after %v, naive after %v", r.AllMounted, naive.AllMounted)
		}
	}
}

// With a tenth of the quota the hosts slow down until it suffices: few requests
// are throttled, and nobody starves.
func TestScarceQuota(t *testing.T) {
	t.Parallel()
	for _, keys := range []int{1, 4} {
		s := small(keys)
		s.Quota /= 10
		r, naive := live(t, s, false), live(t, s, true)
		if r.Throttled > naive.Throttled/4 {
			t.Errorf("%d throttled, naive %d", r.Throttled, naive.Throttled)
		}
		if ideal := time.Duration(float64(s.Hosts*keys) / s.Quota * float64(time.Second)); r.AllMounted > 2*ideal+20*time.Second {
			t.Errorf("all mounted after %v, the quota allows %v", r.AllMounted, ideal)
		}
	}
}

// When KMS comes back everybody is mounted within the 40 s that are promised,
// and the fleet that waited for it does not fall upon it: no second sees more
// requests than the quota, and none is throttled.
func TestReturnFromOutage(t *testing.T) {
	t.Parallel()
	for _, blackhole := range []bool{false, true} {
		s := small(4)
		s.Outage, s.Blackhole = 45*time.Second, blackhole
		r := live(t, s, false)
		if r.AllMounted > 40*time.Second {
			t.Errorf("all mounted %v after KMS was back", r.AllMounted)
		}
		if r.Peak >= s.Quota || r.Throttled > 0 {
			t.Errorf("%.0f requests in one second, %d throttled", r.Peak, r.Throttled)
		}
		if r.InFlight > s.Hosts {
			t.Errorf("%d requests under way at once: more than one for each CMK that does not answer", r.InFlight)
		}
	}
	s := small(4)
	s.Outage = 3 * time.Second
	if naive := live(t, s, true); naive.Peak < s.Quota {
		t.Errorf("the naive units make %.0f requests a second at most: they are no comparison", naive.Peak)
	}
}
