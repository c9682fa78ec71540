// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/volseal/volseal/internal/control"
	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/envelope/kms"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/keypolicy"
)

const describe = "kms:DescribeKey"

// judge is the whole report: what can be read of the key first, since it
// explains the rest.
func (a keyAnswers) judge() control.KeyReport {
	r := control.KeyReport{ARN: a.arn, Principal: a.principal(), Missing: []keypolicy.Statement{}}
	if region := envelope.KeyRegion(a.arn); region != a.self.Region {
		r.Checks = []fault.Check{
			failedBy(fault.Misconfigured, fault.Customer, "region", fmt.Sprintf("The CMK is in %s, but this host and its volumes are in %s.", region, a.self.Region),
				"The customer creates a CMK in "+a.self.Region+"; EBS cannot use a key of another region."),
			fault.Skipped("everything else", "KMS is asked in the region of this host only."),
		}
		return r
	}
	r.Checks = append([]fault.Check{fault.Passed("region", a.self.Region+", as this host.")}, a.rules()...)
	explained := fault.FirstFailed(r.Checks[2:])
	var denied, asked []string
	note := func(action string, err error) {
		asked = append(asked, action)
		if customerDenies(err) {
			denied = append(denied, action)
		}
	}
	note(describe, a.describeErr)
	for _, p := range kms.Permissions() {
		note(actionOf(p), a.tried[p])
		r.Checks = append(r.Checks, a.permission(string(p), a.tried[p], explained))
	}
	r.Checks = append(r.Checks, untestable()...)
	if r.Principal != "" {
		r.Missing = keypolicy.Lacking(r.Principal, denied, asked)
	}
	r.OK = fault.FirstFailed(r.Checks) == nil
	return r
}

// principal is this host's account, in the partition of the key.
func (a keyAnswers) principal() string {
	if a.self.Account == "" {
		return ""
	}
	return keypolicy.Account(strings.Split(a.arn, ":")[1], a.self.Account)
}

// actionOf is the permission as the statements have it.
func actionOf(p kms.Permission) string {
	switch p {
	case kms.MayGenerate, kms.MayGenerateWrapped:
		return "kms:GenerateDataKey*"
	default:
		return string(p)
	}
}

// customerDenies: adding the statements may mend it. Where the answer does not
// say whose policy it is, it may as well.
func customerDenies(err error) bool {
	return kms.Denied(err) && fault.ReasonOf(err) != fault.ReasonDeniedByPlatform
}

// rules are those of the key itself, after the right to see them.
func (a keyAnswers) rules() []fault.Check {
	first := a.permission(describe, a.describeErr, nil)
	if a.describeErr == nil && a.key.ARN != a.arn {
		first = failedBy(fault.Unknown, fault.Platform, describe, "KMS answered for another key than the one asked about.",
			"KMS does not do that: check the endpoint and the proxies on the way.")
	}
	checks := []fault.Check{first}
	if first.Status != fault.CheckOK {
		for _, name := range []string{"state", "kind", "material", "manager"} {
			checks = append(checks, fault.Skipped(name, "Told by "+describe+" alone."))
		}
		return checks
	}
	return append(checks, a.state(), a.kind(), a.material(), a.manager())
}

func (a keyAnswers) state() fault.Check {
	const name = "state"
	switch a.key.State {
	case "Enabled":
		return fault.Passed(name, "Enabled.")
	case "Disabled":
		return failedBy(fault.Revoked, fault.Customer, name, "The CMK is disabled.", "The customer can enable it again (kms:EnableKey).")
	case "PendingDeletion", "PendingReplicaDeletion":
		return failedBy(fault.Revoked, fault.Customer, name, "The CMK is scheduled for deletion.",
			"The customer can cancel the deletion (kms:CancelKeyDeletion) and enable the key; once it is deleted, what it encrypted is lost.")
	case "PendingImport":
		return failedBy(fault.Misconfigured, fault.Customer, name, "The CMK has no key material: it is waiting for an import.",
			"The customer must offer a key whose material KMS made.")
	default:
		return failedBy(fault.Unreachable, fault.Customer, name, fmt.Sprintf("The CMK is not usable at the moment: KMS calls it %s.", word(a.key.State)),
			"Wait. If it lasts, the customer must look at the key, and at the key store behind it.")
	}
}

