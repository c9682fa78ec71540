// SPDX-License-Identifier: Apache-2.0

package envelope

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/volseal/volseal/internal/fault"
)

// The vectors in testdata were made by an independent implementation (Python's
// hashlib, hmac and json) and are meant for a third one: docs/header-format.md
// says how to read them.
func vectors[T any](t *testing.T, file string) []T {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	var v []T
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// hexBytes is hexadecimal in the vectors.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

type verdict struct {
	Class  fault.Class `json:"class"`
	Reason string      `json:"reason"`
}

func (v verdict) check(t *testing.T, err error) {
	t.Helper()
	if fault.ClassOf(err) != v.Class || fault.ReasonOf(err) != v.Reason {
		t.Errorf("got %q %q (%v), want %q %q", fault.ClassOf(err), fault.ReasonOf(err), err, v.Class, v.Reason)
	}
}

// One canonical form, and refusal of all that readers could disagree about.
func TestCanonicalVectors(t *testing.T) {
	type vector struct {
		Name, Input, Canonical string
		Refused                bool
	}
	for _, v := range vectors[vector](t, "canonical.json") {
		t.Run(v.Name, func(t *testing.T) {
			got, err := CanonicalJSON([]byte(v.Input))
			if (err != nil) != v.Refused || string(got) != v.Canonical {
				t.Errorf("got %q, %v; want %q", got, err, v.Canonical)
			}
		})
	}
}

// A token has one spelling; each way to have another is refused by name.
func TestTokenVectors(t *testing.T) {
	type vector struct {
		Name, Token string
		verdict
	}
	for _, v := range vectors[vector](t, "token.json") {
		t.Run(v.Name, func(t *testing.T) {
			token, err := ParseToken([]byte(v.Token))
			v.check(t, err)
			if err == nil {
				roundTrip(t, token)
			}
		})
	}
}

// roundTrip: what is written is read back the same, and written to the same bytes.
func roundTrip(t *testing.T, token Token) {
	t.Helper()
	raw, err := token.Encode()
	if err != nil {
		t.Fatalf("encode what was parsed: %v", err)
	}
	again, err := ParseToken(raw)
	if err != nil {
		t.Fatalf("parse what was encoded: %v", err)
	}
	twice, err := again.Encode()
	if err != nil || !bytes.Equal(raw, twice) {
		t.Fatalf("%q became %q (%v)", raw, twice, err)
	}
}

// Any change of what the MAC covers is found, and nothing else disturbs it.
func TestMACVectors(t *testing.T) {
	type vector struct {
		Name, Token, Meaning string
		MACKey               hexBytes `json:"mac_key"`
		verdict
	}
	for _, v := range vectors[vector](t, "mac.json") {
		t.Run(v.Name, func(t *testing.T) {
			token, err := ParseToken([]byte(v.Token))
			if err != nil {
				t.Fatal(err)
			}
			v.check(t, token.Verify(secretOf(t, v.MACKey), []byte(v.Meaning)))
		})
	}
}

type hierarchy struct {
	Name       string
	DataKey    hexBytes `json:"data_key"`
	Salt       hexBytes
	Passphrase hexBytes
	MACKey     hexBytes `json:"mac_key"`
	Meaning    string
	MACInput   string `json:"mac_input"`
	MAC        hexBytes
	Token      string
	CacheKey   hexBytes `json:"cache_key"`
}

// From data key to token, each step to the byte.
func TestHierarchyVectors(t *testing.T) {
	for _, v := range vectors[hierarchy](t, "hierarchy.json") {
		t.Run(v.Name, func(t *testing.T) {
			token, err := ParseToken([]byte(v.Token))
			if err != nil {
				t.Fatal(err)
			}
			passphrase, mac, err := derive(secretOf(t, v.DataKey), token.Salt)
			if err != nil {
				t.Fatal(err)
			}
			defer passphrase.Destroy()
			defer mac.Destroy()
			equal(t, "salt", token.Salt, v.Salt)
			equal(t, "passphrase", passphrase.Bytes(), v.Passphrase)
			equal(t, "MAC key", mac.Bytes(), v.MACKey)
			input, err := token.macInput([]byte(v.Meaning))
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "MAC input", input, []byte(v.MACInput))
			sealed := token
			if err := sealed.Seal(mac, []byte(v.Meaning)); err != nil {
				t.Fatal(err)
			}
			equal(t, "MAC", sealed.MAC, v.MAC)
			raw, err := sealed.Encode()
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "token", raw, []byte(v.Token))
			ref := Ref{KeyARN: token.KeyARN, Context: token.EncryptionContext}
			id := ref.entry(token.WrappedKey)
			equal(t, "cache key", id[:], v.CacheKey)
		})
	}
}

// The worked example in the document is the vector, to the byte.
func TestWorkedExampleInDocument(t *testing.T) {
	doc, err := os.ReadFile("../../docs/header-format.md")
	if err != nil {
		t.Fatal(err)
	}
	v := vectors[hierarchy](t, "hierarchy.json")[0]
	for name, want := range map[string]string{
		"data key": hex.EncodeToString(v.DataKey), "salt": hex.EncodeToString(v.Salt),
		"passphrase": hex.EncodeToString(v.Passphrase), "MAC key": hex.EncodeToString(v.MACKey),
		"MAC": hex.EncodeToString(v.MAC), "MAC input": v.MACInput, "token": v.Token,
	} {
		if !strings.Contains(string(doc), want) {
			t.Errorf("docs/header-format.md lacks the %s %s", name, want)
		}
	}
}

func equal(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}

func secretOf(t testing.TB, b []byte) *Secret {
	t.Helper()
	s, err := SecretFrom(bytes.Clone(b))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Destroy)
	return s
}
