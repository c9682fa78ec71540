// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"strings"
	"testing"

	client "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/volseal/volseal/test/lab/aws"
)

// target is a key in some state and a ciphertext made under it while it was well.
type target struct {
	arn  string
	blob []byte
	id   string // of a grant on it
}

// everyOperation calls each operation on one key as its owner.
func everyOperation(c *client.Client, k target) map[string]func() error {
	context := map[string]string{"a": "b"}
	arn := &k.arn
	grantee := ptr(aws.Root(aws.PlatformAccount).ARN)
	return map[string]func() error{
		"DescribeKey": func() error { _, err := c.DescribeKey(ctx, &client.DescribeKeyInput{KeyId: arn}); return err },
		"GetKeyPolicy": func() error {
			_, err := c.GetKeyPolicy(ctx, &client.GetKeyPolicyInput{KeyId: arn})
			return err
		},
		"PutKeyPolicy": func() error {
			_, err := c.PutKeyPolicy(ctx, &client.PutKeyPolicyInput{KeyId: arn, Policy: ptr(sharedPolicy(aws.CustomerAccount))})
			return err
		},
		"Encrypt": func() error {
			_, err := c.Encrypt(ctx, &client.EncryptInput{KeyId: arn, Plaintext: []byte("x")})
			return err
		},
		"Decrypt": func() error {
			_, err := c.Decrypt(ctx, &client.DecryptInput{KeyId: arn, CiphertextBlob: k.blob, EncryptionContext: context})
			return err
		},
		"Decrypt unpinned": func() error {
			_, err := c.Decrypt(ctx, &client.DecryptInput{CiphertextBlob: k.blob, EncryptionContext: context})
			return err
		},
		"ReEncrypt": func() error {
			_, err := c.ReEncrypt(ctx, &client.ReEncryptInput{CiphertextBlob: k.blob, SourceEncryptionContext: context, DestinationKeyId: arn})
			return err
		},
		"GenerateDataKey": func() error {
			_, err := c.GenerateDataKey(ctx, &client.GenerateDataKeyInput{KeyId: arn, KeySpec: types.DataKeySpecAes256})
			return err
		},
		"GenerateDataKeyWithoutPlaintext": func() error {
			_, err := c.GenerateDataKeyWithoutPlaintext(ctx, &client.GenerateDataKeyWithoutPlaintextInput{KeyId: arn, KeySpec: types.DataKeySpecAes128})
			return err
		},
		"CreateGrant": func() error {
			_, err := c.CreateGrant(ctx, &client.CreateGrantInput{KeyId: arn, GranteePrincipal: grantee, Operations: []types.GrantOperation{"Decrypt"}})
			return err
		},
		"ListGrants": func() error { _, err := c.ListGrants(ctx, &client.ListGrantsInput{KeyId: arn}); return err },
		"RevokeGrant": func() error {
			_, err := c.RevokeGrant(ctx, &client.RevokeGrantInput{KeyId: arn, GrantId: &k.id})
			return err
		},
		"CreateAlias": func() error {
			_, err := c.CreateAlias(ctx, &client.CreateAliasInput{TargetKeyId: arn, AliasName: ptr("alias/new")})
			return err
		},
		"ListAliases": func() error { _, err := c.ListAliases(ctx, &client.ListAliasesInput{KeyId: arn}); return err },
		"EnableKey":   func() error { _, err := c.EnableKey(ctx, &client.EnableKeyInput{KeyId: arn}); return err },
		"DisableKey":  func() error { _, err := c.DisableKey(ctx, &client.DisableKeyInput{KeyId: arn}); return err },
		"ScheduleKeyDeletion": func() error {
			_, err := c.ScheduleKeyDeletion(ctx, &client.ScheduleKeyDeletionInput{KeyId: arn})
			return err
		},
		"CancelKeyDeletion": func() error {
			_, err := c.CancelKeyDeletion(ctx, &client.CancelKeyDeletionInput{KeyId: arn})
			return err
		},
	}
}

// expectation is what each operation answers in one state. The default is for
// the operations that use the key.
type expectation struct {
	prepare    func(t *testing.T, w *world, arn string)
	use        string            // code of the operations that use the key
	text       string            // their message, after the ARN
	exceptions map[string]string // code by operation; "" for success
}

var always = []string{"DescribeKey", "GetKeyPolicy", "PutKeyPolicy", "ListGrants", "RevokeGrant", "ListAliases"}

func expectations() map[string]expectation {
	const invalidState, gone = "KMSInvalidStateException", "NotFoundException"
	return map[string]expectation{
		"Enabled": {
			exceptions: map[string]string{"CancelKeyDeletion": invalidState},
		},
		"Disabled": {
			prepare: func(t *testing.T, w *world, arn string) { ok(t, w.SetEnabled(arn, false)) },
			use:     "DisabledException", text: " is disabled.",
			exceptions: map[string]string{"CancelKeyDeletion": invalidState, "EnableKey": "", "DisableKey": "", "ScheduleKeyDeletion": "", "CreateAlias": ""},
		},
		"PendingDeletion": {
			prepare: func(t *testing.T, w *world, arn string) { ok(t, w.ScheduleDeletion(arn, 7)) },
			use:     invalidState, text: " is pending deletion.",
			exceptions: map[string]string{"CancelKeyDeletion": ""},
		},
		"PendingImport": {
			use: invalidState, text: " is pending import.",
			exceptions: map[string]string{"CancelKeyDeletion": invalidState, "ScheduleKeyDeletion": "", "CreateAlias": "", "Decrypt": invalidState},
		},
		"Deleted": {
			prepare: func(t *testing.T, w *world, arn string) { ok(t, w.Delete(arn)) },
			use:     gone, text: "' does not exist",
			exceptions: map[string]string{
				"DescribeKey": gone, "GetKeyPolicy": gone, "PutKeyPolicy": gone, "ListGrants": gone, "RevokeGrant": gone, "ListAliases": gone,
				"Decrypt unpinned": "AccessDeniedException", "ReEncrypt": "AccessDeniedException",
			},
		},
	}
}

