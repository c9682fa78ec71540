// SPDX-License-Identifier: Apache-2.0

package kms_test

import (
	"testing"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/envelope/kms"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/test/lab/aws"
)

// TestReEncrypt over the wire, with real cryptography: the same data key, under
// the other CMK and the same context, and under nothing else.
func TestReEncrypt(t *testing.T) {
	w := newWorld(t)
	to := envelope.Ref{KeyARN: w.key(t, "", ""), Context: w.ref.Context}
	p, wrapped, err := w.ring.Fresh(t.Context(), w.ref)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Release()
	rewrapped, err := w.ring.Rewrap(t.Context(), w.ref, to.KeyARN, wrapped)
	if err != nil {
		t.Fatal(err)
	}
	next, err := w.ring.Prove(t.Context(), to, rewrapped)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Release()
	if err := p.Same(next); err != nil {
		t.Error(err)
	}
	for name, ref := range map[string]envelope.Ref{"the old CMK": w.ref, "another context": {KeyARN: to.KeyARN, Context: newContext(t, "other")}} {
		if err := w.prove(t, ref, rewrapped); fault.ClassOf(err) != fault.Integrity {
			t.Errorf("%s unwraps it: %v", name, err)
		}
	}
	if _, err := w.client.ReEncrypt(t.Context(), to.KeyARN, w.ref.KeyARN, w.ref.Context, wrapped); fault.ClassOf(err) != fault.Integrity {
		t.Errorf("a key that another CMK wrapped: %v", err)
	}
	found := false
	for _, o := range kms.Operations() {
		found = found || o == "ReEncrypt"
	}
	if !found {
		t.Error("the operation is not in the list for metrics")
	}
}

// TestReEncryptRefused: whichever of the two keys refuses, it is no revocation of
// a volume's key, and the hint names both permissions.
func TestReEncryptRefused(t *testing.T) {
	for name, refuse := range map[string]func(w *world, from, to string) error{
		"old key denies": func(w *world, from, _ string) error { return w.Deny(from, "kms:ReEncryptFrom") },
		"new key denies": func(w *world, _, to string) error { return w.Deny(to, "kms:ReEncryptTo") },
		"new key is off": func(w *world, _, to string) error { return w.SetEnabled(to, false) },
		"not shared":     nil,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			to := w.key(t, "", "")
			if refuse == nil {
				var err error
				if to, err = w.CreateKey(aws.CustomerAccount, "us-east-1", "", "", false); err != nil {
					t.Fatal(err)
				}
			}
			p, wrapped, err := w.ring.Fresh(t.Context(), w.ref)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Release()
			if refuse != nil {
				if err := refuse(w, w.ref.KeyARN, to); err != nil {
					t.Fatal(err)
				}
			}
			_, err = w.client.ReEncrypt(t.Context(), w.ref.KeyARN, to, w.ref.Context, wrapped)
			if fault.ClassOf(err) != fault.Misconfigured || fault.CustomerRefuses(err) || fault.HintOf(err) == "" {
				t.Errorf("class %s: %v", fault.ClassOf(err), err)
			}
			if !w.ring.Valid(p) {
				t.Error("the proof of the old CMK is gone")
			}
		})
	}
}
