// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"fmt"
	"time"

	"github.com/volseal/volseal/internal/fault"
)

const (
	// jobPatience is how long a request waits for a worker that is at work.
	jobPatience = 10 * time.Second
	// jobLimit bounds the work itself. Together they are less than what a request
	// may take in all.
	jobLimit = 45 * time.Second
)

// job is work that an operator waits for. A worker does it between two passes,
// so that nothing else acts on the volume meanwhile.
type job func(ctx context.Context)

// outcome is what became of a job.
type outcome[T any] struct {
	answer T
	err    error
}

// ask has a volume's worker look at the volume and do work, and returns what came
// of it. A worker that is busy for long refuses with a *ConflictError; other
// volumes do not wait. Once begun the work goes on even if ctx ends.
func ask[T any](ctx context.Context, r *Reconciler, name string, work func(context.Context, *worker, observed) (T, error)) (T, error) {
	var nothing T
	w, ok := r.worker(name)
	if !ok {
		return nothing, fmt.Errorf("%w: %q", ErrNoSuchVolume, name)
	}
	done := make(chan outcome[T], 1)
	err := w.hand(ctx, name, func(ctx context.Context) {
		o, err := w.observe(ctx)
		answer := nothing
		if err == nil {
			answer, err = work(ctx, w.worker, o)
		}
		done <- outcome[T]{answer, err}
	})
	if err != nil {
		return nothing, err
	}
	select {
	case d := <-done:
		return d.answer, d.err
	case <-ctx.Done():
		return nothing, stillWorking(name)
	case <-w.ended:
	}
	select {
	case d := <-done: // it was its last work
		return d.answer, d.err
	default:
		return nothing, agentStops()
	}
}

// hand gives a job to the worker once that is free. The channel holds none: who
// gives up waiting takes the job away again.
func (w *running) hand(ctx context.Context, name string, j job) error {
	patience := time.NewTimer(jobPatience)
	defer patience.Stop()
	select {
	case w.jobs <- j:
		return nil
	case <-w.ended:
		return agentStops()
	case <-patience.C:
		return &ConflictError{
			Message: "The agent is at work on this volume.",
			Hint:    "See volseal status " + name + " for what it does, and try again when it has done.",
		}
	case <-ctx.Done():
		return ctx.Err()
	}
}

// serve does a job.
func (w *worker) serve(ctx context.Context, j job) {
	ctx, cancel := context.WithTimeout(ctx, jobLimit)
	defer cancel()
	j(ctx)
}

func stillWorking(name string) error {
	return &ConflictError{
		Message: "The agent has not done with it yet; it goes on.",
		Hint:    "See volseal status " + name + ", and ask again in a minute.",
	}
}

func agentStops() error {
	return &fault.Error{
		Class: fault.Unknown, Reason: "agent-stopping", Cause: "The agent is stopping, or the volume has left its configuration.",
		Hint: "Try again when the agent is up.",
	}
}
