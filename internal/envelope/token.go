// SPDX-License-Identifier: Apache-2.0

package envelope

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"

	"github.com/volseal/volseal/internal/fault"
)

const (
	// TokenType is the "type" of our tokens in a LUKS2 header.
	TokenType = "volseal-kms"
	// TokenVersion is the only version there is.
	TokenVersion = 1

	// A token is written in at most 3 KiB and read in up to 4: cryptsetup may
	// indent it and escape its slashes on the way. Four KiB leave the 16 KiB
	// metadata area room for a second token during a rotation.
	maxTokenWritten = 3 << 10
	maxTokenRead    = 4 << 10

	saltBytes     = 32
	macBytes      = 32
	maxKeyslot    = 31
	maxGeneration = 1<<31 - 1
)

// Token is what a LUKS2 header carries of ours, version 1. Nothing in it is
// secret, and nothing in it is trusted before Verify: it may come from a hostile
// snapshot.
type Token struct {
	Keyslots          []string // exactly one, a decimal number 0 to 31
	Version           int      // 1
	Generation        int      // 1 at init, one more with each new data key; below 2³¹
	KeyARN            string   // the CMK that wrapped the key; informative, configuration pins the one used
	EncryptionContext Context
	WrappedKey        []byte // KMS CiphertextBlob
	Salt              []byte // 32 bytes, of HKDF
	MAC               []byte // 32 bytes, HMAC-SHA256 over the header's meaning
}

// ParseToken reads one token as it stands in a header, strictly: each field
// once, none unknown, each in its one spelling. Errors are *fault.Error of class
// Integrity whose Reason begins "token-" and names the rule; see
// docs/header-format.md for the list.
func ParseToken(raw []byte) (Token, error) {
	o, err := parseTokenObject(raw)
	if err != nil {
		return Token{}, err
	}
	r := fieldReader{o: o}
	t := Token{
		Version:           TokenVersion,
		Keyslots:          r.keyslots(),
		Generation:        r.generation(),
		KeyARN:            r.arn(),
		EncryptionContext: r.context(),
		WrappedKey:        r.bytes("wrapped_key", 0),
		Salt:              r.bytes("salt", saltBytes),
		MAC:               r.bytes("mac", macBytes),
	}
	if r.err != nil {
		return Token{}, r.err
	}
	return t, nil
}

// Encode writes the token as it goes into a header: canonical JSON, at most
// 3 KiB. It refuses, with the errors of ParseToken, what that would not read back.
func (t Token) Encode() ([]byte, error) {
	raw := appendObject(nil, t.object())
	if len(raw) > maxTokenWritten {
		return nil, refuse("size", fmt.Errorf("token is %d bytes long", len(raw)))
	}
	if _, err := ParseToken(raw); err != nil {
		return nil, err
	}
	return raw, nil
}

// object returns the token's JSON fields.
func (t Token) object() object {
	slots := make([]any, len(t.Keyslots))
	for i, s := range t.Keyslots {
		slots[i] = s
	}
	ec := object{}
	for k, v := range t.EncryptionContext {
		ec[k] = v
	}
	return object{
		"type":               TokenType,
		"keyslots":           slots,
		"version":            number(t.Version),
		"generation":         number(t.Generation),
		"key_arn":            t.KeyARN,
		"encryption_context": ec,
		"wrapped_key":        base64.StdEncoding.EncodeToString(t.WrappedKey),
		"salt":               base64.StdEncoding.EncodeToString(t.Salt),
		"mac":                base64.StdEncoding.EncodeToString(t.MAC),
	}
}

func number(n int) integer { return integer(strconv.Itoa(n)) }

// parseTokenObject settles size, syntax, type, version and the set of fields.
// The version comes before the fields: a later version may well have others.
func parseTokenObject(raw []byte) (object, error) {
	if len(raw) > maxTokenRead {
		return nil, refuse("size", fmt.Errorf("token is %d bytes long", len(raw)))
	}
	v, err := decodeJSON(raw, maxTokenRead)
	if errors.Is(err, errDuplicateKey) {
		return nil, refuse("duplicate", err)
	}
	o, isObject := v.(object)
	if err != nil || !isObject {
		return nil, refuse("json", err)
	}
	if o["type"] != TokenType {
		return nil, refuse("type", nil)
	}
	if o["version"] != number(TokenVersion) {
		return nil, refuse("version", nil)
	}
	want := Token{}.object()
	for field := range o {
		if _, known := want[field]; !known {
			return nil, refuse("field", fmt.Errorf("unknown field %.32q", field))
		}
	}
	if len(o) != len(want) {
		return nil, refuse("field", fmt.Errorf("%d fields of %d", len(o), len(want)))
	}
	return o, nil
}

// fieldReader reads fields and keeps the first error.
type fieldReader struct {
	o   object
	err error
}

func (r *fieldReader) refuse(reason string, err error) {
	if r.err == nil {
		r.err = refuse(reason, err)
	}
}

func (r *fieldReader) keyslots() []string {
	a, _ := r.o["keyslots"].([]any)
	if len(a) == 1 {
		s, _ := a[0].(string)
		if n, err := strconv.Atoi(s); err == nil && n >= 0 && n <= maxKeyslot && strconv.Itoa(n) == s {
			return []string{s}
		}
	}
	r.refuse("keyslots", nil)
	return nil
}

func (r *fieldReader) generation() int {
	s, _ := r.o["generation"].(integer)
	n, err := strconv.Atoi(string(s))
	if err != nil || n < 1 || n > maxGeneration {
		r.refuse("generation", err)
	}
	return n
}

func (r *fieldReader) arn() string {
	s, _ := r.o["key_arn"].(string)
	if !ValidKeyARN(s) {
		r.refuse("arn", nil)
	}
	return s
}

func (r *fieldReader) context() Context {
	o, _ := r.o["encryption_context"].(object)
	c := make(Context, len(o))
	for k, v := range o {
		c[k], _ = v.(string) // anything else becomes "", which check refuses
	}
	if err := c.check(); err != nil {
		r.refuse("context", err)
	}
	return c
}

// bytes reads base64 in its one padded spelling, of exactly want bytes, or of
// one at least if want is 0: what is above that, the token's size bounds.
func (r *fieldReader) bytes(field string, want int) []byte {
	s, isString := r.o[field].(string)
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	// The decoder skips line breaks; encoding again shows them.
	canonical := isString && err == nil && base64.StdEncoding.EncodeToString(b) == s
	if !canonical || len(b) == 0 || (want > 0 && len(b) != want) {
		r.refuse(reasonOf[field], err)
		return nil
	}
	return b
}

var reasonOf = map[string]string{"wrapped_key": "wrapped-key", "salt": "salt", "mac": "mac"}

// refuse blames the token. The cause names the rule and quotes nothing.
func refuse(rule string, err error) *fault.Error {
	f := &fault.Error{
		Class:  fault.Integrity,
		Reason: "token-" + rule,
		Cause:  "The volseal token in the header is malformed (" + rule + ").",
		Hint:   "Compare the header with a backup before trusting this volume; if it came from a snapshot, ask where that was made.",
		Err:    err,
	}
	if rule == "version" {
		f.Cause = "The volseal token in the header has a version that this program does not know."
		f.Hint = "If a newer volseal wrote the header, upgrade this host; else treat the volume as tampered with."
	}
	return f
}
