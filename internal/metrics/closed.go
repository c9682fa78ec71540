// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"slices"

	"github.com/volseal/volseal/internal/fault"
)

// closed is the list of values a label may take. Whatever else arrives is
// counted as "other": a label with as many values as the world has words would
// end in a Prometheus without memory.
type closed struct{ values []string }

func newClosed(values []string) closed { return closed{slices.Clone(values)} }

// of is the value itself if it is listed.
func (c closed) of(value string) string {
	if slices.Contains(c.values, value) {
		return value
	}
	return other
}

// all are the values that series exist for from the start.
func (c closed) all() []string {
	if slices.Contains(c.values, other) {
		return c.values
	}
	return append(slices.Clone(c.values), other)
}

// answers are the classes of a request's answer.
func answers() []string { return append([]string{classOK}, failures()...) }

// failures are the classes of what failed.
func failures() []string {
	var values []string
	for _, c := range fault.Classes() {
		values = append(values, string(c))
	}
	return values
}

// failure is the class as a label; what is no class counts as unknown.
func failure(c fault.Class) string {
	if slices.Contains(fault.Classes(), c) {
		return string(c)
	}
	return string(fault.Unknown)
}

// answer is the class of a request's answer as a label.
func answer(c fault.Class) string {
	if c == fault.None {
		return classOK
	}
	return failure(c)
}
