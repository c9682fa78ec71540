// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"encoding/json"
	"strings"

	"github.com/volseal/volseal/test/lab/aws"
)

// maxPolicyStored is a quota apart from the member's length: 32 KiB.
const maxPolicyStored = 32 * 1024

// defaultPolicy is what a key gets that is created without one: the account's
// own policies decide.
func defaultPolicy(account string) string {
	return formatPolicy(ownerStatement(account))
}

// sharedPolicy is the default with the two statements by which a customer
// shares a CMK with the platform: use of the key, and grants for AWS resources.
func sharedPolicy(account string) string {
	platform := awsPrincipal(aws.Root(aws.PlatformAccount).ARN)
	return formatPolicy(ownerStatement(account),
		statement{
			Sid: "Allow use of the key", Effect: "Allow", Principal: platform, Resource: stringList{"*"},
			Action: stringList{"kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"},
		},
		statement{
			Sid: "Allow attachment of persistent resources", Effect: "Allow", Principal: platform, Resource: stringList{"*"},
			Action:    stringList{"kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant"},
			Condition: map[string]conditionValues{"Bool": {"kms:GrantIsForAWSResource": {"true"}}},
		})
}

func ownerStatement(account string) statement {
	return statement{
		Sid: "Enable IAM User Permissions", Effect: "Allow", Principal: awsPrincipal(aws.Root(account).ARN),
		Action: stringList{"kms:*"}, Resource: stringList{"*"},
	}
}

func awsPrincipal(arns ...string) *principals {
	return &principals{byKind: map[string]stringList{"AWS": arns}}
}

func formatPolicy(list ...statement) string {
	b, _ := json.MarshalIndent(document{Version: "2012-10-17", ID: "key-default-1", Statement: list}, "", "  ") // strings only: cannot fail
	return string(b)
}

// checkPolicy wants a policy that can be understood, and unless bypassed one
// under which the caller can still change it.
func (st *state) checkPolicy(rq *request, k *key, policy string, bypass bool) error {
	if len(policy) > maxPolicyStored {
		return refuse("LimitExceededException", "Key policy exceeds the maximum size of %d bytes.", maxPolicyStored)
	}
	if _, err := parsePolicy(policy, true); err != nil || bypass {
		return err
	}
	probe := *k
	probe.Policy = policy
	probe.Grants = nil
	if err := st.authorize(rq.caller, &probe, access{action: "PutKeyPolicy"}); err != nil {
		return malformedPolicy("The new key policy will not allow you to update the key policy in the future.")
	}
	return nil
}

type policyInput struct {
	keyInput
	PolicyName                     string
	Policy                         *string
	BypassPolicyLockoutSafetyCheck bool
}

func (in policyInput) checkName() error {
	if in.PolicyName != "" && in.PolicyName != "default" {
		return notFound("No such policy exists")
	}
	return nil
}

func (s *Server) getKeyPolicy(rq *request, in policyInput) (any, error) {
	k, err := s.st.findOwn(rq, in.KeyID, "GetKeyPolicy")
	if err != nil {
		return nil, err
	}
	return map[string]string{"Policy": k.Policy, "PolicyName": "default"}, in.checkName()
}

func (s *Server) putKeyPolicy(rq *request, in policyInput) (any, error) {
	var c constraints
	c.text("policy", in.Policy, 1, maxPolicy)
	if err := c.err(); err != nil {
		return nil, err
	}
	k, err := s.st.findOwn(rq, in.KeyID, "PutKeyPolicy")
	if err != nil {
		return nil, err
	}
	if err := in.checkName(); err != nil {
		return nil, err
	}
	if err := s.st.checkPolicy(rq, k, *in.Policy, in.BypassPolicyLockoutSafetyCheck); err != nil {
		return nil, err
	}
	k.Policy = *in.Policy
	return nil, s.persist()
}

func (s *Server) listKeyPolicies(rq *request, in keyInput) (any, error) {
	if _, err := s.st.findOwn(rq, in.KeyID, "ListKeyPolicies"); err != nil {
		return nil, err
	}
	return map[string]any{"PolicyNames": []string{"default"}, "Truncated": false}, nil
}

// denySid marks the statements that Deny added and Allow takes away.
const denySid = "Lab deny "

// withDeny adds to a policy the refusal of actions to the platform's
// principals; without actions, of all.
func withDeny(policy string, actions []string) (string, error) {
	doc, err := parsePolicy(policy, true)
	if err != nil {
		return "", err
	}
	denied := stringList{}
	for _, a := range actions {
		denied = append(denied, "kms:"+strings.TrimPrefix(a, "kms:"))
	}
	if len(denied) == 0 {
		denied = stringList{"kms:*"}
	}
	return formatPolicy(append(doc.Statement, statement{
		Sid: denySid + strings.Join(denied, " "), Effect: "Deny", Principal: awsPrincipal(aws.Root(aws.PlatformAccount).ARN),
		Action: denied, Resource: stringList{"*"},
	})...), nil
}

// withoutDeny takes away what withDeny added.
func withoutDeny(policy string) (string, error) {
	doc, err := parsePolicy(policy, true)
	if err != nil {
		return "", err
	}
	var kept []statement
	for _, s := range doc.Statement {
		if !strings.HasPrefix(s.Sid, denySid) {
			kept = append(kept, s)
		}
	}
	return formatPolicy(kept...), nil
}
