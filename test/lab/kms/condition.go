// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"slices"
	"strings"
)

// operator is a condition operator taken apart: "ForAllValues:StringLikeIfExists".
type operator struct {
	forAll, forAny, ifExists bool
	negated                  bool
	null                     bool
	equal                    func(got, want string) bool
}

// parseOperator returns ok false for an operator that is not emulated.
func parseOperator(name string) (op operator, ok bool) {
	name, op.forAll = strings.CutPrefix(name, "ForAllValues:")
	if !op.forAll {
		name, op.forAny = strings.CutPrefix(name, "ForAnyValue:")
	}
	name, op.ifExists = strings.CutSuffix(name, "IfExists")
	op.negated = strings.Contains(name, "Not")
	switch strings.Replace(name, "Not", "", 1) {
	case "StringEquals":
		op.equal = func(got, want string) bool { return got == want }
	case "StringEqualsIgnoreCase", "Bool":
		op.equal = strings.EqualFold
	case "StringLike", "ArnLike", "ArnEquals":
		op.equal = func(got, want string) bool { return wildcard(want, got) }
	case "Null":
		op.null = true
	default:
		return operator{}, false
	}
	plain := !op.forAll && !op.forAny && !op.ifExists && !op.negated
	return op, name != "NotBool" && (plain || !op.null)
}

// holds compares the values that the request has with those the policy wants.
func (op operator) holds(got, wanted []string) bool {
	one := func(value string) bool {
		matches := slices.ContainsFunc(wanted, func(want string) bool { return op.equal(value, want) })
		return matches != op.negated
	}
	not := func(value string) bool { return !one(value) }
	switch {
	case op.null:
		return slices.Contains(wanted, "true") == (len(got) == 0)
	case len(got) == 0 && op.forAny && !op.ifExists:
		return false
	case len(got) == 0:
		return op.forAll || op.ifExists || op.negated
	case op.forAll, op.negated && !op.forAny:
		return !slices.ContainsFunc(got, not)
	}
	return slices.ContainsFunc(got, one)
}

// conditionsHold wants every condition of the statement to hold.
func (s statement) conditionsHold(facts map[string][]string) bool {
	for name, block := range s.Condition {
		op, ok := parseOperator(name)
		if !ok {
			return false
		}
		for factName, wanted := range block {
			if !op.holds(facts[strings.ToLower(factName)], wanted) {
				return false
			}
		}
	}
	return true
}

func (s statement) checkConditions() error {
	for name, block := range s.Condition {
		if _, ok := parseOperator(name); !ok {
			return malformedPolicy("Statement %q: condition operator %q is not supported", s.Sid, name)
		}
		for factName, wanted := range block {
			if len(wanted) == 0 || slices.ContainsFunc(wanted, func(v string) bool { return strings.Contains(v, "${") }) {
				return malformedPolicy("Statement %q: condition %q wants values without variables", s.Sid, factName)
			}
		}
	}
	return nil
}
