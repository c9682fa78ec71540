// SPDX-License-Identifier: Apache-2.0

package envelope

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"testing"
	"time"

	"github.com/volseal/volseal/internal/fault"
)

const (
	testARN  = "arn:aws:kms:us-east-1:111111111111:key/aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
	otherARN = "arn:aws:kms:us-east-1:111111111111:key/bbbbbbbb-bbbb-cccc-dddd-eeeeeeeeeeee"
)

func testRef(t testing.TB, arn, database string) Ref {
	t.Helper()
	ec, err := NewContext(database, nil)
	if err != nil {
		t.Fatal(err)
	}
	return Ref{KeyARN: arn, Context: ec}
}

// fakeKMS unwraps by hashing. Its log is the truth that proofs are held against.
type fakeKMS struct {
	clock *fakeClock

	mu        sync.Mutex
	asked     int // calls of either kind, begun
	generated uint64
	err       map[string]error // by ARN
	twist     byte             // another plaintext for the same wrapped key
	takes     time.Duration
	during    func() // runs inside Decrypt, before the answer
	log       []decryption
	rewrapErr error
	rewrapped []byte // in place of a sound answer
}

type decryption struct {
	id      digest
	keyARN  string
	started time.Duration
	ok      bool
}

func (f *fakeKMS) plain(ref Ref, wrapped []byte) *Secret {
	h := sha256.Sum256(append([]byte{f.twist}, ref.Context.Canonical()...))
	for i := range h {
		h[i] ^= wrapped[i%len(wrapped)]
	}
	s, err := SecretFrom(h[:])
	if err != nil {
		panic(err)
	}
	return s
}

func (f *fakeKMS) GenerateDataKey(_ context.Context, keyARN string, ec Context) (*Secret, []byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	if err := f.err[keyARN]; err != nil {
		return nil, nil, err
	}
	f.generated++
	wrapped := binary.BigEndian.AppendUint64([]byte("fresh"), f.generated)
	return f.plain(Ref{keyARN, ec}, wrapped), wrapped, nil
}

func (f *fakeKMS) Decrypt(ctx context.Context, keyARN string, ec Context, wrapped []byte) (*Secret, error) {
	ref := Ref{keyARN, ec}
	d := decryption{id: ref.entry(wrapped), keyARN: keyARN, started: f.clock.Now()}
	f.mu.Lock()
	f.asked++
	f.mu.Unlock()
	if f.takes > 0 {
		select {
		case <-time.After(f.takes):
		case <-ctx.Done():
			return nil, &fault.Error{Class: fault.Unreachable, Reason: "timeout", Cause: "no answer", Err: ctx.Err()}
		}
	}
	if f.during != nil {
		f.during()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.err[keyARN]
	d.ok = err == nil
	f.log = append(f.log, d)
	if err != nil {
		return nil, err
	}
	return f.plain(ref, wrapped), nil
}

// ReEncrypt wraps the same plaintext for another CMK, or, twisted, another one.
func (f *fakeKMS) ReEncrypt(_ context.Context, _, _ string, _ Context, wrapped []byte) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	if err := f.rewrapErr; err != nil {
		return nil, err
	}
	if f.rewrapped != nil {
		return f.rewrapped, nil
	}
	return append(append([]byte(nil), wrapped...), wrapped...), nil // plain repeats it anyway
}

func (f *fakeKMS) calls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.log)
}

func (f *fakeKMS) answer(keyARN string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = map[string]error{}
	}
	f.err[keyARN] = err
}

// fakeClock is CLOCK_BOOTTIME and the time slept, moved by hand; in a synctest
// bubble it also follows the bubble's time.
type fakeClock struct {
	mu    sync.Mutex
	base  time.Time // zero: only by hand
	moved time.Duration
	slept time.Duration
}

func (c *fakeClock) Now() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.base.IsZero() {
		return c.moved
	}
	return time.Since(c.base) + c.moved
}

func (c *fakeClock) Slept() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.slept
}

func (c *fakeClock) Move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.moved += d
}

func (c *fakeClock) Sleep(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.moved += d
	c.slept += d
}

func newTestRing(t testing.TB, o Options) (*Keyring, *fakeKMS, *fakeClock) {
	t.Helper()
	clock := &fakeClock{moved: time.Hour}
	k := &fakeKMS{clock: clock}
	o.Clock, o.Suspended = clock.Now, clock.Slept
	ring := NewKeyring(k, o)
	t.Cleanup(ring.Flush)
	return ring, k, clock
}

func revoked() error {
	return &fault.Error{Class: fault.Revoked, Reason: "DisabledException", Cause: "The CMK is disabled."}
}

func unreachable() error {
	return &fault.Error{Class: fault.Unreachable, Reason: "network", Cause: "KMS did not answer."}
}
