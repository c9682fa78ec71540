// SPDX-License-Identifier: Apache-2.0

package ebs

import (
	"context"
	"errors"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/volseal/volseal/internal/fault"
)

// TestPaceSlowsDown: a host that EC2 throttles asks less and less often, and
// never stops asking altogether.
func TestPaceSlowsDown(t *testing.T) {
	p := newPace()
	for range 100 {
		p.answered(fault.Throttled)
	}
	if got := p.limiter.Limit(); got != paceFloor {
		t.Errorf("after many throttled answers: %v requests a second, want %v", got, paceFloor)
	}
	for range 100 {
		p.answered(fault.None)
	}
	if got := p.limiter.Limit(); got != paceCeiling {
		t.Errorf("after many good answers: %v requests a second, want %v", got, paceCeiling)
	}
	if got := p.limiter.Burst(); got != paceBurst {
		t.Errorf("the burst did not come back: %d", got)
	}
}

// TestPaceHoldsBack: no request follows a throttled one at once, and whoever
// cannot wait is told that it was throttling.
func TestPaceHoldsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace()
		for range 100 {
			p.answered(fault.Throttled)
		}
		if err := p.wait(t.Context(), time.Second); err != nil {
			t.Fatalf("the first: %v", err)
		}
		if err := p.wait(t.Context(), time.Second); !errors.Is(err, errPaced) {
			t.Errorf("the second within a second: %v", err)
		}
		begin := time.Now()
		if err := p.wait(t.Context(), time.Minute); err != nil {
			t.Fatalf("the second, with patience: %v", err)
		}
		if waited := time.Since(begin); waited < 3*time.Second {
			t.Errorf("sent again after %s", waited)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.wait(ctx, time.Minute); !errors.Is(err, context.Canceled) {
			t.Errorf("a caller that stops: %v", err)
		}
	})
}

// TestHeldBackIsThrottled: a request held back has the class of its cause, and EC2 does not see it.
func TestHeldBackIsThrottled(t *testing.T) {
	e := serve(t, func(url.Values) (int, string) { return 503, errorXML("RequestLimitExceeded", "x") })
	a := adapter(t, configFor(e.url))
	a.timeout = time.Second
	for range 10 {
		a.pace.answered(fault.Throttled)
	}
	_, err := a.Volume(t.Context(), vol)
	expect(t, err, fault.Throttled, "RequestLimitExceeded")
	_, err = a.Volume(t.Context(), vol)
	expect(t, err, fault.Throttled, "paced")
	if n := len(e.requests("DescribeVolumes")); n != 1 {
		t.Errorf("EC2 was asked %d times", n)
	}
}
