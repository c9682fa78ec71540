// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/volume"
)

// fingerprintBytes holds the metadata and the areas of keyslots 0 to 2, which is
// one more than a rotation uses: cryptsetup fills areas from the front.
const fingerprintBytes = ioChunk

// Fingerprint reads from the disk itself, past the page cache: a header that was
// damaged beneath us is what the next boot finds. Only a device that
// is too small is blamed.
func (l *LUKS) Fingerprint(ctx context.Context, dev volume.Device) (volume.Fingerprint, error) {
	if dev.Bytes < fingerprintBytes {
		return volume.Fingerprint{}, refuse(ruleDeviceSize, nil)
	}
	d, err := openDisk(dev, os.O_RDONLY)
	if err != nil {
		return volume.Fingerprint{}, err
	}
	defer d.close()
	b, err := newBuffer(fingerprintBytes)
	if err != nil {
		return volume.Fingerprint{}, err
	}
	defer b.release()
	if err := d.readAt(ctx, b, 0); err != nil {
		return volume.Fingerprint{}, err
	}
	return sha256.Sum256(b), nil
}

// Try has cryptsetup tell what it reads in the frozen header, and unlock a
// keyslot in its own memory. The MAC has matched, so the key is right: a keyslot
// that does not open is damaged.
func (l *LUKS) Try(ctx context.Context, h *volume.Header, keyslot int, passphrase *envelope.Secret) error {
	frozen, err := judgeAgain(h)
	if err != nil {
		return err
	}
	c, err := openOptions{header: h.Path, keyslot: keyslot, passphrase: passphrase}.command()
	if frozen.work != nil { // opens only with both keyslots
		c, err = openWorkOptions{device: h.Path, passphrase: passphrase}.command()
	}
	if err != nil {
		return err
	}
	err = l.runAndCompare(ctx, c, h.Path, frozen)
	if errors.Is(err, errWrongKey) {
		return refuse(rulePassphrase, err)
	}
	return failed("try the keyslot", err)
}
