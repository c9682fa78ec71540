// SPDX-License-Identifier: Apache-2.0

package keypolicy

import (
	"regexp"
	"testing"
)

// FuzzParse protects the customer's policy: whatever is given as a principal,
// what is accepted names one account or role and holds nothing that could end
// the text it is put into, or stand for others.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"916150859591", "arn:aws:iam::916150859591:root", "arn:aws-cn:iam::916150859591:role/a/b", "*", `"`, "arn:aws:iam::916150859591:role/a\nb"} {
		f.Add(seed)
	}
	safe := regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:(root|role/[^\s"\\*?]+)$`)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := Parse(text)
		if err != nil {
			return
		}
		if !safe.MatchString(got) {
			t.Fatalf("%q became %q", text, got)
		}
		if again, err := Parse(got); err != nil || again != got {
			t.Fatalf("%q is not accepted again: %v", got, err)
		}
	})
}
