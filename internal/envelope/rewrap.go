// SPDX-License-Identifier: Apache-2.0

package envelope

import (
	"context"
	"time"
)

// Rewrap has the data key that wrapped holds under ref wrapped by another CMK,
// under the same context, and returns the new wrapped key. What it is worth is
// for Prove and Proof.Same to say, before anything depends on it.
//
// A refusal purges nothing: it does not say which of the two CMKs it means, and a
// missing permission to re-wrap takes no key away.
func (k *Keyring) Rewrap(ctx context.Context, ref Ref, toARN string, wrapped []byte) (rewrapped []byte, err error) {
	if len(wrapped) == 0 || len(wrapped) > maxWrappedKey {
		return nil, errWrappedSize()
	}
	if ctx.Err() != nil {
		return nil, errGaveUp(ctx)
	}
	err = k.call(ctx, toARN, func() (err error) {
		ctx, cancel := context.WithTimeout(ctx, k.window())
		defer cancel()
		rewrapped, err = k.kms.ReEncrypt(ctx, ref.KeyARN, toARN, ref.Context, wrapped)
		return err
	})
	if err == nil && (len(rewrapped) == 0 || len(rewrapped) > maxWrappedKey) {
		return nil, errWrappedSize()
	}
	return rewrapped, err
}

// New returns a new data key that no other volume has or will share, proved by a
// Decrypt, and its wrapped form.
func (k *Keyring) New(ctx context.Context, ref Ref) (*Proof, []byte, error) {
	if ctx.Err() != nil {
		return nil, nil, errGaveUp(ctx)
	}
	var wrapped []byte
	err := k.call(ctx, ref.KeyARN, func() error {
		ctx, cancel := context.WithTimeout(ctx, k.window())
		defer cancel()
		plain, blob, err := k.kms.GenerateDataKey(ctx, ref.KeyARN, ref.Context)
		if err == nil {
			wrapped = blob
			plain.Destroy() // what counts is what the Decrypt returns
		}
		return err
	})
	if err != nil {
		k.heed(ref.KeyARN, err)
		return nil, nil, err
	}
	p, err := k.Prove(ctx, ref, wrapped)
	return p, wrapped, err
}

// window is how long a call may take.
func (k *Keyring) window() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.opts.ProofMaxAge
}

// Same returns nil if two proofs are of one data key, compared in constant time:
// what was wrapped anew is what was there before. Else it is a *fault.Error of
// class Integrity, Reason "key-changed".
func (p *Proof) Same(o *Proof) error {
	a, b := p.share(), o.share()
	defer a.drop()
	defer b.drop()
	if a == nil || b == nil {
		return errProofExpired()
	}
	if !a.key.Equal(b.key) {
		return errKeyChanged("The data key that was wrapped under the other CMK is not this volume's.")
	}
	return nil
}

// share holds the key for a moment; nil if the proof was released.
func (p *Proof) share() *held {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.key == nil {
		return nil
	}
	return p.key.share()
}
