// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"sync"
	"time"
)

// tick is the resolution of what is recorded.
const tick = 100 * time.Millisecond

// record is what happened, by tick.
type record struct {
	mu        sync.Mutex
	calls     []int // requests of the fleet that began
	refused   []int // of these, throttled
	mounts    []int
	inFlight  int
	flights   []int // under way at most
	heldCalls int
	left      int           // volumes not mounted
	done      chan struct{} // closed when none is left
	doneAt    time.Duration

	others, othersThrottled int // requests of the account's other client
}

func newRecord(volumes int) *record { return &record{left: volumes, done: make(chan struct{})} }

func add(to *[]int, at time.Duration) {
	extend(to, at)
	(*to)[at/tick]++
}

func extend(to *[]int, at time.Duration) {
	for len(*to) <= int(at/tick) {
		*to = append(*to, 0)
	}
}

func (r *record) began(at time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	add(&r.calls, at)
	r.inFlight++
	extend(&r.flights, at)
	r.flights[at/tick] = max(r.flights[at/tick], r.inFlight)
}

func (r *record) ended() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inFlight--
}

func (r *record) throttled(at time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	add(&r.refused, at)
}

func (r *record) held() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heldCalls++
}

func (r *record) mounted(at time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	add(&r.mounts, at)
	if r.left--; r.left == 0 {
		r.doneAt = at
		close(r.done)
	}
}

func (r *record) other(served bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.others++
	if !served {
		r.othersThrottled++
	}
}

// perSecond turns counts by tick into a rate over the second up to each tick.
func perSecond(counts []int) []float64 {
	rates, sum := make([]float64, len(counts)), 0
	const window = int(time.Second / tick)
	for i, n := range counts {
		sum += n
		if i >= window {
			sum -= counts[i-window]
		}
		rates[i] = float64(sum)
	}
	return rates
}

// running is the sum up to each tick.
func running(counts []int) []float64 {
	sums, sum := make([]float64, len(counts)), 0
	for i, n := range counts {
		sum += n
		sums[i] = float64(sum)
	}
	return sums
}

func total(counts []int) (sum int) {
	for _, n := range counts {
		sum += n
	}
	return sum
}

// between is the counts from one time on until another.
func between(counts []int, begin, end time.Duration) []int {
	return counts[min(len(counts), int(begin/tick)):min(len(counts), int(end/tick))]
}
