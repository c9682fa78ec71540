// SPDX-License-Identifier: Apache-2.0

package envelope

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"

	"github.com/volseal/volseal/internal/fault"
)

// Seal sets the MAC over the token and the meaning of its header, a JSON value
// that is canonicalised here. mac is the key from Proof.Derive.
func (t *Token) Seal(mac *Secret, meaning []byte) error {
	sum, err := t.sum(mac, meaning)
	if err != nil {
		return err
	}
	t.MAC = sum
	return nil
}

// Verify checks the MAC in constant time. The error is a *fault.Error of class
// Integrity, Reason "mac": token, header and key do not belong together.
func (t Token) Verify(mac *Secret, meaning []byte) error {
	sum, err := t.sum(mac, meaning)
	if err == nil && hmac.Equal(sum, t.MAC) {
		return nil
	}
	return &fault.Error{
		Class:  fault.Integrity,
		Reason: "mac",
		Cause:  "The header is not the one that was sealed with this data key: its MAC does not match.",
		Hint:   "Somebody or something changed the header. Compare it with a backup; do not open the volume by other means.",
		Err:    err,
	}
}

// sum computes HMAC-SHA256 over the canonical {"header":meaning,"token":token without mac}.
func (t Token) sum(mac *Secret, meaning []byte) ([]byte, error) {
	if len(mac.Bytes()) != macBytes {
		return nil, fmt.Errorf("MAC key is %d bytes long, want %d", len(mac.Bytes()), macBytes)
	}
	message, err := t.macInput(meaning)
	if err != nil {
		return nil, err
	}
	var sum []byte
	Erasing(func() {
		h := hmac.New(sha256.New, mac.Bytes())
		h.Write(message)
		sum = h.Sum(nil)
	})
	return sum, nil
}

func (t Token) macInput(meaning []byte) ([]byte, error) {
	header, err := decodeJSON(meaning, maxCanonicalBytes)
	if err != nil {
		return nil, fmt.Errorf("read header's meaning: %w", err)
	}
	token := t.object()
	delete(token, "mac")
	return appendObject(nil, object{"header": header, "token": token}), nil
}
