// SPDX-License-Identifier: Apache-2.0

package envelope

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/volseal/volseal/internal/fault"
)

func goodToken(t testing.TB) Token {
	t.Helper()
	return Token{
		Keyslots:          []string{"0"},
		Version:           1,
		Generation:        1,
		KeyARN:            testARN,
		EncryptionContext: testRef(t, testARN, "db").Context,
		WrappedKey:        bytes.Repeat([]byte{1}, 184),
		Salt:              bytes.Repeat([]byte{2}, 32),
		MAC:               bytes.Repeat([]byte{3}, 32),
	}
}

// Nothing is written that would not be read back: a volume is formatted once.
func TestEncodeRefusesWhatParseWould(t *testing.T) {
	for reason, spoil := range map[string]func(*Token){
		"token-version":     func(o *Token) { o.Version = 2 },
		"token-generation":  func(o *Token) { o.Generation = 0 },
		"token-keyslots":    func(o *Token) { o.Keyslots = nil },
		"token-arn":         func(o *Token) { o.KeyARN = "alias/x" },
		"token-context":     func(o *Token) { o.EncryptionContext = nil },
		"token-wrapped-key": func(o *Token) { o.WrappedKey = nil },
		"token-salt":        func(o *Token) { o.Salt = o.Salt[1:] },
		"token-mac":         func(o *Token) { o.MAC = nil },
		"token-json":        func(o *Token) { o.EncryptionContext = Context{"a": "\xff"} },
		"token-size":        func(o *Token) { o.WrappedKey = make([]byte, 2500) },
	} {
		o := goodToken(t)
		spoil(&o)
		_, err := o.Encode()
		wantFault(t, err, fault.Integrity, reason)
	}
}

// What is written leaves room for what cryptsetup does to it before it is read.
func TestLargestTokenSurvivesIndenting(t *testing.T) {
	o := goodToken(t)
	o.EncryptionContext = maps.Clone(o.EncryptionContext)
	for _, k := range "abcdefgh" {
		o.EncryptionContext[strings.Repeat(string(k), maxContextKey)] = strings.Repeat("v", maxContextValue)
	}
	o.WrappedKey = bytes.Repeat([]byte{0xff}, 400) // base64 of slashes: each is escaped
	raw, err := o.Encode()
	if err != nil {
		t.Fatal(err)
	}
	indented := strings.ReplaceAll(string(raw), "/", `\/`)
	indented = strings.ReplaceAll(indented, ",", ",\n          ")
	got, err := ParseToken([]byte(indented))
	if err != nil || !bytes.Equal(got.WrappedKey, o.WrappedKey) {
		t.Fatalf("%d bytes written, %d read: %v", len(raw), len(indented), err)
	}
}

// Messages about a hostile token quote nothing of it.
func TestTokenErrorsQuoteNothing(t *testing.T) {
	o := goodToken(t)
	raw, err := o.Encode()
	if err != nil {
		t.Fatal(err)
	}
	hostile := strings.Replace(string(raw), `"salt"`, `"<script>"`, 1)
	_, err = ParseToken([]byte(hostile))
	wantFault(t, err, fault.Integrity, "token-field")
	if strings.Contains(err.Error()+fault.HintOf(err), "script") {
		t.Fatal(err)
	}
}

// A token verifies with its own key and meaning only, and a bad key is an error
// like any other, never a success.
func TestSealVerify(t *testing.T) {
	o := goodToken(t)
	key := secretOf(t, bytes.Repeat([]byte{9}, 32))
	meaning := []byte(`{"uuid":"x"}`)
	if err := o.Seal(key, meaning); err != nil {
		t.Fatal(err)
	}
	if err := o.Verify(key, meaning); err != nil {
		t.Fatal(err)
	}
	wantFault(t, o.Verify(secretOf(t, make([]byte, 32)), meaning), fault.Integrity, "mac")
	wantFault(t, o.Verify(secretOf(t, []byte{9}), meaning), fault.Integrity, "mac")
	wantFault(t, o.Verify(nil, meaning), fault.Integrity, "mac")
	o.MAC = nil
	wantFault(t, o.Verify(key, meaning), fault.Integrity, "mac")
	if o.Seal(nil, meaning) == nil || o.Seal(key, []byte("{")) == nil {
		t.Fatal("sealed without a key or a meaning")
	}
}

// The operator's pairs cannot shadow ours, and are bounded.
func TestNewContext(t *testing.T) {
	c, err := NewContext("db-7f3a", map[string]string{"customer": "acme"})
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"customer":"acme","volseal:database":"db-7f3a","volseal:purpose":"luks2-data-key-v1"}`
	if string(c.Canonical()) != want {
		t.Fatalf("got %s", c.Canonical())
	}
	nine := map[string]string{}
	for _, k := range slices.Collect(strings.SplitSeq("abcdefghi", "")) {
		nine[k] = "x"
	}
	for _, bad := range []map[string]string{
		{"volseal:database": "x"},
		{"Volseal:x": "x"},
		{"aws:ebs:id": "x"},
		{"AWS:x": "x"},
		{"": "x"},
		{"a": ""},
		{"a": "x\n"},
		{"a": "\xff"},
		{"a": "\ufffd"},
		{strings.Repeat("k", 65): "x"},
		{"a": strings.Repeat("v", 129)},
		nine,
	} {
		if _, err := NewContext("db", bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if _, err := NewContext("", nil); err == nil {
		t.Error("an empty database was taken")
	}
	if c.Equal(Context{}) || !c.Equal(c.Clone()) {
		t.Error("Equal")
	}
}

// A key ARN is a key ARN: never an alias, which its owner can point elsewhere.
func TestValidKeyARN(t *testing.T) {
	for _, s := range []string{
		testARN,
		"arn:aws-cn:kms:cn-north-1:111111111111:key/aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
		"arn:aws-iso-b:kms:us-isob-east-1:111111111111:key/mrk-0123456789abcdef0123456789abcdef",
	} {
		if !ValidKeyARN(s) {
			t.Errorf("%s refused", s)
		}
		if region := strings.Split(s, ":")[3]; KeyRegion(s) != region {
			t.Errorf("region %q of %s", KeyRegion(s), s)
		}
	}
	for _, s := range []string{"", "alias/x", testARN + " ", " " + testARN, testARN + "\n", strings.Replace(testARN, "key/", "alias/", 1)} {
		if ValidKeyARN(s) || KeyRegion(s) != "" {
			t.Errorf("%q taken", s)
		}
	}
}
