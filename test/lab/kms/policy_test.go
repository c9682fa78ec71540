// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/volseal/volseal/test/lab/aws"
)

// policyCase asks whether one statement, in the key policy of a customer's
// key, lets p do a. The key policy has no other statement.
type policyCase struct {
	name      string
	statement string
	p         aws.Principal
	a         access
	via       string
	want      string // "" or the end of the refusal
}

const hidden = "or a resource-based policy explicitly denies access"

func principalCases() []policyCase {
	decrypt := access{action: "Decrypt"}
	allow := func(principal string) string {
		return `{"Effect":"Allow","Principal":` + principal + `,"Action":"kms:Decrypt","Resource":"*"}`
	}
	const noPolicy = "because no resource-based policy allows the kms:Decrypt action"
	return []policyCase{
		{"platform root means any platform principal", allow(`{"AWS":"arn:aws:iam::916150859591:root"}`), platformHost, decrypt, "", ""},
		{"account id is its root", allow(`{"AWS":"916150859591"}`), platformHost, decrypt, "", ""},
		{"role", allow(`{"AWS":"arn:aws:iam::916150859591:role/volseal-host"}`), platformHost, decrypt, "", ""},
		{"role with a path", allow(`{"AWS":"arn:aws:iam::916150859591:role/db/volseal-host"}`), platformHost, decrypt, "", ""},
		{"session", allow(`{"AWS":"arn:aws:sts::916150859591:assumed-role/volseal-host/i-0123456789abcdef0"}`), platformHost, decrypt, "", ""},
		{"one of several", allow(`{"AWS":["arn:aws:iam::111111111111:root","arn:aws:iam::916150859591:role/volseal-host"]}`), platformHost, decrypt, "", ""},
		{"everybody", allow(`"*"`), platformHost, decrypt, "", ""},
		{"everybody with AWS", allow(`{"AWS":"*"}`), platformHost, decrypt, "", ""},
		{"other session", allow(`{"AWS":"arn:aws:sts::916150859591:assumed-role/volseal-host/i-1"}`), platformHost, decrypt, "", hidden},
		{"other role", allow(`{"AWS":"arn:aws:iam::916150859591:role/other"}`), platformHost, decrypt, "", hidden},
		{"same role elsewhere", allow(`{"AWS":"arn:aws:iam::111111111111:role/volseal-host"}`), platformHost, decrypt, "", hidden},
		{"other account", allow(`{"AWS":"arn:aws:iam::111111111111:root"}`), platformHost, decrypt, "", hidden},
		{"service", allow(`{"Service":"ec2.amazonaws.com"}`), platformHost, decrypt, "", hidden},
		{"user of the account", allow(`{"AWS":"arn:aws:iam::111111111111:user/alice"}`), customerUser, decrypt, "", ""},
		{"owner's user through root", allow(`{"AWS":"arn:aws:iam::111111111111:root"}`), customerUser, decrypt, "", ""},
		{"owner's root itself", allow(`{"AWS":"arn:aws:iam::111111111111:root"}`), aws.Root(aws.CustomerAccount), decrypt, "", ""},
		{"owner without a statement", allow(`{"AWS":"arn:aws:iam::916150859591:root"}`), customerUser, decrypt, "", noPolicy},
		{
			"explicit deny", `{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"},` +
				`{"Effect":"Deny","Principal":{"AWS":"arn:aws:iam::111111111111:user/alice"},"Action":"kms:Decrypt","Resource":"*"}`,
			customerUser, decrypt, "", "with an explicit deny in a resource-based policy",
		},
		{
			"deny of the account across accounts", `{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"},` +
				`{"Effect":"Deny","Principal":{"AWS":"arn:aws:iam::916150859591:root"},"Action":"kms:Decrypt","Resource":"*"}`,
			platformHost, decrypt, "", hidden,
		},
		{
			"deny all but one", `{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"},` +
				`{"Effect":"Deny","NotPrincipal":{"AWS":"arn:aws:iam::916150859591:role/volseal-host"},"Action":"kms:*","Resource":"*"}`,
			platformHost, decrypt, "", "",
		},
	}
}

