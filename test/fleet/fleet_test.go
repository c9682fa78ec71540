// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"flag"
	"testing"
	"testing/synctest"
	"time"
)

var full = flag.Bool("fleet.full", false, "ten thousand hosts instead of three hundred; needs locked memory (root, or ulimit -l unlimited)")

func hosts() int {
	if *full {
		return 10_000
	}
	return 300
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
	t.Logf("%-12s naive=%-5v all mounted %v (%d), %d calls, %d throttled, %d held, peak %.0f/s (%.0f/s during the outage), in flight %d, others %.1f %%; computed in %v",
		s.Name, naive, r.AllMounted.Round(tick), r.Mounted, r.Calls, r.Throttled, r.Held, r.Peak, r.PeakDuring, r.InFlight, 100*r.Others, time.Since(began).Round(time.Millisecond))
	return r
}

func TestX(t *testing.T) {
	n := hosts()
	base := Scenario{Hosts: n, Volumes: 4, Keys: 1, Quota: float64(n), Spread: 2 * time.Second, Within: 10 * time.Minute}
	for _, keys := range []int{1, 4} {
		s := base
		s.Name, s.Keys = "reboot", keys
		live(t, s, false)
		live(t, s, true)
		s.Name, s.Quota = "tenth", s.Quota/10
		live(t, s, false)
		live(t, s, true)
		s.Quota *= 10
		s.Name, s.Outage = "outage", time.Minute
		live(t, s, false)
		live(t, s, true)
		s.Name, s.Blackhole = "blackhole", true
		live(t, s, false)
		live(t, s, true)
	}
}
