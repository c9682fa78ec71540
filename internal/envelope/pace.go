// SPDX-License-Identifier: Apache-2.0

package envelope

import (
	"math"
	"time"
)

// The bounds of the pace, in calls a second where not said otherwise.
const (
	// At its ceiling the pace is not felt: a host full of volumes makes its calls of
	// a boot at once. It only stops a loop gone wild.
	paceCeiling = 64.0
	paceFloor   = 0.1 // one call in 10 s
	paceStep    = 0.25
	paceBurst   = 4 * time.Second // calls that were not made are saved up this long
	// paceQuiet without a throttled answer ends all of it at the next success. A
	// host that only probes its mounted volumes would else need hours.
	paceQuiet = time.Minute
	// pacePatience is the longest wait for a turn: a gap at the floor, so that who
	// waits alone comes to its turn. Who would have to wait longer is told so at
	// once, and tries again after its own pause.
	pacePatience = 10 * time.Second
)

// pace is how fast this host may call KMS: a bucket of turns, filled at a rate
// that additive increase and multiplicative decrease find (AIMD, as TCP does).
// One for the host, since the quota is one for the account, whoever's CMK is
// asked for. It holds no locks, reads no clock and never sleeps.
type pace struct {
	rate      float64         // turns a second
	turns     float64         // in the bucket; below 0 when some are promised
	countedAt time.Duration   // turns are right as of then
	granted   []time.Duration // when the calls of the last second began, or will
	era       int             // of the rate: how often it was cut
	cutAt     time.Duration
}

func newPace() pace { return pace{rate: paceCeiling, turns: paceCeiling * paceBurst.Seconds()} }

// reserve takes the next turn if it comes within patience; it then is due after
// wait. The era is to be handed to hear with the answer.
func (p *pace) reserve(now, patience time.Duration) (wait time.Duration, era int, ok bool) {
	p.fill(now)
	if p.turns < 1 {
		wait = time.Duration(math.Ceil((1 - p.turns) / p.rate * float64(time.Second)))
	}
	if wait > patience {
		return wait, p.era, false
	}
	p.turns--
	p.note(now, now+wait)
	return wait, p.era, true
}

// fill adds the turns that came since. A clock that went back adds none.
func (p *pace) fill(now time.Duration) {
	passed := max(0, now-p.countedAt)
	p.countedAt = now
	p.turns = min(p.turns+p.rate*passed.Seconds(), max(1, p.rate*paceBurst.Seconds()))
}

// note remembers a call of the last second.
func (p *pace) note(now, due time.Duration) {
	kept := p.granted[:0]
	for _, t := range p.granted {
		if t > now-time.Second {
			kept = append(kept, t)
		}
	}
	p.granted = append(kept, due)
}

// throttled halves the rate: the allowed one or the one really made use of in
// the last second, whichever is less, since to halve what nobody used slows
// nobody down. Of the calls that were out at one time only the first to come
// back halves it. luck, in [0, 1), is what part of the new gap passes until the
// next call: full jitter, or a fleet throttled at one moment would return at one.
func (p *pace) throttled(now time.Duration, era int, luck float64) {
	if era != p.era {
		return
	}
	p.fill(now)
	p.era++
	p.cutAt = now
	p.rate = max(paceFloor, min(p.rate, float64(max(1, len(p.granted))))/2)
	p.turns = min(p.turns, 0) + 1 - luck // what is promised stays so
}

// succeeded raises the rate. An answer to a call from before the last cut tells
// nothing about the rate now.
func (p *pace) succeeded(now time.Duration, era int) {
	if era != p.era || p.rate == paceCeiling {
		return
	}
	p.fill(now)
	p.rate = min(paceCeiling, p.rate+paceStep)
	if now-p.cutAt >= paceQuiet {
		p.rate = paceCeiling
	}
}