func actionCases() []policyCase {
	allow := func(elements string) string {
		return `{"Effect":"Allow","Principal":{"AWS":"916150859591"},` + elements + `}`
	}
	return []policyCase{
		{"wildcard", allow(`"Action":"kms:ReEncrypt*","Resource":"*"`), platformHost, access{action: "ReEncryptFrom"}, "", ""},
		{"wildcard in the middle", allow(`"Action":"kms:G*Key?ithoutPlaintext","Resource":"*"`), platformHost, access{action: "GenerateDataKeyWithoutPlaintext"}, "", ""},
		{"case does not matter", allow(`"Action":"KMS:decrypt","Resource":"*"`), platformHost, access{action: "Decrypt"}, "", ""},
		{"bare star", allow(`"Action":"*","Resource":"*"`), platformHost, access{action: "Decrypt"}, "", ""},
		{"other action", allow(`"Action":["kms:Encrypt","kms:DescribeKey"],"Resource":"*"`), platformHost, access{action: "Decrypt"}, "", hidden},
		{"prefix is not a match", allow(`"Action":"kms:Decr","Resource":"*"`), platformHost, access{action: "Decrypt"}, "", hidden},
		{"all but", allow(`"NotAction":"kms:Decrypt","Resource":"*"`), platformHost, access{action: "Decrypt"}, "", hidden},
		{"all but another", allow(`"NotAction":"kms:Encrypt","Resource":"*"`), platformHost, access{action: "Decrypt"}, "", ""},
		{"this key by its ARN", allow(`"Action":"kms:*","Resource":"arn:aws:kms:us-east-1:111111111111:key/*"`), platformHost, access{action: "Decrypt"}, "", ""},
		{"another key", allow(`"Action":"kms:*","Resource":"arn:aws:kms:us-east-1:111111111111:key/other"`), platformHost, access{action: "Decrypt"}, "", hidden},
		{"all but another key", allow(`"Action":"kms:*","NotResource":"arn:aws:kms:us-east-1:111111111111:key/other"`), platformHost, access{action: "Decrypt"}, "", ""},
	}
}

func conditionCases() []policyCase {
	allow := func(condition string) string {
		return `{"Effect":"Allow","Principal":{"AWS":"916150859591"},"Action":"kms:*","Resource":"*","Condition":` + condition + `}`
	}
	in := func(pairs ...string) access {
		context := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			context[pairs[i]] = pairs[i+1]
		}
		return access{action: "Decrypt", context: context}
	}
	forResource := access{action: "CreateGrant", forAWSResource: true}
	database := `{"StringEquals":{"kms:EncryptionContext:volseal:database":"db-1"}}`
	onlyKeys := `{"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":["volseal:database","volseal:purpose"]}}`
	return []policyCase{
		{"context", allow(database), platformHost, in("volseal:database", "db-1", "x", "y"), "", ""},
		{"context of another value", allow(database), platformHost, in("volseal:database", "db-2"), "", hidden},
		{"context's value has its case", allow(database), platformHost, in("volseal:database", "DB-1"), "", hidden},
		{"context missing", allow(database), platformHost, in(), "", hidden},
		{"context like", allow(`{"StringLike":{"kms:EncryptionContext:volseal:database":"db-*"}}`), platformHost, in("volseal:database", "db-7"), "", ""},
		{"context like does not match", allow(`{"StringLike":{"kms:EncryptionContext:volseal:database":"db-?"}}`), platformHost, in("volseal:database", "db-77"), "", hidden},
		{"context ignoring case", allow(`{"StringEqualsIgnoreCase":{"kms:EncryptionContext:volseal:database":"DB-1"}}`), platformHost, in("volseal:database", "db-1"), "", ""},
		{"context keys", allow(onlyKeys), platformHost, in("volseal:database", "1", "volseal:purpose", "2"), "", ""},
		{"one context key too many", allow(onlyKeys), platformHost, in("volseal:database", "1", "other", "2"), "", hidden},
		{"for all values of none", allow(onlyKeys), platformHost, in(), "", ""},
		{"for any value", allow(`{"ForAnyValue:StringEquals":{"kms:EncryptionContextKeys":"b"}}`), platformHost, in("a", "1", "b", "2"), "", ""},
		{"for any value of none", allow(`{"ForAnyValue:StringEquals":{"kms:EncryptionContextKeys":"b"}}`), platformHost, in(), "", hidden},
		{"context must be there", allow(`{"Null":{"kms:EncryptionContext:a":"false"}}`), platformHost, in("a", ""), "", ""},
		{"context must be there and is not", allow(`{"Null":{"kms:EncryptionContext:a":false}}`), platformHost, in(), "", hidden},
		{"not equal", allow(`{"StringNotEquals":{"kms:EncryptionContext:a":["1","2"]}}`), platformHost, in("a", "3"), "", ""},
		{"not equal but is", allow(`{"StringNotEquals":{"kms:EncryptionContext:a":["1","2"]}}`), platformHost, in("a", "2"), "", hidden},
		{"not equal of several, one is", allow(`{"StringNotEquals":{"kms:EncryptionContextKeys":"a"}}`), platformHost, in("a", "1", "b", "2"), "", hidden},
		{"not equal of none", allow(`{"StringNotEquals":{"kms:EncryptionContext:a":"1"}}`), platformHost, in(), "", ""},
		{"if exists and does not", allow(`{"StringEqualsIfExists":{"kms:EncryptionContext:a":"1"}}`), platformHost, in(), "", ""},
		{"if exists and differs", allow(`{"StringEqualsIfExists":{"kms:EncryptionContext:a":"1"}}`), platformHost, in("a", "2"), "", hidden},
		{"all conditions", allow(`{"StringEquals":{"kms:EncryptionContext:a":"1","kms:EncryptionContext:b":"2"}}`), platformHost, in("a", "1"), "", hidden},
		{"caller account", allow(`{"StringEquals":{"kms:CallerAccount":"916150859591"}}`), platformHost, in(), "", ""},
		{"caller account differs", allow(`{"StringEquals":{"KMS:calleraccount":"222222222222"}}`), platformHost, in(), "", hidden},
		{"principal ARN is the role's", allow(`{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::916150859591:role/volseal-*"}}`), platformHost, in(), "", ""},
		{"via service", allow(`{"StringEquals":{"kms:ViaService":"ec2.us-east-1.amazonaws.com"}}`), platformHost, in(), "ec2", ""},
		{"not via the service", allow(`{"StringEquals":{"kms:ViaService":"ec2.us-east-1.amazonaws.com"}}`), platformHost, in(), "", hidden},
		{"grant for a resource", allow(`{"Bool":{"kms:GrantIsForAWSResource":"true"}}`), platformHost, forResource, "ec2", ""},
		{"grant for a resource, unquoted", allow(`{"Bool":{"kms:GrantIsForAWSResource":true}}`), platformHost, forResource, "ec2", ""},
		{"grant for itself", allow(`{"Bool":{"kms:GrantIsForAWSResource":"true"}}`), platformHost, access{action: "CreateGrant"}, "", hidden},
		{"the condition without a grant", allow(`{"Bool":{"kms:GrantIsForAWSResource":"true"}}`), platformHost, in(), "", hidden},
	}
}

