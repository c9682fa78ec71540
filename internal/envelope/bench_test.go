// SPDX-License-Identifier: Apache-2.0

package envelope

import "testing"

// What a second volume of one database pays at boot: no call, no key copied.
func BenchmarkProveHit(b *testing.B) {
	ring, _, _ := newTestRing(b, Options{})
	ref := testRef(b, testARN, "db")
	wrapped := make([]byte, 184)
	b.ReportAllocs()
	for b.Loop() {
		p, err := ring.Prove(b.Context(), ref, wrapped)
		if err != nil {
			b.Fatal(err)
		}
		p.Release()
	}
}

func BenchmarkValid(b *testing.B) {
	ring, _, _ := newTestRing(b, Options{})
	p, err := ring.Prove(b.Context(), testRef(b, testARN, "db"), make([]byte, 184))
	if err != nil {
		b.Fatal(err)
	}
	defer p.Release()
	b.ReportAllocs()
	for b.Loop() {
		if !ring.Valid(p) {
			b.Fatal("expired")
		}
	}
}

func BenchmarkDerive(b *testing.B) {
	key := secretOf(b, make([]byte, 32))
	salt := make([]byte, 32)
	b.ReportAllocs()
	for b.Loop() {
		passphrase, mac, err := derive(key, salt)
		if err != nil {
			b.Fatal(err)
		}
		passphrase.Destroy()
		mac.Destroy()
	}
}

func BenchmarkParseToken(b *testing.B) {
	raw, err := goodToken(b).Encode()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseToken(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	token := goodToken(b)
	key := secretOf(b, make([]byte, 32))
	meaning := []byte(`{"uuid":"11111111-2222-3333-4444-555555555555"}`)
	if err := token.Seal(key, meaning); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := token.Verify(key, meaning); err != nil {
			b.Fatal(err)
		}
	}
}
