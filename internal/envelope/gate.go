// SPDX-License-Identifier: Apache-2.0

package envelope

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/volseal/volseal/internal/fault"
)

// gate is what a call of KMS for one CMK has to pass.
type gate struct {
	breaker
	hurry chan struct{} // closed when an operator ends the waits for a turn; nil while nobody waits
	free  bool          // an operator asked: the next call goes out whatever the pace
}

// call is the only way to KMS: ask runs when the CMK's breaker and the host's
// pace let it, or not at all. Its error is returned, and both learn from it.
// Nothing that call returns is a success but that of ask itself.
//
// The waits are bounded: for a probe by what a call may take, for a turn by
// pacePatience. They are those of a flight, which several callers may share, so
// ctx counts here by its deadline alone; a caller whose ctx ends leaves by itself.
func (k *Keyring) call(ctx context.Context, keyARN string, ask func() error) error {
	probe, err := k.pass(keyARN)
	if err != nil {
		k.observer().CallHeld(fault.Unreachable)
		return err
	}
	if probe != nil {
		defer k.endProbe(probe)
	}
	era, err := k.turn(ctx, keyARN)
	if err != nil {
		k.observer().CallHeld(fault.Throttled)
		return err
	}
	err = ask()
	k.learn(keyARN, era, err)
	return err
}

// pass returns once a call for the CMK may go out, as its probe if probe is not
// nil; or with the failure that the last probe met.
func (k *Keyring) pass(keyARN string) (probe *gate, err error) {
	for {
		g, underWay, err := k.tryPass(keyARN)
		if underWay == nil {
			return g, err
		}
		<-underWay
	}
}

func (k *Keyring) tryPass(keyARN string) (probe *gate, underWay <-chan struct{}, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	g := k.gates[keyARN]
	if g == nil || !g.tripped() {
		return nil, nil, nil
	}
	if err := g.holding(k.opts.Clock()); err != nil {
		return nil, nil, err
	}
	if g.probe != nil {
		return nil, g.probe, nil
	}
	g.probe = make(chan struct{})
	return g, nil, nil
}

func (k *Keyring) endProbe(g *gate) {
	k.mu.Lock()
	defer k.mu.Unlock()
	g.release()
}

// turn waits for the host's next turn, if that is worth the wait.
func (k *Keyring) turn(ctx context.Context, keyARN string) (era int, err error) {
	patience := pacePatience
	if deadline, bound := ctx.Deadline(); bound {
		patience = min(patience, time.Until(deadline))
	}
	wait, era, hurry, err := k.reserve(keyARN, patience)
	if err != nil || wait == 0 {
		return era, err
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-hurry:
	}
	return era, nil
}

func (k *Keyring) reserve(keyARN string, patience time.Duration) (wait time.Duration, era int, hurry <-chan struct{}, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	g := k.gates[keyARN]
	if g != nil && g.free {
		g.free = false
		return 0, k.pace.era, nil, nil
	}
	wait, era, ok := k.pace.reserve(k.opts.Clock(), patience)
	if !ok {
		return 0, 0, nil, errPaced(wait)
	}
	if wait == 0 {
		return 0, era, nil, nil
	}
	g = k.gate(keyARN)
	if g.hurry == nil {
		g.hurry = make(chan struct{})
	}
	return wait, era, g.hurry, nil
}

// learn takes the answer into account. Any answer but Unreachable is one: KMS,
// or what keeps us from it, need not be protected from our connections.
func (k *Keyring) learn(keyARN string, era int, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.opts.Clock()
	class := fault.ClassOf(err)
	if class == fault.Unreachable {
		k.gate(keyARN).failed(now, err)
		return
	}
	if g := k.gates[keyARN]; g != nil {
		g.failures = 0
	}
	switch class {
	case fault.None:
		k.pace.succeeded(now, era)
	case fault.Throttled:
		luck := rand.Float64() //nolint:gosec // jitter is no secret
		k.pace.throttled(now, era, luck)
	default: // says nothing about the rate
	}
}

// gate returns the CMK's gate.
func (k *Keyring) gate(keyARN string) *gate {
	g := k.gates[keyARN]
	if g == nil {
		g = &gate{}
		k.gates[keyARN] = g
	}
	return g
}

// opened ends the CMK's pauses: who waits goes on, and the next call is made
// whatever was learnt. The pace itself stays: it is the account's, not the CMK's.
func (k *Keyring) opened(keyARN string) {
	if g := k.gates[keyARN]; g != nil {
		g.letGo()
	}
	k.gates[keyARN] = &gate{free: true}
}

func (k *Keyring) forgetGate(keyARN string) {
	if g := k.gates[keyARN]; g != nil {
		g.letGo()
		delete(k.gates, keyARN)
	}
}

// letGo sends on everybody who waits here.
func (g *gate) letGo() {
	g.release()
	if g.hurry != nil {
		close(g.hurry)
		g.hurry = nil
	}
}

// errPaced is class Throttled, Reason "paced": no call was made.
func errPaced(wait time.Duration) *fault.Error {
	return &fault.Error{
		Class:  fault.Throttled,
		Reason: "paced",
		Cause:  "KMS has been throttling this account, so this host asks it less often.",
		Hint:   "It is asked again by itself. If it lasts, look at who uses up the account's KMS request quota, and raise it.",
		Err:    fmt.Errorf("the next call is due in %v", wait.Round(time.Millisecond)),
	}
}
