// SPDX-License-Identifier: Apache-2.0

package envelope

import (
	"bytes"
	"context"
	"time"
)

// freshKey is a data key, wrapped, that new volumes may still share.
type freshKey struct {
	line    *lineage
	wrapped []byte
	volumes int // handed out to so many
	madeAt  time.Duration
}

// Fresh returns a data key for a new volume and its wrapped form: one made for
// the same Ref within FreshMaxAge and for fewer than MaxVolumesPerDataKey
// volumes, else a new one. It is proved like any other, by a Decrypt: what
// cannot be unwrapped is found out before anything is encrypted with it.
func (k *Keyring) Fresh(ctx context.Context, ref Ref) (p *Proof, wrapped []byte, err error) {
	wrapped = k.reuse(ref)
	if wrapped == nil {
		if wrapped, err = k.generate(ctx, ref); err != nil {
			return nil, nil, err
		}
	}
	if p, err = k.Prove(ctx, ref, wrapped); err != nil {
		return nil, nil, err
	}
	return p, wrapped, nil
}

// reuse takes one share of a fresh key, if there is one left.
func (k *Keyring) reuse(ref Ref) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.tidy()
	f, found := k.fresh[ref.digest()]
	if !found || f.volumes >= k.opts.MaxVolumesPerDataKey || !within(now, f.madeAt, k.opts.FreshMaxAge) {
		return nil
	}
	f.volumes++
	k.fresh[ref.digest()] = f
	return bytes.Clone(f.wrapped)
}

// generate has KMS make a data key. The plaintext that comes with it goes into
// the cache without a proof, to be compared with what the Decrypt returns.
func (k *Keyring) generate(ctx context.Context, ref Ref) ([]byte, error) {
	line := k.lineOf(ref)
	plain, wrapped, err := k.kms.GenerateDataKey(ctx, ref.KeyARN, ref.Context)
	if err != nil {
		k.heed(ref.KeyARN, err)
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.tidy()
	id := ref.entry(wrapped)
	if _, known := k.entries[id]; known || line.ended {
		plain.Destroy() // purged meanwhile, or no new key at all: the Decrypt tells
		return wrapped, nil
	}
	k.insert(id, ref, line, now, plain)
	k.fresh[ref.digest()] = freshKey{line: line, wrapped: bytes.Clone(wrapped), volumes: 1, madeAt: now}
	return wrapped, nil
}

func (k *Keyring) lineOf(ref Ref) *lineage {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tidy()
	return k.line(ref.KeyARN)
}
