// SPDX-License-Identifier: Apache-2.0

package fault_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/volseal/volseal/internal/fault"
)

// TestSomebodyActs protects whoever is woken: no error leaves open whose it is,
// and the nearest word on it counts.
func TestSomebodyActs(t *testing.T) {
	for _, c := range fault.Classes() {
		if len(c.Owners()) == 0 {
			t.Errorf("nobody acts on %s", c)
		}
	}
	inner := &fault.Error{Class: fault.Unreachable, Cause: "x.", Who: []fault.Owner{fault.AWS}}
	for what, c := range map[string]struct {
		err  error
		want []fault.Owner
	}{
		"no error":          {nil, nil},
		"its own word":      {inner, []fault.Owner{fault.AWS}},
		"wrapped":           {fmt.Errorf("ask: %w", inner), []fault.Owner{fault.AWS}},
		"the class's":       {&fault.Error{Class: fault.Revoked}, []fault.Owner{fault.Customer}},
		"nobody classified": {errors.New("x"), []fault.Owner{fault.Platform}},
	} {
		if got := fault.WhoOf(c.err); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", what, got, c.want)
		}
	}
}

// TestCustomerRefuses protects mounted databases: nothing but the customer's own
// and plain no may count towards a lock.
func TestCustomerRefuses(t *testing.T) {
	for _, c := range fault.Classes() {
		if got := fault.CustomerRefuses(&fault.Error{Class: c}); got != (c == fault.Revoked) {
			t.Errorf("%s counts as the customer's word: %v", c, got)
		}
	}
	for _, reason := range []string{fault.ReasonDeniedByPlatform, fault.ReasonDeniedUnclear} {
		if fault.CustomerRefuses(fmt.Errorf("prove: %w", &fault.Error{Class: fault.Revoked, Reason: reason})) {
			t.Errorf("%s counts as the customer's word", reason)
		}
	}
}
