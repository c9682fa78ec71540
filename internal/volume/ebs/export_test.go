// SPDX-License-Identifier: Apache-2.0

package ebs

import (
	"maps"
	"slices"
)

// Codes are the error codes that the table knows.
func Codes() []string { return slices.Sorted(maps.Keys(meanings())) }
