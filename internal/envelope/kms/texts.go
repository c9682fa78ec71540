// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"strings"

	"github.com/volseal/volseal/internal/fault"
)

// KMS says some things only in prose. The rows below are tried in order on the
// message in lower case; they match on as few words as carry the meaning, since
// the prose changes.

type textRow struct {
	words []string // all of them occur
	v     verdict
}

func firstMatch(rows []textRow, text string) (verdict, bool) {
	text = strings.ToLower(text)
rows:
	for _, r := range rows {
		for _, w := range r.words {
			if !strings.Contains(text, w) {
				continue rows
			}
		}
		return r.v, true
	}
	return verdict{}, false
}

// stateTexts are KMSInvalidStateException's: "Key states of KMS keys" and
// "Troubleshooting external key stores" in the developer guide. Of the latter,
// only what the customer's key manager refuses on purpose is revocation.
var stateTexts = []textRow{
	{[]string{"external key", "denied access"}, verdict{class: fault.Revoked, cause: "The customer's external key manager denied the use of the key.", hint: askCustomer}},
	{[]string{"external key", "not authorized"}, verdict{class: fault.Revoked, cause: "The customer's external key manager denied the use of the key.", hint: askCustomer}},
	{[]string{"external key", "is not enabled"}, verdict{class: fault.Revoked, cause: "The external key behind the CMK is disabled.", hint: askCustomer}},
	{[]string{"external key", "disabled"}, verdict{class: fault.Revoked, cause: "The external key behind the CMK is disabled.", hint: askCustomer}},
	{[]string{"external key", "ciphertext", "corrupted"}, verdict{class: fault.Integrity, cause: "The external key store does not recognise the wrapped data key.", hint: checkHeader}},
	{[]string{"external key"}, verdict{class: fault.Unreachable, cause: "The customer's external key store is not working.", hint: askKeyStore}},
	{[]string{"pending deletion"}, verdict{class: fault.Revoked, cause: "The CMK is scheduled for deletion.", hint: "The customer can cancel the deletion (kms:CancelKeyDeletion) and enable the key; once it is deleted, what it encrypted is lost."}},
	{[]string{"pending replica deletion"}, verdict{class: fault.Revoked, cause: "The CMK is scheduled for deletion.", hint: "The customer can cancel the deletion (kms:CancelKeyDeletion) and enable the key; once it is deleted, what it encrypted is lost."}},
	{[]string{"is disabled"}, verdict{class: fault.Revoked, cause: "The CMK is disabled.", hint: "The customer can enable it again (kms:EnableKey)."}},
	{[]string{"pending import"}, verdict{class: fault.Misconfigured, cause: "The CMK has no key material: it is waiting for an import.", hint: "The customer must import the key material again, or better offer a key whose material KMS made."}},
	{[]string{"key store"}, verdict{class: fault.Unreachable, cause: "The customer's custom key store is not connected.", hint: askKeyStore}},
	{[]string{"cluster"}, verdict{class: fault.Unreachable, cause: "The customer's CloudHSM key store is not working.", hint: askKeyStore}},
	{[]string{"unavailable"}, verdict{class: fault.Unreachable, cause: "The CMK is unavailable.", hint: waitForAWS}},
	{[]string{"creating"}, verdict{class: fault.Unreachable, cause: "The CMK is still being created.", hint: waitForAWS}},
	{[]string{"updating"}, verdict{class: fault.Unreachable, cause: "The CMK is being updated.", hint: waitForAWS}},
}

func judgeState(text string) verdict {
	if v, found := firstMatch(stateTexts, text); found {
		return v
	}
	return verdict{class: fault.Unknown, cause: "The CMK is in a state that does not allow its use, and KMS does not say which.", hint: "Ask the customer about the key's state (kms:DescribeKey); it is retried."}
}

// deniedTexts are AccessDeniedException's: IAM's "Troubleshoot access denied
// error messages" and what KMS says of another account's key. All are class
// revoked; the hint says whose policy it is.
var deniedTexts = []textRow{
	{[]string{"no resource-based policy allows"}, denied("The customer's key policy does not allow it.", customerPolicy)},
	{[]string{"explicit deny", "resource-based policy"}, denied("The customer's key policy denies it.", customerPolicy)},
	{[]string{"resource control policy"}, denied("A resource control policy of the customer's organisation denies it.", "The customer must exempt the platform's role from the resource control policy.")},
	{[]string{"service control policy"}, denied("A service control policy of the platform's organisation denies it.", platformPolicy)},
	{[]string{"identity-based policy"}, denied("The policy of this host's role does not allow it.", platformPolicy)},
	{[]string{"permissions boundary"}, denied("The permissions boundary of this host's role does not allow it.", platformPolicy)},
	{[]string{"session policy"}, denied("The session policy of this host's role does not allow it.", platformPolicy)},
	{[]string{"vpc endpoint policy"}, denied("The policy of the VPC endpoint for KMS does not allow it.", platformPolicy)},
	{[]string{"does not exist"}, denied("The CMK does not exist in this region, or its policy does not allow its use: across accounts KMS does not say which.", customerExists)},
}

const (
	customerPolicy = "The customer must allow the platform's role in the key policy (the statements are in /usr/share/doc/volseal/examples/iam/key-policy-statements.json)."
	platformPolicy = "Platform operators must allow it; the customer's key is not concerned."
	customerExists = "Compare key_arn with the customer's key; then the customer must allow the platform's role in the key policy (the statements are in /usr/share/doc/volseal/examples/iam/key-policy-statements.json)."
)

func denied(cause, hint string) verdict {
	return verdict{class: fault.Revoked, cause: "Use of the CMK is not allowed. " + cause, hint: hint}
}

func judgeDenied(text string) verdict {
	if v, found := firstMatch(deniedTexts, text); found {
		return v
	}
	return denied("KMS does not say which policy is the reason.", "The customer must look at the key policy, platform operators at the policy of this host's role (see the IAM examples in /usr/share/doc/volseal/examples/iam).")
}
