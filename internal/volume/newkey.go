// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"crypto/rand"
	"strconv"

	"github.com/volseal/volseal/internal/envelope"
)

// A new data key is a re-wrap with another thing to add: a keyslot of its own, for
// the passphrase of the new key, with a token that has a salt of its own. The order,
// the pin and the way back are those of rewrap.go. What goes in the end is the old
// token together with its keyslot, whose key material is overwritten.
//
// Both tokens may be of one CMK. Then only the generation tells them apart, and
// what opens the volume is the old one until the claim says otherwise: see adding.

// addNewKey puts the keyslot and the token of a new data key beside the old ones.
func (w *worker) addNewKey(ctx context.Context, o observed, r *rewrapping) error {
	as := o.afterwards()
	proof, wrapped, err := w.ports.Keyring.New(ctx, as.spec.keyRef())
	if err = w.keyAnswered(ctx, as.spec, err); err != nil {
		return ofNewKey(err)
	}
	defer proof.Release()
	salt := make([]byte, 32)
	rand.Read(salt) // never fails: crypto/rand ends the program instead
	added, mac, err := proof.Derive(salt)
	if err != nil {
		return err
	}
	defer added.Destroy()
	defer mac.Destroy()
	t := envelope.Token{
		Version: 1, Generation: r.opens.Token.Generation + 1,
		KeyARN: as.spec.KeyARN, EncryptionContext: o.spec.Context, WrappedKey: wrapped, Salt: salt,
	}
	seal := func(keyslot int, meaning []byte) (envelope.Token, error) {
		t.Keyslots = []string{strconv.Itoa(keyslot)}
		err := t.Seal(mac, meaning)
		return t, err
	}
	return w.putImage(ctx, o, as, func(path string) error {
		return w.withPassphrase(o, r.opens, r.proof, func(present *envelope.Secret) error {
			return w.ports.Archive.AddKeyslot(ctx, o.device, path, r.opens.Token, present, added, seal)
		})
	})
}