func (a keyAnswers) kind() fault.Check {
	const name = "kind"
	if a.key.Spec == "SYMMETRIC_DEFAULT" && a.key.Usage == "ENCRYPT_DECRYPT" {
		return fault.Passed(name, "Symmetric, to encrypt and decrypt.")
	}
	return failedBy(fault.Misconfigured, fault.Customer, name, fmt.Sprintf("The CMK is %s for %s, not a symmetric key for encryption.", word(a.key.Spec), word(a.key.Usage)),
		"The kind of a key cannot be changed: the customer must create another (SYMMETRIC_DEFAULT, ENCRYPT_DECRYPT).")
}

func (a keyAnswers) material() fault.Check {
	const name = "material"
	switch a.key.Origin {
	case "EXTERNAL":
		return failedBy(fault.Misconfigured, fault.Customer, name, "The CMK is one for imported key material, which can be taken away or expire by itself.",
			"The origin of a key cannot be changed: the customer must create another, with material that KMS makes.")
	case "AWS_KMS":
		return fault.Passed(name, "Made by KMS, not imported.")
	default:
		return fault.Passed(name, "Not imported ("+word(a.key.Origin)+").")
	}
}

func (a keyAnswers) manager() fault.Check {
	const name = "manager"
	if a.key.Manager == "CUSTOMER" {
		return fault.Passed(name, "A customer managed key.")
	}
	return failedBy(fault.Misconfigured, fault.Customer, name, "The key is managed by AWS, not by the customer: its policy cannot be changed.",
		"The customer must create a customer managed key.")
}

// permission judges the answer to a question for one. Where the key itself is
// not usable, explained, any answer but a denial tells just that.
func (a keyAnswers) permission(name string, err error, explained *fault.Check) fault.Check {
	switch {
	case err == nil:
		return fault.Passed(name, "Allowed.")
	case kms.Denied(err):
		return a.denial(name, err)
	case explained != nil:
		return fault.Skipped(name, fmt.Sprintf("Not told as long as %q fails.", explained.Name))
	case kms.Untried(err):
		return fault.Skipped(name, "This endpoint of KMS knows no dry run without a ciphertext; an unlock shows it.")
	default:
		return fault.Failed(name, err)
	}
}

// denial explains a no. KMS's one answer for a key that is closed or not there
// says more where it has described the key.
func (a keyAnswers) denial(name string, err error) fault.Check {
	c := fault.Failed(name, err)
	if !customerDenies(err) {
		return c
	}
	c.Remedy = a.pasteRemedy()
	hidden := slices.Equal(c.Who, []fault.Owner{fault.Customer, fault.Platform})
	if hidden && a.describeErr == nil && a.key.ARN == a.arn {
		c.Detail, c.Who = "Not allowed. The key is there, so it is its policy that lacks this, or denies it.", []fault.Owner{fault.Customer}
	}
	return c
}

func (a keyAnswers) pasteRemedy() string {
	how := "missing_statements"
	if a.principal() == "" {
		how = "`volseal key policy --principal ACCOUNT`, with the account of this host"
	}
	remedy := "The customer puts the statements (" + how + ") into the key's policy, and takes away a Deny that stands against them."
	if a.describeErr != nil {
		remedy = "Compare the ARN with the customer's. " + remedy
	}
	return remedy
}

// untestable are the other permissions of the statements.
func untestable() []fault.Check {
	const grants = "Only EC2 can try it, for a volume (kms:GrantIsForAWSResource): attaching one shows it."
	return []fault.Check{
		fault.Skipped("kms:CreateGrant", grants),
		fault.Skipped("kms:ListGrants", grants),
		fault.Skipped("kms:RevokeGrant", grants),
		fault.Skipped("kms:Encrypt", "Neither volseal nor EBS uses it, and this host's role need not have it."),
	}
}

// word keeps a word of KMS's fit for a sentence.
func word(s string) string {
	const most = 40
	for _, r := range s {
		if r > '~' || r <= ' ' {
			return "unreadable"
		}
	}
	return cmp.Or(s[:min(len(s), most)], "nothing")
}
