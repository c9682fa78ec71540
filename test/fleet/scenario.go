// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"fmt"
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
	Mounted    int
	Calls      int     // requests on the wire
	Throttled  int     // of these
	Held       int     // calls that hosts did not make (volseal only)
	Peak       float64 // requests in the worst second, after the outage if there is one
	PeakDuring float64 // the same during the outage
	InFlight   int     // requests under way at one moment, at most
	Others     float64 // share of another client's requests that were throttled, until all were mounted

	MountedBy []float64 // volumes mounted, by tick
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
	return log.result(s), nil
}

// otherShare is how much of the quota the account's other client asks for: what
// the platform does with KMS besides.
const otherShare = 0.01

// runOther asks evenly and does not retry. It asks from the end of the outage on.
func runOther(ctx context.Context, kms *service) {
	if !sleep(ctx, kms.outage) {
		return
	}
	gap := time.Duration(float64(time.Second) / (kms.quota * otherShare))
	for sleep(ctx, gap) {
		kms.log.other(kms.admit())
	}
}

func (r *record) result(s Scenario) Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	result := Result{
		Scenario: s, Mounted: s.volumes() - r.left,
		Calls: total(r.calls), Throttled: total(r.refused), Held: r.heldCalls, InFlight: r.flightMax,
		Rate: perSecond(r.calls), MountedBy: running(r.mounts),
		Others: float64(r.othersThrottled) / float64(max(1, r.others)),
	}
	if r.left == 0 {
		result.AllMounted = r.doneAt - s.Outage
	}
	result.Peak = peak(from(r.calls, s.Outage))
	result.PeakDuring = peak(r.calls[:min(len(r.calls), int(s.Outage/tick))])
	return result
}

func peak(counts []int) float64 { return slices.Max(append(perSecond(counts), 0)) }
