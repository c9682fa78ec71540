// SPDX-License-Identifier: Apache-2.0

package luks

import "testing"

// BenchmarkJudge is the cost of our own reading and policy.
func BenchmarkJudge(b *testing.B) {
	h := builtHeader(b)
	for b.Loop() {
		if _, err := judge(h); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFreeze is all that comes before KMS is asked: copy, policy, cryptsetup's view.
func BenchmarkFreeze(b *testing.B) {
	l, dev := newLUKS(b), builtDisk(b)
	for b.Loop() {
		h, err := l.Freeze(b.Context(), dev, "orders")
		if err != nil {
			b.Fatal(detail(err))
		}
		l.Discard(h)
	}
}

// BenchmarkZeroScan must outrun any EBS volume (4 GB/s at most).
func BenchmarkZeroScan(b *testing.B) {
	buf, err := newBuffer(ioChunk)
	if err != nil {
		b.Fatal(err)
	}
	defer buf.release()
	b.SetBytes(ioChunk)
	for b.Loop() {
		if !isZero(buf) {
			b.Fatal("not zero")
		}
	}
}
