// SPDX-License-Identifier: Apache-2.0

package envelope

// TokenType is the "type" of our tokens in a LUKS2 header.
const TokenType = "volseal-kms"

// Token is what a LUKS2 header carries of ours, version 1. Nothing in it is
// secret, and nothing in it is trusted before Verify: it may come from a hostile
// snapshot.
type Token struct {
	Keyslots          []string // exactly one, a decimal number 0 to 31
	Version           int      // 1
	Generation        int      // 1 at init, one more with each new data key
	KeyARN            string   // the CMK that wrapped the key; informative, configuration pins the one used
	EncryptionContext Context
	WrappedKey        []byte // KMS CiphertextBlob
	Salt              []byte // 32 bytes, of HKDF
	MAC               []byte // 32 bytes, HMAC-SHA256 over the header's meaning
}

// ParseToken reads a token as it stands in a header.
func ParseToken(raw []byte) (Token, error) { panic("not written yet") }

// Encode writes the token as it goes into a header.
func (t Token) Encode() ([]byte, error) { panic("not written yet") }

// Seal sets the MAC over the token and the meaning of its header (canonical JSON).
func (t *Token) Seal(mac *Secret, meaning []byte) error { panic("not written yet") }

// Verify checks the MAC; the error is class Integrity, Reason "mac".
func (t Token) Verify(mac *Secret, meaning []byte) error { panic("not written yet") }
