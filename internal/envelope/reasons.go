// SPDX-License-Identifier: Apache-2.0

package envelope

// Reasons lists the words by which ParseToken and Verify refuse a token, for
// metrics, whose labels come from closed lists.
func Reasons() []string {
	reasons := []string{"mac"}
	for _, rule := range []string{
		"arn", "context", "duplicate", "field", "generation", "json", "keyslots", "mac", "salt", "size", "type", "version", "wrapped-key",
	} {
		reasons = append(reasons, "token-"+rule)
	}
	return reasons
}
