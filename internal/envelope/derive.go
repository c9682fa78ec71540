// SPDX-License-Identifier: Apache-2.0

package envelope

import (
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
)

// The two uses of a data key, kept apart by HKDF's info.
const (
	infoKeyslot = "volseal/v1 keyslot"
	infoMAC     = "volseal/v1 header mac"

	derivedBytes = 32
)

// derive makes the keyslot passphrase and the MAC key of one volume from its
// data key. The library's slices are on the heap: they are wiped as soon as they
// are copied, but its own work buffers are not ours to wipe (docs/key-lifetime.md).
func derive(dataKey *Secret, salt []byte) (passphrase, mac *Secret, err error) {
	if len(salt) != saltBytes {
		return nil, nil, fmt.Errorf("salt is %d bytes long, want %d", len(salt), saltBytes)
	}
	Erasing(func() {
		var prk []byte
		if prk, err = hkdf.Extract(sha256.New, dataKey.Bytes(), salt); err != nil {
			return
		}
		defer clear(prk)
		if passphrase, err = expand(prk, infoKeyslot); err != nil {
			return
		}
		if mac, err = expand(prk, infoMAC); err != nil {
			passphrase.Destroy()
			passphrase = nil
		}
	})
	if err != nil {
		return nil, nil, fmt.Errorf("derive keys: %w", err)
	}
	return passphrase, mac, nil
}

func expand(prk []byte, info string) (*Secret, error) {
	b, err := hkdf.Expand(sha256.New, prk, info, derivedBytes)
	if err != nil {
		return nil, err
	}
	return SecretFrom(b)
}
