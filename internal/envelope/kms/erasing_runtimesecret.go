// SPDX-License-Identifier: Apache-2.0

//go:build goexperiment.runtimesecret

package kms

import "runtime/secret"

// erasing has the runtime erase what the SDK leaves behind in decoding an
// answer. The transport's own goroutines are beyond it (docs/key-lifetime.md).
func erasing(f func()) { secret.Do(f) }