// Every operation answers in every key state as the developer guide's table
// says: the agent's whole idea of revocation hangs on these codes and texts.
func TestEveryOperationInEveryState(t *testing.T) {
	w := newWorld(t, "")
	owner := w.as(aws.Root(aws.CustomerAccount))
	for state, want := range expectations() {
		for name := range everyOperation(owner, target{}) {
			t.Run(state+"/"+name, func(t *testing.T) {
				k := prepared(t, w, state, want)
				err := everyOperation(owner, k)[name]()
				code, special := want.exceptions[name]
				if !special && !contains(always, name) {
					code = want.use
				}
				if state == "PendingImport" && (name == "Decrypt unpinned" || name == "ReEncrypt") {
					t.Skip("there is no ciphertext of a key that never had material")
				}
				expect(t, "answer", err, code)
				if !special && code != "" && !strings.HasSuffix(message(err), k.arn+want.text) {
					t.Errorf("message %q does not end in %q", message(err), k.arn+want.text)
				}
				_, _ = owner.DeleteAlias(ctx, &client.DeleteAliasInput{AliasName: ptr("alias/new")})
			})
		}
	}
}

func prepared(t *testing.T, w *world, state string, want expectation) target {
	t.Helper()
	owner := w.as(aws.Root(aws.CustomerAccount))
	origin := ""
	if state == "PendingImport" {
		origin = originExternal
	}
	k := target{arn: must(w.CreateKey(aws.CustomerAccount, region, "", origin, true))(t), blob: []byte("x")}
	if state == "PendingImport" {
		return withGrantIn(t, w, k)
	}
	sealed, err := owner.Encrypt(ctx, &client.EncryptInput{KeyId: &k.arn, Plaintext: []byte("secret"), EncryptionContext: map[string]string{"a": "b"}})
	ok(t, err)
	k.blob = sealed.CiphertextBlob
	g, err := owner.CreateGrant(ctx, &client.CreateGrantInput{
		KeyId: &k.arn, GranteePrincipal: ptr(aws.Root(aws.PlatformAccount).ARN), Operations: []types.GrantOperation{"Encrypt"},
	})
	ok(t, err)
	k.id = *g.GrantId
	if want.prepare != nil {
		want.prepare(t, w, k.arn)
	}
	return k
}

// withGrantIn puts a grant on a key that cannot be given one over the wire.
func withGrantIn(t *testing.T, w *world, k target) target {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.st.Keys[k.arn].Grants = []*grant{{ID: "g", Token: "t", Operations: []string{"Encrypt"}}}
	k.id = "g"
	return k
}

func contains(list []string, s string) bool {
	return strings.Contains(" "+strings.Join(list, " ")+" ", " "+s+" ")
}

// To the platform a deleted key and one that never was look like one that is
// closed to it.
func TestStatesSeenFromThePlatform(t *testing.T) {
	w := newWorld(t, "")
	host := w.as(platformHost)
	decrypt := func(k target) error {
		_, err := host.Decrypt(ctx, &client.DecryptInput{KeyId: &k.arn, CiphertextBlob: k.blob, EncryptionContext: map[string]string{"a": "b"}})
		return err
	}
	describe := func(arn string) error {
		_, err := host.DescribeKey(ctx, &client.DescribeKeyInput{KeyId: &arn})
		return err
	}
	want := map[string]string{
		"Enabled": "", "Disabled": "DisabledException", "PendingDeletion": "KMSInvalidStateException",
		"PendingImport": "KMSInvalidStateException", "Deleted": "AccessDeniedException",
	}
	for state, e := range expectations() {
		k := prepared(t, w, state, e)
		expect(t, "Decrypt, "+state, decrypt(k), want[state])
		seen := ""
		if state == "Deleted" {
			seen = "AccessDeniedException"
		}
		expect(t, "DescribeKey, "+state, describe(k.arn), seen)
	}
	never := "arn:aws:kms:us-east-1:111111111111:key/00000000-0000-4000-8000-000000000000"
	err := describe(never)
	expect(t, "a key that never was", err, "AccessDeniedException")
	const text = "User: arn:aws:sts::916150859591:assumed-role/volseal-host/i-0123456789abcdef0 is not authorized to perform: kms:DescribeKey " +
		"on this resource because the resource does not exist in this Region, no resource-based policies allow access, " +
		"or a resource-based policy explicitly denies access"
	if message(err) != text {
		t.Errorf("message %q", message(err))
	}
}
