// SPDX-License-Identifier: Apache-2.0

package envelope

import "context"

// DataKeyBytes is the length of every data key.
const DataKeyBytes = 32

// KMS is what the Keyring asks of a key service; internal/envelope/kms
// implements it. keyARN is always the pinned ARN and is sent as KeyId. Every
// error is a *fault.Error, also when ctx ends. Implementations do not retry.
type KMS interface {
	// GenerateDataKey returns a new 32-byte data key, plain (the caller's to
	// destroy) and wrapped.
	GenerateDataKey(ctx context.Context, keyARN string, ec Context) (plain *Secret, wrapped []byte, err error)
	// Decrypt unwraps a data key. A key wrapped by another CMK or under another
	// context is class Integrity.
	Decrypt(ctx context.Context, keyARN string, ec Context, wrapped []byte) (*Secret, error)
	// ReEncrypt has a data key that is wrapped by one CMK wrapped by another, both
	// pinned, under the same context. The plaintext stays in KMS. No refusal of it
	// is class Revoked: it may concern either CMK, or the permission to do this.
	ReEncrypt(ctx context.Context, fromARN, toARN string, ec Context, wrapped []byte) (rewrapped []byte, err error)
}
