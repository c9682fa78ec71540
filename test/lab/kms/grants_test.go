// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"testing"

	client "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/volseal/volseal/test/lab/aws"
)

// A grant lends exactly its operations, to its grantee, in its context, until
// it ends.
func TestGrantLendsARight(t *testing.T) {
	w := newWorld(t, "")
	arn := w.key(t, false)
	owner, host := w.as(aws.Root(aws.CustomerAccount)), w.as(platformHost)
	use := func(context map[string]string) error {
		_, err := host.GenerateDataKey(ctx, &client.GenerateDataKeyInput{KeyId: &arn, KeySpec: "AES_256", EncryptionContext: context})
		return err
	}
	in := map[string]string{"volseal:database": "db-1"}
	expect(t, "before", use(in), "AccessDeniedException")
	made, err := owner.CreateGrant(ctx, &client.CreateGrantInput{
		KeyId: &arn, GranteePrincipal: ptr(platformHost.RoleARN()), Operations: []types.GrantOperation{"GenerateDataKey", "RetireGrant"},
		Constraints: &types.GrantConstraints{EncryptionContextSubset: in},
	})
	ok(t, err)
	expect(t, "granted", use(map[string]string{"volseal:database": "db-1", "more": "x"}), "")
	expect(t, "in no context", use(nil), "AccessDeniedException")
	expect(t, "in another context", use(map[string]string{"volseal:database": "db-2"}), "AccessDeniedException")
	_, err = host.GenerateDataKeyWithoutPlaintext(ctx, &client.GenerateDataKeyWithoutPlaintextInput{KeyId: &arn, KeySpec: "AES_256", EncryptionContext: in})
	expect(t, "another operation", err, "AccessDeniedException")
	ok(t, w.Deny(arn, "GenerateDataKey"))
	expect(t, "a Deny outdoes a grant", use(in), "AccessDeniedException")
	ok(t, w.Allow(arn))
	_, err = host.DescribeKey(ctx, &client.DescribeKeyInput{KeyId: &arn, GrantTokens: []string{*made.GrantToken}})
	expect(t, "DescribeKey is not in the grant", err, "AccessDeniedException")
	_, err = host.RetireGrant(ctx, &client.RetireGrantInput{GrantToken: made.GrantToken})
	ok(t, err)
	expect(t, "retired", use(in), "AccessDeniedException")
	_, err = owner.RevokeGrant(ctx, &client.RevokeGrantInput{KeyId: &arn, GrantId: made.GrantId})
	expect(t, "revoking it again", err, "NotFoundException")
}

// The exact context constraint wants neither more nor less.
func TestGrantContextEquals(t *testing.T) {
	in := map[string]string{"a": "1"}
	k := &key{Grants: []*grant{{Grantee: platformHost.ARN, Operations: []string{"Decrypt", "DescribeKey"}, ContextEquals: in}}}
	for _, c := range []struct {
		a    access
		want bool
	}{
		{access{action: "Decrypt", context: map[string]string{"a": "1"}}, true},
		{access{action: "Decrypt", context: map[string]string{"a": "1", "b": "2"}}, false},
		{access{action: "Decrypt"}, false},
		{access{action: "DescribeKey"}, true}, // has no context to constrain
		{access{action: "Encrypt", context: in}, false},
	} {
		if got := k.grantAllows(platformHost, c.a); got != c.want {
			t.Errorf("%+v: %v", c.a, got)
		}
	}
	if k.grantAllows(customerUser, access{action: "Decrypt", context: in}) {
		t.Error("another principal has the grant")
	}
}

// The platform may make grants on a shared key only through a service that
// needs one for its own resource: kms:GrantIsForAWSResource.
func TestPlatformMakesNoGrantsItself(t *testing.T) {
	w := newWorld(t, "")
	arn := w.key(t, true)
	_, err := w.as(platformHost).CreateGrant(ctx, &client.CreateGrantInput{
		KeyId: &arn, GranteePrincipal: ptr(platformHost.ARN), Operations: []types.GrantOperation{"Decrypt"},
	})
	expect(t, "CreateGrant", err, "AccessDeniedException")
	ok(t, w.EBSCreateGrant(platformHost, arn, "vol-1"))
}