// Key policies allow what AWS would allow and nothing more: a customer's
// revocation by policy is only as real in the lab as this evaluation.
func TestKeyPolicy(t *testing.T) {
	for _, cases := range [][]policyCase{principalCases(), actionCases(), conditionCases()} {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				policy := `{"Version":"2012-10-17","Statement":[` + c.statement + `]}`
				if _, err := parsePolicy(policy, true); err != nil {
					t.Fatal(err)
				}
				k := &key{ARN: "arn:aws:kms:us-east-1:111111111111:key/k", Policy: policy}
				err := newState().authorize(caller{principal: c.p, region: region, via: c.via}, k, c.a)
				if err == nil && c.want != "" || err != nil && (c.want == "" || !strings.HasSuffix(err.Error(), c.want)) {
					t.Errorf("got %v, want %q", err, c.want)
				}
			})
		}
	}
}

// A policy of the caller's own account restricts too: the key policy's consent
// is not enough across accounts.
func TestIdentityPolicy(t *testing.T) {
	policy := func(effect, action, resource string) string {
		return fmt.Sprintf(`{"Version":"2012-10-17","Statement":{"Effect":%q,"Action":"kms:%s","Resource":%q}}`, effect, action, resource)
	}
	cases := []struct{ name, policy, want string }{
		{"none", "", ""},
		{"allows", policy("Allow", "Decrypt", "*"), ""},
		{"allows this key", policy("Allow", "Decrypt", "arn:aws:kms:us-east-1:111111111111:key/*"), ""},
		{"allows another key", policy("Allow", "Decrypt", "arn:aws:kms:us-east-1:222222222222:key/*"), "because no identity-based policy allows the kms:Decrypt action"},
		{"allows another action", policy("Allow", "Encrypt", "*"), "because no identity-based policy allows the kms:Decrypt action"},
		{"denies", policy("Deny", "Decrypt", "*"), "with an explicit deny in an identity-based policy"},
	}
	for _, c := range cases {
		st := newState()
		if c.policy != "" {
			st.Identity[platformHost.RoleARN()] = c.policy
		}
		for _, principal := range []string{aws.Root(aws.PlatformAccount).ARN, platformHost.RoleARN()} {
			k := &key{ARN: "arn:aws:kms:us-east-1:111111111111:key/k", Policy: formatPolicy(statement{
				Effect: "Allow", Principal: awsPrincipal(principal), Action: stringList{"kms:*"}, Resource: stringList{"*"},
			})}
			err := st.authorize(caller{principal: platformHost, region: region}, k, access{action: "Decrypt"})
			if err == nil && c.want != "" || err != nil && (c.want == "" || !strings.HasSuffix(err.Error(), c.want)) {
				t.Errorf("%s, key shared with %s: got %v, want %q", c.name, principal, err, c.want)
			}
		}
	}
}

