// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/volseal/volseal/test/lab/aws"
)

// caller is on whose behalf a request is made, and how it came.
type caller struct {
	principal aws.Principal
	region    string // that the request was sent to
	via       string // short name of the AWS service that passes it on ("ec2"), or ""
}

// access is what a caller wants to do with a key.
type access struct {
	action          string            // operation or permission: "Decrypt", "ReEncryptFrom"
	context         map[string]string // encryption context of the request
	facts           map[string][]string
	forAWSResource  bool // CreateGrant by a service for a resource of its own
	aboutCiphertext bool // the key is known from a ciphertext only: errors say so
}

// authorize decides as AWS does: an explicit Deny anywhere wins; the key policy
// (or a grant) must allow; and unless it allows the principal itself within the
// key's own account, so must the principal's own policy. A key that does not
// exist for this caller answers as one that is not allowed (see deny).
func (st *state) authorize(c caller, k *key, a access) error {
	policy, err := parsePolicy(k.Policy, true)
	if err != nil {
		return err
	}
	q := question{principal: c.principal, action: "kms:" + a.action, resource: k.ARN, facts: factsOf(c, k, a)}
	byKey := policy.evaluate(q)
	byIdentity, err := st.identityVerdict(q)
	if err != nil {
		return err
	}
	granted := k.grantAllows(c.principal, a)
	sameAccount := c.principal.Account == k.parts().Account
	switch {
	case byKey.denied:
		return deny(c, k.ARN, a, "with an explicit deny in a resource-based policy", true)
	case byIdentity.denied:
		return deny(c, k.ARN, a, "with an explicit deny in an identity-based policy", false)
	case sameAccount && (byKey.allowed || granted):
		return nil
	case !byKey.allowed && !byKey.delegated && !granted:
		return deny(c, k.ARN, a, "because no resource-based policy allows the kms:"+a.action+" action", true)
	case !byIdentity.allowed:
		return deny(c, k.ARN, a, "because no identity-based policy allows the kms:"+a.action+" action", false)
	}
	return nil
}

// authorizeAccount decides on operations that concern no key: only the
// principal's own policy does.
func (st *state) authorizeAccount(c caller, action string) error {
	q := question{principal: c.principal, action: "kms:" + action, resource: "*", facts: factsOf(c, nil, access{})}
	v, err := st.identityVerdict(q)
	switch {
	case err != nil:
		return err
	case v.denied:
		return deny(c, "*", access{action: action}, "with an explicit deny in an identity-based policy", false)
	case !v.allowed:
		return deny(c, "*", access{action: action}, "because no identity-based policy allows the kms:"+action+" action", false)
	}
	return nil
}

// identityVerdict evaluates the principal's own policy. One that was never set
// allows kms:*, as does being root.
func (st *state) identityVerdict(q question) (verdict, error) {
	text, ok := st.Identity[identityOf(q.principal)]
	if !ok || q.principal.IsRoot() {
		return verdict{allowed: true}, nil
	}
	policy, err := parsePolicy(text, false)
	if err != nil {
		return verdict{}, err
	}
	return policy.evaluate(q), nil
}

// identityOf is the ARN of what policies attach to: the role, not its session.
func identityOf(p aws.Principal) string {
	if p.Role != "" {
		return p.RoleARN()
	}
	return p.ARN
}

// deny words the refusal. byResource says that the key's side refused: to
// another account's principal AWS then does not tell which key, nor why.
func deny(c caller, resource string, a access, reason string, byResource bool) error {
	if arn, _ := aws.ParseARN(resource); byResource && arn.Account != c.principal.Account {
		return denyHidden(c, a)
	}
	return refuse("AccessDeniedException", "User: %s is not authorized to perform: kms:%s on resource: %s %s",
		c.principal.ARN, a.action, resource, reason)
}

// denyHidden is the one answer for a key that is missing, elsewhere or closed.
func denyHidden(c caller, a access) error {
	what := "this resource"
	if a.aboutCiphertext {
		what = "the resource associated with this ciphertext"
	}
	return refuse("AccessDeniedException", "User: %s is not authorized to perform: kms:%s on %s because the resource does not exist "+
		"in this Region, no resource-based policies allow access, or a resource-based policy explicitly denies access",
		c.principal.ARN, a.action, what)
}

// factsOf gathers what conditions may ask about.
func factsOf(c caller, k *key, a access) map[string][]string {
	facts := map[string][]string{
		"kms:calleraccount":    {c.principal.Account},
		"aws:principalaccount": {c.principal.Account},
		"aws:principalarn":     {identityOf(c.principal)},
		"aws:requestedregion":  {c.region},
	}
	if k != nil {
		facts["kms:keyspec"] = []string{k.Spec}
		facts["kms:keyusage"] = []string{k.Usage}
		facts["kms:keyorigin"] = []string{k.Origin}
	}
	if c.via != "" {
		facts["kms:viaservice"] = []string{c.via + "." + c.region + ".amazonaws.com"}
	}
	if strings.HasSuffix(a.action, "Grant") || a.action == "ListGrants" {
		facts["kms:grantisforawsresource"] = []string{strconv.FormatBool(a.forAWSResource)}
	}
	for name, value := range a.context {
		name := "kms:encryptioncontext:" + strings.ToLower(name)
		facts[name] = append(facts[name], value)
	}
	facts["kms:encryptioncontextkeys"] = slices.Sorted(maps.Keys(a.context))
	maps.Copy(facts, a.facts)
	return facts
}

// grantAllows reports whether a grant on the key gives p this access.
func (k *key) grantAllows(p aws.Principal, a access) bool {
	return slices.ContainsFunc(k.Grants, func(g *grant) bool {
		return slices.Contains(g.Operations, a.action) && matchName(g.Grantee, p) != matchNone && g.constraintsHold(a)
	})
}

// constraintsHold checks the encryption context, where the operation has one.
func (g *grant) constraintsHold(a access) bool {
	if a.action == "DescribeKey" || a.action == "RetireGrant" {
		return true
	}
	if g.ContextEquals != nil && !maps.Equal(g.ContextEquals, a.context) {
		return false
	}
	for name, value := range g.ContextSubset {
		if got, ok := a.context[name]; !ok || got != value {
			return false
		}
	}
	return true
}