// Grants are listed by page, found by name, and refused when malformed.
func TestManageGrants(t *testing.T) {
	w := newWorld(t, "")
	arn := w.key(t, true)
	owner := w.as(aws.Root(aws.CustomerAccount))
	create := func(name, grantee string, operations ...types.GrantOperation) (*client.CreateGrantOutput, error) {
		return owner.CreateGrant(ctx, &client.CreateGrantInput{KeyId: &arn, Name: &name, GranteePrincipal: &grantee, Operations: operations})
	}
	first, err := create("a", platformHost.ARN, "Decrypt")
	ok(t, err)
	again, err := create("a", platformHost.ARN, "Decrypt")
	ok(t, err)
	second, err := create("b", platformHost.RoleARN(), "Decrypt", "Encrypt")
	ok(t, err)
	if *first.GrantId != *again.GrantId || *first.GrantId == *second.GrantId {
		t.Errorf("grants %s, %s, %s", *first.GrantId, *again.GrantId, *second.GrantId)
	}
	seen := map[string]bool{}
	limit := int32(1)
	pages := client.NewListGrantsPaginator(owner, &client.ListGrantsInput{KeyId: &arn, Limit: &limit})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		ok(t, err)
		for _, g := range page.Grants {
			seen[*g.GrantId] = true
		}
	}
	if len(seen) != 2 || !seen[*second.GrantId] {
		t.Errorf("listed %v", seen)
	}
	_, err = create("c", "volseal-host", "Decrypt")
	expect(t, "no ARN", err, "InvalidArnException")
	_, err = create("c", platformHost.ARN, "Destroy")
	expect(t, "no operation", err, "ValidationException")
	_, err = owner.DescribeKey(ctx, &client.DescribeKeyInput{KeyId: &arn})
	ok(t, err)
	_, err = owner.Encrypt(ctx, &client.EncryptInput{KeyId: &arn, Plaintext: []byte("x"), GrantTokens: []string{"x"}})
	expect(t, "no such token", err, "InvalidGrantTokenException")
	_, err = owner.RetireGrant(ctx, &client.RetireGrantInput{KeyId: &arn, GrantId: ptr("none")})
	expect(t, "no such grant", err, "InvalidGrantIdException")
	_, err = owner.RevokeGrant(ctx, &client.RevokeGrantInput{KeyId: &arn, GrantId: second.GrantId})
	ok(t, err)
}

// A grant is retired by whom it names for that, by its grantee if it says so,
// or by who has the right on the key: by nobody else.
func TestWhoMayRetireAGrant(t *testing.T) {
	w := newWorld(t, "")
	arn := w.key(t, false)
	owner, host := w.as(aws.Root(aws.CustomerAccount)), w.as(platformHost)
	create := func(retiring *string, operations ...types.GrantOperation) *string {
		t.Helper()
		g, err := owner.CreateGrant(ctx, &client.CreateGrantInput{
			KeyId: &arn, GranteePrincipal: ptr(platformHost.RoleARN()), RetiringPrincipal: retiring, Operations: operations,
		})
		ok(t, err)
		return g.GrantId
	}
	retire := func(c *client.Client, id *string) error {
		_, err := c.RetireGrant(ctx, &client.RetireGrantInput{KeyId: &arn, GrantId: id})
		return err
	}
	named := create(ptr(platformHost.RoleARN()), "Decrypt")
	itself := create(nil, "Decrypt", "RetireGrant")
	other := create(nil, "Decrypt")
	expect(t, "another grant's grantee", retire(host, other), "AccessDeniedException")
	expect(t, "its retiring principal", retire(host, named), "")
	expect(t, "its grantee", retire(host, itself), "")
	expect(t, "the key's owner", retire(owner, other), "")
}
