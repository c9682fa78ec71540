// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"os"
	"strings"
	"testing"
)

// TestPolicyDocument: the name in the metric leads an operator to its meaning.
func TestPolicyDocument(t *testing.T) {
	raw, err := os.ReadFile("../../../docs/header-policy.md")
	if err != nil {
		t.Fatal(err)
	}
	for r, text := range refusals {
		if want := "| `" + string(r) + "` | " + text.cause + " |"; !strings.Contains(string(raw), want) {
			t.Errorf("docs/header-policy.md lacks the line %s", want)
		}
	}
}
