// SPDX-License-Identifier: Apache-2.0

package envelope

import "regexp"

// keyARN has the region as its one group.
var keyARN = regexp.MustCompile(`^arn:aws(?:-[a-z]{1,16}){0,3}:kms:([a-z]{2}(?:-[a-z]{1,16}){1,3}-[0-9]{1,2}):[0-9]{12}:key/` +
	`(?:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|mrk-[0-9a-f]{32})$`)

// ValidKeyARN reports whether s has the form of a KMS key's ARN: not an alias,
// not a bare key id.
func ValidKeyARN(s string) bool { return keyARN.MatchString(s) }

// KeyRegion returns the region of a key ARN, "" if it is none.
func KeyRegion(s string) string {
	if m := keyARN.FindStringSubmatch(s); m != nil {
		return m[1]
	}
	return ""
}
