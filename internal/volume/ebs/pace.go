// SPDX-License-Identifier: Apache-2.0

package ebs

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/volseal/volseal/internal/fault"
)

// EC2 counts requests per account and region, so this host shares its limit
// with the whole fleet. When EC2 says that it is too much, retrying each call
// more slowly is not enough: the host as a whole must ask less often.
const (
	paceBurst   = 20               // a start with many volumes asks at once
	paceCeiling = rate.Limit(10)   // requests a second, in good times
	paceFloor   = rate.Limit(0.25) // and at the worst
	paceRegain  = rate.Limit(0.5)  // added by each answer
)

// pace is a rate limit that is halved by each throttled answer and grows back
// little by little with the others (additive increase, multiplicative decrease).
type pace struct {
	limiter *rate.Limiter
	mu      sync.Mutex // guards the step from one limit to the next
}

func newPace() *pace {
	return &pace{limiter: rate.NewLimiter(paceCeiling, paceBurst)}
}

var errPaced = errors.New("this host's own pace allows no request soon enough")

// wait returns when a request may be sent: nil, ctx's error, or errPaced if
// that would take longer than patience.
func (p *pace) wait(ctx context.Context, patience time.Duration) error {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := p.limiter.Wait(limited); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return errPaced
	}
	return nil
}

// answered adapts the pace to the class of an answer.
func (p *pace) answered(class fault.Class) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.limiter.Limit()
	if class == fault.Throttled {
		p.limiter.SetLimit(max(now/2, paceFloor))
		p.limiter.SetBurst(1) // no stored burst may follow a refusal
		return
	}
	p.limiter.SetLimit(min(now+paceRegain, paceCeiling))
	if p.limiter.Limit() == paceCeiling {
		p.limiter.SetBurst(paceBurst)
	}
}
