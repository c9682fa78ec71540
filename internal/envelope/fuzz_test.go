// SPDX-License-Identifier: Apache-2.0

package envelope

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"testing"

	"github.com/volseal/volseal/internal/fault"
)

// FuzzParseToken: no input panics; each refusal is class Integrity with a Reason
// of ours; what is taken has one spelling, within the limits.
func FuzzParseToken(f *testing.F) {
	raw, err := os.ReadFile("testdata/token.json")
	if err != nil {
		f.Fatal(err)
	}
	var seeds []struct{ Token string }
	if err := json.Unmarshal(raw, &seeds); err != nil {
		f.Fatal(err)
	}
	for _, s := range seeds {
		f.Add([]byte(s.Token))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		token, err := ParseToken(raw)
		if err != nil {
			if fault.ClassOf(err) != fault.Integrity || !slices.Contains(Reasons(), fault.ReasonOf(err)) {
				t.Fatalf("%q %q: %v", fault.ClassOf(err), fault.ReasonOf(err), err)
			}
			return
		}
		canonical, err := CanonicalJSON(raw)
		if err != nil {
			t.Fatalf("a token that is not canonicalisable: %v", err)
		}
		if len(canonical) > maxTokenWritten {
			return
		}
		encoded, err := token.Encode()
		if err != nil || !bytes.Equal(encoded, canonical) {
			t.Fatalf("parse lost something: %q, %q (%v)", canonical, encoded, err)
		}
	})
}

// FuzzCanonicalJSON: the form is a fixed point, means the same as its input, and
// is all that the MAC sees: two spellings of one value have one MAC.
func FuzzCanonicalJSON(f *testing.F) {
	raw, err := os.ReadFile("testdata/canonical.json")
	if err != nil {
		f.Fatal(err)
	}
	var seeds []struct{ Input string }
	if err := json.Unmarshal(raw, &seeds); err != nil {
		f.Fatal(err)
	}
	for _, s := range seeds {
		f.Add([]byte(s.Input))
	}
	token := goodToken(f)
	key := secretOf(f, bytes.Repeat([]byte{9}, 32))
	f.Fuzz(func(t *testing.T, raw []byte) {
		once, err := CanonicalJSON(raw)
		if err != nil {
			return
		}
		twice, err := CanonicalJSON(once)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%q became %q (%v)", once, twice, err)
		}
		var a, b any
		if json.Unmarshal(raw, &a) != nil || json.Unmarshal(once, &b) != nil || !reflect.DeepEqual(a, b) {
			t.Fatalf("%q and %q differ in meaning", raw, once)
		}
		sealed := token
		if err := sealed.Seal(key, raw); err != nil {
			t.Fatal(err)
		}
		var indented bytes.Buffer
		if err := json.Indent(&indented, once, " ", "\t"); err != nil {
			t.Fatal(err)
		}
		if indented.Len() > maxCanonicalBytes {
			return
		}
		if err := sealed.Verify(key, indented.Bytes()); err != nil {
			t.Fatalf("another spelling of %q has another MAC", raw)
		}
	})
}
