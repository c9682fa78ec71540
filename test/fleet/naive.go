// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
)

// The naive client is a unit for each volume that runs a small program: it
// decrypts that volume's key with the AWS SDK's defaults, opens and mounts, and
// exits with an error where it could not.
const (
	restartAfter = 100 * time.Millisecond // systemd's default RestartSec=
	programStart = 200 * time.Millisecond // to load, get credentials, read the header
)

// startNaive runs one host's units. StartLimitIntervalSec=0 is taken for granted:
// with systemd's default the units would give up after five failures and stay so.
func startNaive(ctx context.Context, s Scenario, kms *service, start func(func())) {
	boot := rand.N(s.Spread)
	for range s.Volumes {
		start(func() {
			if sleep(ctx, boot) {
				runUnit(ctx, kms)
			}
		})
	}
}

func runUnit(ctx context.Context, kms *service) {
	for sleep(ctx, programStart) {
		if decryptBySDK(ctx, kms) == nil {
			if sleep(ctx, openTime) {
				kms.log.mounted(kms.now())
			}
			return
		}
		if !sleep(ctx, restartAfter) {
			return
		}
	}
}

// naiveTimeout is the SDK's default for a connection that nobody accepts.
const naiveTimeout = 30 * time.Second

// decryptBySDK makes the attempts of the SDK's standard retryer, of a new
// process each time, at its own intervals.
func decryptBySDK(ctx context.Context, kms *service) error {
	retryer := retry.NewStandard()
	for attempt := 1; ; attempt++ {
		err := try(ctx, kms)
		if err == nil || ctx.Err() != nil || attempt == retryer.MaxAttempts() {
			return err
		}
		delay, derr := retryer.RetryDelay(attempt, err)
		if derr != nil {
			return derr
		}
		sleep(ctx, delay)
	}
}

func try(ctx context.Context, kms *service) error {
	ctx, cancel := context.WithTimeout(ctx, naiveTimeout)
	defer cancel()
	return kms.request(ctx)
}
