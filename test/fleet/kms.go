// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/aws/smithy-go"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/envelope/kms"
)

// The time KMS takes: for an answer, and to turn a request away.
const (
	answerFloor, answerSpread = 10 * time.Millisecond, 20 * time.Millisecond
	refuseFloor, refuseSpread = 5 * time.Millisecond, 10 * time.Millisecond
)

var (
	errThrottled = &smithy.GenericAPIError{Code: "ThrottlingException", Message: "Rate exceeded", Fault: smithy.FaultClient}
	errInternal  = &smithy.GenericAPIError{Code: "KMSInternalException", Message: "internal error", Fault: smithy.FaultServer}
)

// service is one account's KMS in one region: a token bucket that all clients
// share, holding one second's worth, and an outage that begins before time 0.
// A request that is turned away takes nothing from the bucket.
type service struct {
	began     time.Time
	quota     float64       // requests a second
	outage    time.Duration // how long it lasts
	blackhole bool          // then nothing answers; else KMS answers with an error of its own

	mu       sync.Mutex
	tokens   float64
	filledAt time.Duration
	log      *record
}

func newService(s Scenario, log *record) *service {
	return &service{began: time.Now(), quota: s.Quota, outage: s.Outage, blackhole: s.Blackhole, tokens: s.Quota, log: log}
}

func (s *service) now() time.Duration { return time.Since(s.began) }

// request is one request on the wire. Its error is what the SDK would return.
func (s *service) request(ctx context.Context) error {
	s.log.began(s.now())
	defer s.log.ended()
	if s.now() < s.outage {
		return s.fail(ctx)
	}
	if !s.admit() {
		s.log.throttled(s.now())
		return sleepThen(ctx, refuseFloor+rand.N(refuseSpread), errThrottled)
	}
	return sleepThen(ctx, answerFloor+rand.N(answerSpread), nil)
}

func (s *service) fail(ctx context.Context) error {
	if s.blackhole {
		<-ctx.Done()
		return ctx.Err()
	}
	return sleepThen(ctx, answerFloor+rand.N(answerSpread), errInternal)
}

// admit takes a token.
func (s *service) admit() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.tokens = min(s.quota, s.tokens+s.quota*(now-s.filledAt).Seconds())
	s.filledAt = now
	if s.tokens < 1 {
		return false
	}
	s.tokens--
	return true
}

func sleepThen(ctx context.Context, d time.Duration, err error) error {
	if !sleep(ctx, d) {
		return ctx.Err()
	}
	return err
}

// sleep reports whether it was slept out.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// callTimeout is the default of kms.timeout, as envelope/kms applies it.
const callTimeout = 5 * time.Second

// client is the service as a Keyring sees it, in place of envelope/kms.Client.
type client struct{ *service }

var _ envelope.KMS = client{}

// Decrypt unwraps: the plaintext is the wrapped key, filled up.
func (c client) Decrypt(ctx context.Context, _ string, _ envelope.Context, wrapped []byte) (*envelope.Secret, error) {
	if err := c.classified(ctx); err != nil {
		return nil, err
	}
	plain := make([]byte, envelope.DataKeyBytes)
	copy(plain, wrapped)
	return envelope.SecretFrom(plain)
}

// GenerateDataKey is not called: a reboot makes no new keys.
func (c client) GenerateDataKey(context.Context, string, envelope.Context) (*envelope.Secret, []byte, error) {
	panic("a reboot makes no new keys")
}

// ReEncrypt is not called: a reboot wraps nothing anew.
func (c client) ReEncrypt(context.Context, string, string, envelope.Context, []byte) ([]byte, error) {
	panic("a reboot wraps nothing anew")
}

func (c client) classified(ctx context.Context) error {
	try, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := c.request(try); err != nil {
		return kms.Classify(ctx, err)
	}
	return nil
}
