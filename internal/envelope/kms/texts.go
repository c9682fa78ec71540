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
	{[]string{"external key", "denied access"}, verdict{class: fault.Revoked, cause: "The customer's external key manager denied the use of the key.", hint: askCustomer, who: byCustomer}},
	{[]string{"external key", "not authorized"}, verdict{class: fault.Revoked, cause: "The customer's external key manager denied the use of the key.", hint: askCustomer, who: byCustomer}},
	{[]string{"external key", "is not enabled"}, verdict{class: fault.Revoked, cause: "The external key behind the CMK is disabled.", hint: askCustomer, who: byCustomer}},
	{[]string{"external key", "disabled"}, verdict{class: fault.Revoked, cause: "The external key behind the CMK is disabled.", hint: askCustomer, who: byCustomer}},
	{[]string{"external key", "ciphertext", "corrupted"}, verdict{class: fault.Integrity, cause: "The external key store does not recognise the wrapped data key.", hint: checkHeader, who: byPlatform}},
	{[]string{"external key"}, verdict{class: fault.Unreachable, cause: "The customer's external key store is not working.", hint: askKeyStore, who: byCustomer}},
	{[]string{"pending deletion"}, verdict{class: fault.Revoked, cause: "The CMK is scheduled for deletion.", hint: "The customer can cancel the deletion (kms:CancelKeyDeletion) and enable the key; once it is deleted, what it encrypted is lost.", who: byCustomer}},
	{[]string{"pending replica deletion"}, verdict{class: fault.Revoked, cause: "The CMK is scheduled for deletion.", hint: "The customer can cancel the deletion (kms:CancelKeyDeletion) and enable the key; once it is deleted, what it encrypted is lost.", who: byCustomer}},
	{[]string{"is disabled"}, verdict{class: fault.Revoked, cause: "The CMK is disabled.", hint: "The customer can enable it again (kms:EnableKey).", who: byCustomer}},
	{[]string{"pending import"}, verdict{class: fault.Misconfigured, cause: "The CMK has no key material: it is waiting for an import.", hint: "The customer must import the key material again, or better offer a key whose material KMS made.", who: byCustomer}},
	{[]string{"key store"}, verdict{class: fault.Unreachable, cause: "The customer's custom key store is not connected.", hint: askKeyStore, who: byCustomer}},
	{[]string{"cluster"}, verdict{class: fault.Unreachable, cause: "The customer's CloudHSM key store is not working.", hint: askKeyStore, who: byCustomer}},
	{[]string{"unavailable"}, verdict{class: fault.Unreachable, cause: "The CMK is unavailable.", hint: waitForAWS, who: byAWS}},
	{[]string{"creating"}, verdict{class: fault.Unreachable, cause: "The CMK is still being created.", hint: waitForAWS, who: byAWS}},
	{[]string{"updating"}, verdict{class: fault.Unreachable, cause: "The CMK is being updated.", hint: waitForAWS, who: byAWS}},
}

func judgeState(text string) verdict {
	if v, found := firstMatch(stateTexts, text); found {
		return v
	}
	return verdict{class: fault.Unknown, cause: "The CMK is in a state that does not allow its use, and KMS does not say which.", hint: "Ask the customer about the key's state (kms:DescribeKey); it is retried.", who: byCustomer}
}

// keyStoreTexts are what the developer guide has KMSInternalException and its
// like say of a key store outside KMS.
var keyStoreTexts = []textRow{
	{[]string{"external key store"}, verdict{class: fault.Unreachable, cause: "The customer's external key store is not working.", hint: askKeyStore, who: byCustomer}},
	{[]string{"custom key store"}, verdict{class: fault.Unreachable, cause: "The customer's custom key store is not connected.", hint: askKeyStore, who: byCustomer}},
	{[]string{"cloudhsm"}, verdict{class: fault.Unreachable, cause: "The customer's CloudHSM key store is not working.", hint: askKeyStore, who: byCustomer}},
}

// deniedTexts are AccessDeniedException's: IAM's "Troubleshoot access denied
// error messages" and what KMS says of another account's key. All are class
// revoked and refuse the key. Whose policy it is decides who acts, and whether
// the answer is the customer's word (fault.CustomerRefuses): service control
// policies belong to the caller's organisation, resource control policies to
// the key's.
var deniedTexts = []textRow{
	{[]string{"no resource-based policy allows"}, deniedByCustomer("The customer's key policy does not allow it.", customerPolicy)},
	{[]string{"explicit deny", "resource-based policy"}, deniedByCustomer("The customer's key policy denies it.", customerPolicy)},
	{[]string{"resource control policy"}, deniedByCustomer("A resource control policy of the customer's organisation denies it.", "The customer must exempt the platform's role from the resource control policy.")},
	{[]string{"service control policy"}, deniedByPlatform("A service control policy of the platform's organisation denies it.")},
	{[]string{"identity-based policy"}, deniedByPlatform("The policy of this host's role does not allow it.")},
	{[]string{"permissions boundary"}, deniedByPlatform("The permissions boundary of this host's role does not allow it.")},
	{[]string{"session policy"}, deniedByPlatform("The session policy of this host's role does not allow it.")},
	{[]string{"vpc endpoint policy"}, deniedByPlatform("The policy of the VPC endpoint for KMS does not allow it.")},
	{[]string{"does not exist"}, deniedHidden()},
}

const (
	keyPolicyFile  = "/usr/share/doc/volseal/examples/iam/key-policy-statements.json"
	customerPolicy = "The customer must allow the platform's role in the key policy (the statements are in " + keyPolicyFile + ")."
	platformPolicy = "Platform operators must allow it (the role's policy is in /usr/share/doc/volseal/examples/iam/instance-role-policy.json); the customer's key is not concerned."
	customerExists = "Compare key_arn with the customer's key; then the customer must allow the platform's role in the key policy (the statements are in " + keyPolicyFile + "). If the key was deleted, it cannot be restored, and what it encrypted is lost."
)

// denied is what all denials have in common.
func denied(cause, hint string, who []fault.Owner) verdict {
	return verdict{class: fault.Revoked, cause: "Use of the CMK is not allowed. " + cause, hint: hint, who: who}
}

func deniedByCustomer(cause, hint string) verdict { return denied(cause, hint, byCustomer) }

func deniedByPlatform(cause string) verdict {
	v := denied(cause, platformPolicy, byPlatform)
	v.reason = fault.ReasonDeniedByPlatform
	return v
}

// deniedHidden is KMS's one answer to another account for a key that is gone,
// not shared any more, or never was there.
func deniedHidden() verdict {
	return denied("The CMK does not exist in this region, or its policy does not allow its use: across accounts KMS does not say which.",
		customerExists, byCustomerOrPlatform)
}

func judgeDenied(text string) verdict {
	if v, found := firstMatch(deniedTexts, text); found {
		return v
	}
	v := denied("KMS does not say which policy is the reason.",
		"Platform operators must look at the policy of this host's role, the customer at the key policy (see the IAM examples in /usr/share/doc/volseal/examples/iam).",
		byPlatformOrCustomer)
	v.reason = fault.ReasonDeniedUnclear
	return v
}
