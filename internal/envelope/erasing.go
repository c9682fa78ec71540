// SPDX-License-Identifier: Apache-2.0

//go:build !goexperiment.runtimesecret

package envelope

// Erasing runs f, which handles key bytes through libraries. Built with
// GOEXPERIMENT=runtimesecret it also has the runtime erase what f leaves in
// registers, stack and heap; built without it, as here, it only runs f. See
// docs/key-lifetime.md.
func Erasing(f func()) { f() }
