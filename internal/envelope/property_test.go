// SPDX-License-Identifier: Apache-2.0

package envelope

import (
	"context"
	"testing"
	"time"

	"github.com/volseal/volseal/internal/fault"
	"pgregory.net/rapid"
)

// history drives a keyring through any sequence of calls, faults and clock jumps
// and holds each proof against the log of what the key service really did.
type history struct {
	ring   *Keyring
	kms    *fakeKMS
	clock  *fakeClock
	window time.Duration
	refs   []Ref
	proofs []*Proof
	ids    []digest                 // of the proofs' entries
	ended  map[string]time.Duration // when a CMK's keys were last purged, by ARN
	arns   []string                 // of the proofs
}

var wrappedKeys = [][]byte{[]byte("one"), []byte("two"), []byte("three")}

func newHistory(t *rapid.T) *history {
	clock := &fakeClock{moved: time.Hour}
	h := &history{clock: clock, kms: &fakeKMS{clock: clock}, window: 10 * time.Second, ended: map[string]time.Duration{}}
	h.ring = NewKeyring(h.kms, Options{
		ProofMaxAge: h.window, TTL: time.Minute, MaxEntries: 4, MaxVolumesPerDataKey: 2,
		Clock: clock.Now, Suspended: clock.Slept,
	})
	for _, arn := range []string{testARN, otherARN} {
		for _, db := range []string{"db", "other"} {
			ec, err := NewContext(db, nil)
			if err != nil {
				t.Fatal(err)
			}
			h.refs = append(h.refs, Ref{arn, ec})
		}
	}
	return h
}

// witnessed reports whether the log holds the Decrypt that p claims: of this very
// wrapped key, CMK and context, successful, and begun when p says.
func (h *history) witnessed(id digest, p *Proof) bool {
	for _, d := range h.kms.log {
		if d.ok && d.id == id && d.started == p.StartedAt() {
			return true
		}
	}
	return false
}

func (h *history) age(p *Proof) time.Duration { return h.clock.Now() - p.StartedAt() }

func (h *history) take(t *rapid.T, ref Ref, wrapped []byte, p *Proof) {
	id := ref.entry(wrapped)
	if !h.witnessed(id, p) {
		t.Fatalf("a proof without its Decrypt")
	}
	if age := h.age(p); age < 0 || age > h.window {
		t.Fatalf("a proof of age %v", age)
	}
	h.proofs, h.ids, h.arns = append(h.proofs, p), append(h.ids, id), append(h.arns, ref.KeyARN)
}

func (h *history) ref(t *rapid.T) Ref { return rapid.SampledFrom(h.refs).Draw(t, "ref") }

func (h *history) prove(t *rapid.T) {
	ref, wrapped := h.ref(t), rapid.SampledFrom(wrappedKeys).Draw(t, "wrapped")
	asked := h.kms.asked
	p, err := h.ring.Prove(context.Background(), ref, wrapped)
	h.judge(t, ref, err, h.kms.asked > asked)
	if err == nil {
		h.take(t, ref, wrapped, p)
	}
}

func (h *history) fresh(t *rapid.T) {
	ref := h.ref(t)
	asked := h.kms.asked
	p, wrapped, err := h.ring.Fresh(context.Background(), ref)
	h.judge(t, ref, err, h.kms.asked > asked)
	if err == nil {
		h.take(t, ref, wrapped, p)
	}
}

// judge notes a revoked answer: all proofs of the CMK so far are void. A refusal
// that is only repeated voids none: KMS may have answered well for another key of
// the CMK since, and that is the newer word.
func (h *history) judge(t *rapid.T, ref Ref, err error, asked bool) {
	if asked && err != nil && fault.ClassOf(err) == fault.Revoked {
		h.void(ref.KeyARN)
	}
	if err != nil && fault.ClassOf(err) == fault.Unknown {
		t.Fatalf("unclassified: %v", err)
	}
}

// void forgets the proofs of a CMK (all if ""), which must be invalid for ever.
func (h *history) void(arn string) {
	for i := range h.proofs {
		if arn == "" || h.arns[i] == arn {
			h.ids[i] = digest{}
		}
	}
}

func (h *history) answer(t *rapid.T) {
	arn := rapid.SampledFrom([]string{testARN, otherARN}).Draw(t, "arn")
	h.kms.answer(arn, rapid.SampledFrom([]error{nil, nil, revoked(), unreachable()}).Draw(t, "answer"))
}

// check is the invariant: a valid proof has its witness, is young, and was not
// voided; a derivation needs a valid proof.
func (h *history) check(t *rapid.T) {
	for i, p := range h.proofs {
		valid := h.ring.Valid(p)
		if valid && (h.ids[i] == digest{} || !h.witnessed(h.ids[i], p) || h.age(p) < 0 || h.age(p) > h.window) {
			t.Fatalf("proof %d is valid: void %v, age %v", i, h.ids[i] == digest{}, h.age(p))
		}
		a, b, err := p.Derive(make([]byte, saltBytes))
		if (err == nil) != valid {
			t.Fatalf("proof %d: valid %v, derive %v", i, valid, err)
		}
		a.Destroy()
		b.Destroy()
	}
	if n := h.ring.Stats(); n > 4 {
		t.Fatalf("%d entries", n)
	}
}

func (h *history) end() {
	for _, p := range h.proofs {
		p.Release()
	}
	h.ring.Flush()
}

func (h *history) actions() map[string]func(*rapid.T) {
	jump := rapid.Int64Range(int64(-20*time.Second), int64(40*time.Second))
	return map[string]func(*rapid.T){
		"prove":  h.prove,
		"prove2": h.prove, // twice as likely
		"fresh":  h.fresh,
		"answer": h.answer,
		"twist":  func(t *rapid.T) { h.kms.twist = byte(rapid.IntRange(0, 1).Draw(t, "twist")) },
		"jump":   func(t *rapid.T) { h.clock.Move(time.Duration(jump.Draw(t, "jump"))) },
		"pass": func(t *rapid.T) {
			h.clock.Move(time.Duration(rapid.Int64Range(0, int64(12*time.Second)).Draw(t, "pass")))
		},
		"slow":     func(t *rapid.T) { d := time.Duration(jump.Draw(t, "slow")); h.kms.during = func() { h.clock.Move(d) } },
		"fast":     func(*rapid.T) { h.kms.during = nil },
		"sleep":    func(*rapid.T) { h.clock.Sleep(5 * time.Second); h.void("") },
		"purge":    func(t *rapid.T) { arn := h.ref(t).KeyARN; h.ring.Purge(arn); h.void(arn) },
		"overtake": func(*rapid.T) { h.kms.during = func() { h.ring.Purge(testARN); h.void(testARN) } },
		"forget":   func(t *rapid.T) { h.ring.ForgetRefusals(h.ref(t).KeyARN) },
		"flush":    func(*rapid.T) { h.ring.Flush(); h.void("") },
		"":         h.check,
	}
}

// No Proof without a successful Decrypt of that wrapped key, under that CMK and
// context, begun within ProofMaxAge: not after any history.
func TestNoProofWithoutDecrypt(t *testing.T) {
	before := mappings(t)
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(t)
		defer h.end()
		t.Repeat(h.actions())
	})
	if n := mappings(t) - before; n != 0 {
		t.Fatalf("%d secrets were left in memory", n)
	}
}
