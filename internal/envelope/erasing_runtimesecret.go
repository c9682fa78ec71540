// SPDX-License-Identifier: Apache-2.0

//go:build goexperiment.runtimesecret

package envelope

import "runtime/secret"

// erasing runs f and has the runtime erase what it leaves in registers and
// stack, and on the heap once collected. It does not reach goroutines f starts.
func erasing(f func()) { secret.Do(f) }
