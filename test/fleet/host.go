// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

const (
	openTime      = 500 * time.Millisecond // from the proof to Mounted: cryptsetup and the mount
	probeInterval = time.Minute            // kms.probe_interval
)

// observer counts what a host's keyring holds back.
type observer struct{ log *record }

func (observer) CacheHit()                {}
func (observer) CacheMiss()               {}
func (observer) CacheEvicted(string)      {}
func (o observer) CallHeld(_ fault.Class) { o.log.held() }

// startHost runs a host's agent from its boot: one keyring, one worker a volume.
// The host has one database under a CMK of its own; its volumes share
// s.Keys wrapped keys.
func startHost(ctx context.Context, s Scenario, kms *service, n int, start func(func())) (flush func(), err error) {
	ec, err := envelope.NewContext(fmt.Sprintf("db-%d", n), nil)
	if err != nil {
		return nil, fmt.Errorf("make encryption context: %w", err)
	}
	ref := envelope.Ref{KeyARN: fmt.Sprintf("arn:aws:kms:us-east-1:111111111111:key/%08x-0000-4000-8000-000000000000", n), Context: ec}
	ring := envelope.NewKeyring(client{kms}, envelope.Options{
		Clock: kms.now, Suspended: func() time.Duration { return 0 }, Observer: observer{kms.log},
		// Just beyond a proof's age. The longer time of a real agent saves no call and
		// would cost this one process the locked memory of ten thousand hosts.
		TTL: 11 * time.Second,
	})
	boot := rand.N(s.Spread)
	for v := range s.Volumes {
		wrapped := fmt.Appendf(nil, "host %d key %d", n, v%s.Keys)
		start(func() {
			if sleep(ctx, boot) {
				runWorker(ctx, ring, ref, wrapped, kms.log, kms.now)
			}
		})
	}
	return ring.Flush, nil
}

// runWorker is the loop of internal/volume's worker as far as KMS sees it.
func runWorker(ctx context.Context, ring *envelope.Keyring, ref envelope.Ref, wrapped []byte, log *record, now func() time.Duration) {
	for failures := 0; !mount(ctx, ring, ref, wrapped, &failures); {
		if ctx.Err() != nil {
			return
		}
	}
	log.mounted(now())
	probe(ctx, ring, ref, wrapped)
}

// probe is the canary of a mounted volume.
func probe(ctx context.Context, ring *envelope.Keyring, ref envelope.Ref, wrapped []byte) {
	failures := 0
	for rest := time.Duration(0); sleep(ctx, rest); {
		p, err := ring.Prove(ctx, ref, wrapped)
		if err != nil {
			failures++
			rest = volume.RetryAfter(fault.ClassOf(err), failures)
			continue
		}
		p.Release()
		failures, rest = 0, probeInterval-probeInterval/10+rand.N(probeInterval/5)
	}
}

// mount makes one attempt, and rests if it fails. A proof that grew old while the
// volume was opened is renewed by the next.
func mount(ctx context.Context, ring *envelope.Keyring, ref envelope.Ref, wrapped []byte, failures *int) bool {
	p, err := ring.Prove(ctx, ref, wrapped)
	if err != nil {
		*failures++
		sleep(ctx, volume.RetryAfter(fault.ClassOf(err), *failures))
		return false
	}
	defer p.Release()
	return sleep(ctx, openTime) && ring.Valid(p)
}
