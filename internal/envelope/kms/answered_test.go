// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"testing"

	"github.com/volseal/volseal/internal/fault"
)

// TestTryOfWhatIgnoresIt protects from something before KMS that drops the flag
// of a dry run: its yes is no yes of KMS.
func TestTryOfWhatIgnoresIt(t *testing.T) {
	c := serve(t, good(testARN, plainKey, blob))
	for _, p := range Permissions() {
		wantFault(t, c.Try(t.Context(), p, testARN, testContext), fault.Unknown, "answer-dry-run")
	}
	c = serve(t, says(400, "ValidationException", "1 validation error detected: Value null at 'ciphertextBlob' failed"))
	if err := c.Try(t.Context(), MayDecrypt, testARN, testContext); !Untried(err) || Denied(err) {
		t.Errorf("an endpoint that knows no such dry run: %v", err)
	}
	c = serve(t, reply{status: 200, body: `{}`})
	_, err := c.Describe(t.Context(), testARN)
	wantFault(t, err, fault.Unknown, "answer-empty")
}
