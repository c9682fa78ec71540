// SPDX-License-Identifier: Apache-2.0

//go:build goexperiment.runtimesecret

package kms

const erases = true
