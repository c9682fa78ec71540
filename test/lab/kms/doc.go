// SPDX-License-Identifier: Apache-2.0

// Package kms emulates AWS KMS as its clients see it: the JSON 1.1 protocol,
// key states, key policies, grants and the exact errors of each, with real
// cryptography inside. Beside the protocol it has a Go interface for the lab
// itself: what an operator of the emulated world does to keys, and what EC2
// asks of KMS on a caller's behalf.
//
// Nothing here knows volseal, and no product code may import it. Where AWS's
// behaviour is documented or was recorded by others the emulator follows it to
// the letter of the message; what it does not emulate (custom key stores,
// multi-Region keys, signing, rotation) it refuses instead of pretending.
package kms
