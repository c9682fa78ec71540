// SPDX-License-Identifier: Apache-2.0

//go:build race

package kms

// The race detector's shadow of all memory would be searched too.
const raced = true
