// SPDX-License-Identifier: Apache-2.0

// Package kms is AWS KMS as the envelope package wants it: it pins the key,
// checks the answers, moves plaintext out of the SDK's hands, and says of each
// error who must act. It caches nothing and retries nothing.
package kms
