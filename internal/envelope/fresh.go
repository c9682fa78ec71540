// SPDX-License-Identifier: Apache-2.0

package envelope

import (
	"bytes"
	"context"
	"time"
)

// freshKey is a data key, wrapped, that new volumes may still share. There is no
// plaintext of it here: whoever gets a share has it unwrapped, as a proof.
type freshKey struct {
	keyARN  string
	wrapped []byte
	volumes int // handed out to so many
	madeAt  time.Duration
}

// Fresh returns a data key for a new volume and its wrapped form: one made for
// the same Ref within FreshMaxAge and for fewer than MaxVolumesPerDataKey
// volumes, else a new one. It is proved like any other, by a Decrypt: what
// cannot be unwrapped is found out before anything is encrypted with it.
// Volumes that are made at the same time wait for one new key and share it.
func (k *Keyring) Fresh(ctx context.Context, ref Ref) (p *Proof, wrapped []byte, err error) {
	return k.obtain(ctx, ref, 1)
}

// TryFresh returns nil if Fresh would succeed now. No share is taken.
func (k *Keyring) TryFresh(ctx context.Context, ref Ref) error {
	p, _, err := k.obtain(ctx, ref, 0)
	p.Release()
	return err
}

// obtain is Fresh for so many volumes: one, or none.
func (k *Keyring) obtain(ctx context.Context, ref Ref, volumes int) (p *Proof, wrapped []byte, err error) {
	for wrapped = k.reuse(ref, volumes); wrapped == nil; wrapped = k.reuse(ref, volumes) {
		if err := k.newKey(ctx, ref); err != nil {
			return nil, nil, err
		}
	}
	if p, err = k.Prove(ctx, ref, wrapped); err != nil {
		k.giveBack(ref, wrapped, volumes)
		return nil, nil, err
	}
	return p, wrapped, nil
}

// newKey waits for a data key that is being made for this Ref, or makes one.
func (k *Keyring) newKey(ctx context.Context, ref Ref) error {
	if ctx.Err() != nil {
		return errGaveUp(ctx)
	}
	id := ref.digest()
	flight := k.making.DoChan(string(id[:]), func() (any, error) { return nil, k.generate(ctx, ref) })
	select {
	case done := <-flight:
		return done.Err
	case <-ctx.Done():
		return errGaveUp(ctx)
	}
}

// reuse takes shares of a fresh key, if there are any left.
func (k *Keyring) reuse(ref Ref, volumes int) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	f, found := k.fresh[ref.digest()]
	if !found || !k.shareable(f, k.tidy()) {
		return nil
	}
	f.volumes += volumes
	k.fresh[ref.digest()] = f
	return bytes.Clone(f.wrapped)
}

// giveBack returns shares that came to nothing.
func (k *Keyring) giveBack(ref Ref, wrapped []byte, volumes int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if f, found := k.fresh[ref.digest()]; found && bytes.Equal(f.wrapped, wrapped) {
		f.volumes -= volumes
		k.fresh[ref.digest()] = f
	}
}

func (k *Keyring) shareable(f freshKey, now time.Duration) bool {
	return f.volumes < k.opts.MaxVolumesPerDataKey && within(now, f.madeAt, k.opts.FreshMaxAge)
}

// generate has KMS make a data key. The plaintext that comes with it goes into
// the cache without a proof, to be compared with what the Decrypt returns. Like
// a Decrypt it outlives the caller that came first, but not the proof window.
func (k *Keyring) generate(ctx context.Context, ref Ref) error {
	if k.reuse(ref, 0) != nil {
		return nil // another flight has just brought a key to share
	}
	var line *lineage
	var plain *Secret
	var wrapped []byte
	err := k.call(ctx, ref.KeyARN, func() (err error) {
		var window time.Duration
		line, _, window = k.begin(ref)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), window)
		defer cancel()
		plain, wrapped, err = k.kms.GenerateDataKey(ctx, ref.KeyARN, ref.Context)
		return err
	})
	if err != nil {
		k.heed(ref.KeyARN, err)
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.tidy()
	k.fresh[ref.digest()] = freshKey{keyARN: ref.KeyARN, wrapped: bytes.Clone(wrapped), madeAt: now}
	id := ref.entry(wrapped)
	if _, known := k.entries[id]; known || line.ended {
		plain.Destroy() // no new key at all, or purged meanwhile: the Decrypt tells
		return nil
	}
	k.insert(id, ref, line, now, plain)
	return nil
}
