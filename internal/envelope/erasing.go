// SPDX-License-Identifier: Apache-2.0

//go:build !goexperiment.runtimesecret

package envelope

// erasing runs f. Built with GOEXPERIMENT=runtimesecret it also has the runtime
// erase what f leaves in registers, stack and heap; see docs/key-lifetime.md.
func erasing(f func()) { f() }
