// SPDX-License-Identifier: Apache-2.0

package envelope

import "time"

const (
	// tripAfter is how many calls in a row must have found nobody. One lost
	// connection is no outage.
	tripAfter = 3
	// holdFor is how long the last failure is repeated to whoever asks. It comes on
	// top of a retry's pause, so it must stay small against the 40 s within which a
	// mended cause leads to Mounted (docs/adr/0004).
	holdFor = time.Second
)

// breaker keeps an outage from costing a connection for each wrapped key of a
// CMK. Once it has tripped, one call at a time is the probe; the others wait for
// what it finds, and are told of its failure for holdFor instead of asking:
//
//	closed ──tripAfter × Unreachable──► open ──holdFor──► one probe ──Unreachable──► open
//	   ▲                                                     │
//	   └──────────────── any other answer ◄──────────────────┘
//
// It is kept by CMK and not by endpoint: a customer's external key store that is
// down must not be felt by another customer. It holds no locks and reads no
// clock; it can only delay a call or refuse one, never stand in for an answer.
type breaker struct {
	failures int           // Unreachable in a row
	last     error         // the newest of them
	at       time.Duration // when it came
	probe    chan struct{} // of the probe under way, closed at its end; else nil
}

// tripped reports whether calls go out one at a time.
func (b *breaker) tripped() bool { return b.failures >= tripAfter }

// holding returns the failure to repeat, if it is still fresh.
func (b *breaker) holding(now time.Duration) error {
	if b.tripped() && within(now, b.at, holdFor) {
		return b.last
	}
	return nil
}

// failed notes an Unreachable answer.
func (b *breaker) failed(now time.Duration, err error) {
	b.failures++
	b.last, b.at = err, now
}

// release lets those who wait for a probe look again. Harmless when repeated.
func (b *breaker) release() {
	if b.probe != nil {
		close(b.probe)
		b.probe = nil
	}
}
