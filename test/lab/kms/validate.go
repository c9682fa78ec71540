// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"fmt"
	"slices"
	"strings"
)

// The limits of request members, from the API reference.
const (
	maxKeyID       = 2048
	maxPlaintext   = 4096
	maxCiphertext  = 6144
	maxDataKey     = 1024
	maxContext     = 8192 // bytes of all keys and values
	maxPolicy      = 131072
	maxGrantTokens = 10
)

// constraints collects what is wrong with a request before anything is done,
// and reports all of it at once in the words of AWS's validation layer.
type constraints struct{ problems []string }

func (c *constraints) fail(value, member, rule string) {
	c.problems = append(c.problems, fmt.Sprintf("Value%s at '%s' failed to satisfy constraint: Member must %s", value, member, rule))
}

func quoted(s string) string { return " '" + s + "'" }

// text wants a string between minimum and maximum bytes long.
func (c *constraints) text(member string, value *string, minimum, maximum int) {
	switch {
	case value == nil:
		c.fail(" null", member, "not be null")
	case len(*value) < minimum:
		c.fail(quoted(*value), member, fmt.Sprintf("have length greater than or equal to %d", minimum))
	case len(*value) > maximum:
		c.fail(quoted(*value), member, fmt.Sprintf("have length less than or equal to %d", maximum))
	}
}

// blob wants between one and maximum bytes. Their value is never repeated.
func (c *constraints) blob(member string, value []byte, maximum int) {
	switch {
	case value == nil:
		c.fail(" null", member, "not be null")
	case len(value) < 1:
		c.fail("", member, "have length greater than or equal to 1")
	case len(value) > maximum:
		c.fail("", member, fmt.Sprintf("have length less than or equal to %d", maximum))
	}
}

func (c *constraints) number(member string, value *int, minimum, maximum int) {
	switch {
	case value == nil:
	case *value < minimum:
		c.fail(fmt.Sprintf(" '%d'", *value), member, fmt.Sprintf("have value greater than or equal to %d", minimum))
	case *value > maximum:
		c.fail(fmt.Sprintf(" '%d'", *value), member, fmt.Sprintf("have value less than or equal to %d", maximum))
	}
}

// oneOf wants an absent value or one of allowed.
func (c *constraints) oneOf(member, value string, allowed ...string) {
	if value != "" && !slices.Contains(allowed, value) {
		c.fail(quoted(value), member, "satisfy enum value set: ["+strings.Join(allowed, ", ")+"]")
	}
}

func (c *constraints) context(member string, context map[string]string) {
	size := 0
	for k, v := range context {
		size += len(k) + len(v)
	}
	if size > maxContext {
		c.fail("", member, fmt.Sprintf("have length less than or equal to %d", maxContext))
	}
}

func (c *constraints) grantTokens(tokens []string) {
	if len(tokens) > maxGrantTokens {
		c.fail("", "grantTokens", fmt.Sprintf("have length less than or equal to %d", maxGrantTokens))
	}
}

func (c *constraints) err() error {
	switch len(c.problems) {
	case 0:
		return nil
	case 1:
		return invalid("1 validation error detected: %s", c.problems[0])
	}
	return invalid("%d validation errors detected: %s", len(c.problems), strings.Join(c.problems, "; "))
}
