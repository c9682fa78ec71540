// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Scenario is one event that all hosts live through at once.
type Scenario struct {
	Name    string
	Hosts   int
	Volumes int           // of each host, all of one database
	Keys    int           // distinct wrapped keys that they share, 1 to Volumes
	Quota   float64       // requests a second that KMS serves the account
	Spread  time.Duration // the agents start within this time, evenly

	Outage    time.Duration // KMS is down until then
	Blackhole bool          // it does not answer at all meanwhile
	Within    time.Duration // give up then
}

// volumes of the whole fleet.
func (s Scenario) volumes() int { return s.Hosts * s.Volumes }

// Result is what came of it.
type Result struct {
	Scenario
	AllMounted time.Duration // after the start, or after the outage; 0 if not all were
	Most       time.Duration // the same for 99 of 100 volumes
	Mounted    int
	Calls      int     // requests on the wire
	Throttled  int     // of these
	Held       int     // calls that hosts did not make (volseal only)
	Peak       float64 // requests in the worst second, after the outage if there is one
	PeakDuring float64 // the same during the outage
	InFlight   int     // requests under way at one moment, at most, in the second half of the outage
	Others     float64 // share of another client's requests that were throttled, until all were mounted

	MountedBy []float64 // volumes mounted, by tick from the start
	Rate      []float64 // requests in the second up to each tick
}

// Run lives through s with volseal on every host or, if naive, with the units
// described there. It must run in a synctest bubble, and takes no real time but
// that of computing.
func Run(s Scenario, naive bool) (Result, error) {
	log := newRecord(s.volumes())
	kms := newService(s, log)
	ctx, end := context.WithTimeout(context.Background(), s.Within)
	defer end()
	var all sync.WaitGroup
	start := func(run func()) { all.Go(run) }
	for n := range s.Hosts {
		if naive {
			startNaive(ctx, s, kms, start)
			continue
		}
		flush, err := startHost(ctx, s, kms, n, start)
		if err != nil {
			return Result{}, fmt.Errorf("start host: %w", err)
		}
		defer flush()
	}
	start(func() { runOther(ctx, kms) })
	select {
	case <-log.done:
	case <-ctx.Done():
	}
	end()
	all.Wait()
	time.Sleep(time.Minute) // a call outlives who asked for it; the bubble may not end before
	return log.result(s), nil
}

// otherShare is how much of the quota the account's other client asks for: what
// the platform does with KMS besides.
const otherShare = 0.01

// runOther asks from the end of the outage on and does not retry. Its gaps vary, or
// it would meet each token of the bucket at the moment it drops.
func runOther(ctx context.Context, kms *service) {
	if !sleep(ctx, kms.outage) {
		return
	}
	gap := time.Duration(float64(time.Second) / (kms.quota * otherShare))
	for sleep(ctx, rand.N(2*gap)) {
		kms.log.other(kms.admit())
	}
}

func (r *record) result(s Scenario) Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	result := Result{
		Scenario: s, Mounted: s.volumes() - r.left,
		Calls: total(r.calls), Throttled: total(r.refused), Held: r.heldCalls,
		Rate: perSecond(r.calls), MountedBy: running(r.mounts),
		Others: float64(r.othersThrottled) / float64(max(1, r.others)),
	}
	if r.left == 0 {
		result.AllMounted = r.doneAt - s.Outage
		result.Most = reached(result.MountedBy, 0.99*float64(s.volumes())) - s.Outage
	}
	result.Peak = peak(between(r.calls, s.Outage, s.Within))
	result.PeakDuring = peak(between(r.calls, 0, s.Outage))
	result.InFlight = slices.Max(append(between(r.flights, s.Outage/2, s.Outage), 0))
	return result
}

// reached is when running sums came to at least so much.
func reached(sums []float64, least float64) time.Duration {
	return time.Duration(1+slices.IndexFunc(sums, func(n float64) bool { return n >= least })) * tick
}

func peak(counts []int) float64 { return slices.Max(append(perSecond(counts), 0)) }
