// SPDX-License-Identifier: Apache-2.0

//go:build goexperiment.runtimesecret

package envelope

import "runtime/secret"

// Erasing runs f, which handles key bytes through libraries, and has the runtime
// erase what f leaves in registers and stack, and on the heap once collected. It
// does not reach goroutines that f starts or talks to. See docs/key-lifetime.md.
func Erasing(f func()) { secret.Do(f) }
