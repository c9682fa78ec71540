// SPDX-License-Identifier: Apache-2.0

// Package envelope holds everything that touches a data key: the encryption
// context it is bound to, memory for it, the token that carries it wrapped in a
// volume's header, the MAC over that header, and the Keyring, which hands a key
// out only together with a live proof that the customer's CMK is usable.
//
// It knows KMS only as the KMS interface and knows no disk, no LUKS and no
// AWS SDK. Formats are specified to the byte in docs/header-format.md.
package envelope
