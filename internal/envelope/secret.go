// SPDX-License-Identifier: Apache-2.0

package envelope

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/volseal/volseal/internal/fault"
)

const redacted = "[secret]"

// maxSecret bounds a secret: room for a key, and for an answer that holds one.
const maxSecret = 16 << 10

// Secret is key material outside the Go heap, where neither the garbage
// collector copies it nor a core dump, swap or /proc/self/mem shows it. It has
// one owner, who must Destroy it on each path; there is no finalizer, because a
// view from Bytes does not keep the memory alive.
//
// Each key costs one locked page (4 KiB) of RLIMIT_MEMLOCK and one mapping: the
// customary 8 MiB hold 2000 of them, far beyond what a Keyring keeps.
//
// A copied struct value shares the one pointer and its end, and printing it shows
// no key; go vet refuses the copy all the same.
type Secret struct {
	_   noCopy
	mem *memory
}

// noCopy makes go vet's copylocks report copies.
type noCopy struct{}

func (*noCopy) Lock()   {}
func (*noCopy) Unlock() {}

// NewSecret returns n zero bytes, 1 to 16384, to be filled through Bytes. The
// error is a *fault.Error: no locked memory is to be had.
func NewSecret(n int) (*Secret, error) {
	if n < 1 || n > maxSecret {
		return nil, &fault.Error{Class: fault.Unknown, Reason: "secret-size", Cause: fmt.Sprintf("A secret of %d bytes is not possible.", n)}
	}
	m, err := allocate(n)
	if err != nil {
		return nil, &fault.Error{
			Class:  fault.Misconfigured,
			Reason: "memlock",
			Cause:  "No locked memory is left for key material.",
			Hint:   "Raise LimitMEMLOCK= of volseal.service.",
			Err:    err,
		}
	}
	return &Secret{mem: m}, nil
}

// SecretFrom moves b into a new Secret: b is wiped, also on error.
func SecretFrom(b []byte) (*Secret, error) {
	defer clear(b)
	s, err := NewSecret(len(b))
	if err != nil {
		return nil, err
	}
	copy(s.Bytes(), b)
	return s, nil
}

// Bytes returns the memory itself, not a copy; nil once destroyed. Using a view
// after Destroy is a fault of the program that the kernel ends with SIGSEGV.
func (s *Secret) Bytes() []byte {
	if s == nil {
		return nil
	}
	return s.mem.bytes()
}

// Destroy wipes and releases the memory. Harmless on nil and when repeated.
func (s *Secret) Destroy() {
	if s == nil {
		return
	}
	s.mem.release()
}

// Equal compares in constant time. Lengths are not secret. Nil or destroyed
// secrets equal nothing, not even each other.
func (s *Secret) Equal(o *Secret) bool {
	a, b := s.Bytes(), o.Bytes()
	return len(a) > 0 && subtle.ConstantTimeCompare(a, b) == 1
}

// Clone returns an independent copy with an owner of its own.
func (s *Secret) Clone() (*Secret, error) {
	c, err := NewSecret(len(s.Bytes()))
	if err != nil {
		return nil, err
	}
	copy(c.Bytes(), s.Bytes())
	return c, nil
}

// Printing shows a fixed word whatever the verb; encoding is refused, since a
// key that is being written somewhere is a fault of the program.

var errEncode = errors.New("a secret cannot be encoded")

func (*Secret) String() string { return redacted }

// GoString is String, for %#v.
func (*Secret) GoString() string { return redacted }

// Format is String, for every verb.
func (*Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue is String, for log/slog.
func (*Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON refuses.
func (*Secret) MarshalJSON() ([]byte, error) { return nil, errEncode }

// MarshalText refuses.
func (*Secret) MarshalText() ([]byte, error) { return nil, errEncode }

// MarshalBinary refuses.
func (*Secret) MarshalBinary() ([]byte, error) { return nil, errEncode }

// GobEncode refuses.
func (*Secret) GobEncode() ([]byte, error) { return nil, errEncode }
