// SPDX-License-Identifier: Apache-2.0

package keypolicy

import (
	"strings"
	"testing"
)

// TestParse protects customers: what is pasted into their policy names whom
// they mean, and nobody else.
func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"916150859591":                                   "arn:aws:iam::916150859591:root",
		"arn:aws:iam::916150859591:root":                 "arn:aws:iam::916150859591:root",
		"arn:aws-cn:iam::916150859591:root":              "arn:aws-cn:iam::916150859591:root",
		"arn:aws-us-gov:iam::916150859591:role/db":       "arn:aws-us-gov:iam::916150859591:role/db",
		"arn:aws:iam::916150859591:role/hosts/eu/db_1@x": "arn:aws:iam::916150859591:role/hosts/eu/db_1@x",
		"*":                                     "",
		"":                                      "",
		"91615085959":                           "",
		"9161508595911":                         "",
		"916150859591\n":                        "",
		"arn:aws:iam::916150859591:user/eve":    "",
		"arn:aws:iam::*:root":                   "",
		"arn:aws:iam::916150859591:role/*":      "",
		"arn:aws:iam::916150859591:role/":       "",
		`arn:aws:iam::916150859591:role/a"],"b`: "",
		"arn:aws:sts::916150859591:assumed-role/db/i-012": "",
		"arn:gcp:iam::916150859591:root":                  "",
	} {
		got, err := Parse(text)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
	if _, err := Parse("arn:aws:sts::916150859591:assumed-role/db/i-012"); !strings.Contains(err.Error(), "role/NAME") {
		t.Errorf("a session is not led to its role: %v", err)
	}
}

// TestLacking protects the customer from pasting too little, and from being
// asked for what is there.
func TestLacking(t *testing.T) {
	tried := []string{"kms:DescribeKey", "kms:Decrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"}
	for name, tt := range map[string]struct {
		denied []string
		want   int
	}{
		"nothing":    {nil, 0},
		"one action": {[]string{"kms:Decrypt"}, 1},
		"everything": {tried, 2},
	} {
		if got := Lacking("p", tt.denied, tried); len(got) != tt.want {
			t.Errorf("%s: %d statements, want %d", name, len(got), tt.want)
		}
	}
	if got := Lacking("p", []string{"kms:Decrypt"}, tried)[0]; got.Sid != "Allow use of the key" || len(got.Action) != 5 || got.Principal.AWS != "p" {
		t.Errorf("%+v", got)
	}
}
