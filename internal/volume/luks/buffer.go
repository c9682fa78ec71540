// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"bytes"
	"fmt"

	"golang.org/x/sys/unix"
)

// buffer is page-aligned memory, as direct I/O wants it. Release it.
type buffer []byte

func newBuffer(n int) (buffer, error) {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("allocate %d bytes: %w", n, err)
	}
	return b, nil
}

func (b buffer) release() { _ = unix.Munmap(b) }

var zeros [64 << 10]byte

// firstNonZero returns the offset of the first byte of b that is not zero, or -1.
func firstNonZero(b []byte) int {
	for off := 0; off < len(b); off += len(zeros) {
		part := b[off:min(off+len(zeros), len(b))]
		if bytes.Equal(part, zeros[:len(part)]) {
			continue
		}
		for i, c := range part {
			if c != 0 {
				return off + i
			}
		}
	}
	return -1
}

func isZero(b []byte) bool { return firstNonZero(b) < 0 }
