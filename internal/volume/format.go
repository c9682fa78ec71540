// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/volseal/volseal/internal/envelope"
)

// blankCheckLimit bounds the reading of a whole device: 16 TiB at the lowest
// EBS throughput. An operator may call it off with any other verb.
const blankCheckLimit = 48 * time.Hour

// progressPause is between two words about how far the check has come. It is told
// after each MiB.
const progressPause = time.Second

// The order in which init writes, and what a crash after each line leaves:
//
//	try the CMK, check for zeros     a blank volume; init is asked for again
//	header image beside the claim    the same; the image is overwritten
//	claim: stage header              the next pass goes on below, by itself
//	header onto the device           torn: only blocks of the image and zeros; written again
//	claim: stage filesystem          the next open makes the file system
//	file system in the pending map   made again: nothing was ever stored in it
//	claim: stage ready               an ordinary sealed volume
//
// Nothing but this order may write to a device, and only for one operator's
// explicit intent.

// format does the first half, on a volume that nothing was ever written to.
func (w *worker) format(ctx context.Context, o observed) error {
	proof, wrapped, err := w.keyForBlank(ctx, o)
	if err != nil {
		return err
	}
	defer proof.Release()
	uuid, err := w.buildHeader(ctx, o, proof, wrapped)
	if err != nil {
		return err
	}
	err = w.update(func(c *Claim) {
		c.VolumeID, c.LUKSUUID, c.Generation, c.Stage = o.volumeID, uuid, 1, StageHeader
		c.Making = nil // from here on it is an init like any other
	})
	if err != nil {
		return err
	}
	w.init = false // the claim carries the intent from here on
	return w.putHeader(ctx, o)
}

// keyForBlank returns a data key for a device that was found blank. A CMK that
// cannot be used is told before the whole device is read, which can take hours;
// for as long no key is held.
func (w *worker) keyForBlank(ctx context.Context, o observed) (*envelope.Proof, []byte, error) {
	err := w.ports.Keyring.TryFresh(ctx, o.spec.keyRef())
	if err = w.keyAnswered(ctx, o.spec, err); err != nil {
		return nil, nil, err
	}
	if err := w.checkBlank(ctx, o, ""); err != nil {
		return nil, nil, err
	}
	p, wrapped, err := w.ports.Keyring.Fresh(ctx, o.spec.keyRef())
	return p, wrapped, w.keyAnswered(ctx, o.spec, err)
}

// keyAnswered notes how a CMK fared; that the agent is stopping says nothing about it.
func (w *worker) keyAnswered(ctx context.Context, s Spec, err error) error {
	if err == nil || ctx.Err() == nil {
		w.ports.Keys.Record(s.KeyARN, err)
	}
	return err
}

func (w *worker) buildHeader(ctx context.Context, o observed, proof *envelope.Proof, wrapped []byte) (uuid string, err error) {
	salt := make([]byte, 32)
	rand.Read(salt) // never fails: crypto/rand ends the program instead
	passphrase, mac, err := proof.Derive(salt)
	if err != nil {
		return "", err
	}
	defer passphrase.Destroy()
	defer mac.Destroy()
	seal := func(keyslot int, meaning []byte) (envelope.Token, error) {
		t := envelope.Token{
			Keyslots: []string{fmt.Sprint(keyslot)}, Version: 1, Generation: 1,
			KeyARN: o.spec.KeyARN, EncryptionContext: o.spec.Context, WrappedKey: wrapped, Salt: salt,
		}
		err := t.Seal(mac, meaning) // changes t, so it comes first
		return t, err
	}
	if err := w.ports.Claims.SetAside(o.spec.Name); err != nil {
		return "", fmt.Errorf("set an older header image aside: %w", err)
	}
	uuid = newUUID()
	return uuid, w.ports.Formatter.BuildHeader(ctx, w.ports.Claims.HeaderImage(o.spec.Name), uuid, o.device, passphrase, seal)
}

// writeHeader takes up an init that was cut short.
func (w *worker) writeHeader(ctx context.Context, o observed) error {
	if o.claim.VolumeID != o.volumeID {
		return unfinishedElsewhere()
	}
	if err := w.checkBlank(ctx, o, w.ports.Claims.HeaderImage(o.spec.Name)); err != nil {
		return err
	}
	return w.putHeader(ctx, o)
}

func unfinishedElsewhere() error {
	return misconfigured("claim-volume", "An unfinished init was for another volume than the configured one.",
		"Put the old volume_id back and reload. Or stop the agent, move the claim away from /var/lib/volseal/claims, and start it.")
}

func (w *worker) putHeader(ctx context.Context, o observed) error {
	ctx, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	if err := w.ports.Formatter.WriteHeader(ctx, o.device, w.ports.Claims.HeaderImage(o.spec.Name)); err != nil {
		return err
	}
	h, err := w.ports.Crypt.Freeze(ctx, o.device, o.spec.Name)
	if err != nil {
		return err
	}
	w.ports.Crypt.Discard(h)
	return w.update(func(c *Claim) { c.Stage = StageFilesystem })
}

// checkBlank reads the whole device. Any operator's verb calls it off.
func (w *worker) checkBlank(ctx context.Context, o observed, image string) error {
	cctx, cancel := context.WithTimeout(ctx, blankCheckLimit)
	defer cancel()
	w.setCallOff(cancel)
	defer w.setCallOff(nil)
	defer w.progress("")
	var told time.Time
	err := w.ports.Formatter.CheckBlank(cctx, o.device, image, func(done, total int64) {
		if time.Since(told) < progressPause {
			return // each word of it wakes whoever watches the status
		}
		told = time.Now()
		w.progress(fmt.Sprintf("checking that the volume is blank: %d of %d MiB", done>>20, total>>20))
	})
	if ctx.Err() == nil && errors.Is(cctx.Err(), context.Canceled) {
		return &ConflictError{Message: "The check of the volume was called off.", Hint: "Run volseal init again if it should be formatted."}
	}
	return err
}

func (w *worker) setCallOff(cancel context.CancelFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.callOff = cancel
}

// newUUID is a random UUID, version 4.
func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}
