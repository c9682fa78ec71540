// SPDX-License-Identifier: Apache-2.0

// Package ebs is volume.Cloud and volume.Maker over the EC2 API: it describes a
// volume, asks for it to be attached to this instance or detached, and asks for
// volumes and copies of snapshots to be made. It deletes nothing, takes no decision, waits for no state and makes each call once: the reconciler
// observes again and owns all retrying. Every error of EC2 gets its class here
// and nowhere else. What the volume holds is no business of this package.
package ebs

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// Observer is told of every request to EC2: its operation ("AttachVolume"),
// its class (fault.None when it succeeded) and how long it took. It must not
// block, and is called from several goroutines.
type Observer func(operation string, class fault.Class, took time.Duration)

// Operations lists the names that an Observer is told of. A dry run counts as
// its operation does.
func Operations() []string {
	return []string{
		"AttachVolume", "CopySnapshot", "CreateVolume", "DescribeInstances", "DescribeSnapshots", "DescribeVolumes", "DetachVolume",
	}
}

// Options are what the AWS configuration does not say.
type Options struct {
	InstanceID string        // this instance, i-…
	Timeout    time.Duration // for one request, connecting included
	Observe    Observer      // may be nil
}

// Adapter implements volume.Cloud and volume.Maker. It is safe for concurrent use.
type Adapter struct {
	client   *ec2.Client
	instance string
	region   string
	home     atomic.Pointer[home] // nil until it was needed
	timeout  time.Duration
	observe  Observer
	pace     *pace
	names    *names
}

var (
	_ volume.Cloud = (*Adapter)(nil)
	_ volume.Maker = (*Adapter)(nil)
)

// New makes an adapter. cfg gives region, credentials, endpoint and the HTTP
// client; its own retryer is not used.
func New(cfg aws.Config, opts Options) (*Adapter, error) {
	switch {
	case opts.InstanceID == "":
		return nil, errors.New("set up EC2: no instance id")
	case opts.Timeout <= 0:
		return nil, errors.New("set up EC2: no timeout")
	case cfg.Credentials == nil:
		return nil, errors.New("set up EC2: no credentials provider")
	}
	if opts.Observe == nil {
		opts.Observe = func(string, fault.Class, time.Duration) {}
	}
	// The configuration is a copy, but what it points to is shared: replace, never modify.
	cfg.Credentials = namedCredentials{cfg.Credentials}
	cfg.HTTPClient = newPlainBody(cfg.HTTPClient)
	client := ec2.NewFromConfig(cfg, func(o *ec2.Options) {
		// The SDK's own attempts are over within milliseconds, and would count
		// as one call where EC2's rate limit counts three.
		o.Retryer = aws.NopRetryer{}
	})
	return &Adapter{
		client:   client,
		instance: opts.InstanceID,
		region:   cfg.Region,
		timeout:  opts.Timeout,
		observe:  opts.Observe,
		pace:     newPace(),
		names:    newNames(),
	}, nil
}

// request names a call: the operation for metrics, and what it does, for a
// person: "attach vol-…".
type request struct {
	operation string
	doing     string
}

// call sends one request within the pace and the time limit, has it observed,
// and turns its error into a *fault.Error. It is a function because methods
// have no type parameters.
func call[In, Out any](
	ctx context.Context, a *Adapter, r request,
	send func(context.Context, *In, ...func(*ec2.Options)) (*Out, error), in *In,
) (*Out, error) {
	if err := a.pace.wait(ctx, a.timeout); err != nil {
		return nil, r.notSent(ctx, err)
	}
	limited, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()

	started := time.Now()
	out, err := send(limited, in)
	if err == nil {
		a.pace.answered(fault.None)
		a.observe(r.operation, fault.None, time.Since(started))
		return out, nil
	}
	if ctx.Err() != nil {
		return nil, r.abandoned(ctx, err) // the caller gave up: that says nothing about EC2
	}
	classified := r.classify(err, a.timeout)
	a.pace.answered(classified.Class)
	a.observe(r.operation, classified.Class, time.Since(started))
	return nil, classified
}