// What the evaluation does not understand is refused when it is put, not
// ignored when it would matter.
func TestMalformedPolicies(t *testing.T) {
	statement := func(s string) string { return `{"Version":"2012-10-17","Statement":[` + s + `]}` }
	const rest = `"Principal":"*","Action":"kms:*","Resource":"*"`
	for name, policy := range map[string]string{
		"not JSON":            `{`,
		"no statement":        `{"Version":"2012-10-17","Statement":[]}`,
		"version":             `{"Version":"2030-01-01","Statement":[{"Effect":"Allow",` + rest + `}]}`,
		"effect":              statement(`{"Effect":"Maybe",` + rest + `}`),
		"no principal":        statement(`{"Effect":"Allow","Action":"kms:*","Resource":"*"}`),
		"principal's kind":    statement(`{"Effect":"Allow","Principal":{"Who":"*"},"Action":"kms:*","Resource":"*"}`),
		"bare principal":      statement(`{"Effect":"Allow","Principal":"arn:aws:iam::111111111111:root","Action":"kms:*","Resource":"*"}`),
		"allow NotPrincipal":  statement(`{"Effect":"Allow","NotPrincipal":{"AWS":"*"},"Action":"kms:*","Resource":"*"}`),
		"both principals":     statement(`{"Effect":"Deny","NotPrincipal":{"AWS":"*"},` + rest + `}`),
		"no action":           statement(`{"Effect":"Allow","Principal":"*","Resource":"*"}`),
		"no resource":         statement(`{"Effect":"Allow","Principal":"*","Action":"kms:*"}`),
		"unknown element":     statement(`{"Effect":"Allow","Conditions":{},` + rest + `}`),
		"unknown operator":    statement(`{"Effect":"Allow",` + rest + `,"Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}}`),
		"quantified Null":     statement(`{"Effect":"Allow",` + rest + `,"Condition":{"ForAllValues:Null":{"a":"true"}}}`),
		"negated Bool":        statement(`{"Effect":"Allow",` + rest + `,"Condition":{"NotBool":{"a":"true"}}}`),
		"policy variable":     statement(`{"Effect":"Allow",` + rest + `,"Condition":{"StringEquals":{"a":"${aws:username}"}}}`),
		"object as an action": statement(`{"Effect":"Allow","Principal":"*","Action":{},"Resource":"*"}`),
	} {
		if _, err := parsePolicy(policy, true); code(err) != "MalformedPolicyDocumentException" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A policy that a person wrote comes back from Deny and Allow meaning the same.
func TestDenyAndAllowKeepThePolicy(t *testing.T) {
	before := sharedPolicy(aws.CustomerAccount)
	denied, err := withDeny(before, []string{"Decrypt", "kms:ReEncrypt*"})
	if err != nil || !strings.Contains(denied, `"Deny"`) {
		t.Fatalf("%v: %s", err, denied)
	}
	if after := must(withoutDeny(denied))(t); after != before {
		t.Errorf("got %s, want %s", after, before)
	}
}

// Wildcards mean what the same pattern means as a regular expression.
func TestWildcardAgreesWithRegexp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringMatching(`[ab*?]{0,6}`).Draw(t, "pattern")
		s := rapid.StringMatching(`[ab]{0,8}`).Draw(t, "string")
		expr := regexp.MustCompile("^" + strings.NewReplacer("*", ".*", "?", ".").Replace(pattern) + "$")
		if got, want := wildcard(pattern, s), expr.MatchString(s); got != want {
			t.Fatalf("wildcard(%q, %q) = %v", pattern, s, got)
		}
	})
}
