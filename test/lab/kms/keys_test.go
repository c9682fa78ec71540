// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	client "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/volseal/volseal/test/lab/aws"
)

// What a preflight reads of a key is all there and true.
func TestDescribeKey(t *testing.T) {
	w := newWorld(t, "")
	for _, c := range []struct {
		spec, origin, want string
	}{
		{"", "", "SYMMETRIC_DEFAULT ENCRYPT_DECRYPT AWS_KMS Enabled true"},
		{"RSA_2048", "", "RSA_2048 ENCRYPT_DECRYPT AWS_KMS Enabled true"},
		{"", "EXTERNAL", "SYMMETRIC_DEFAULT ENCRYPT_DECRYPT EXTERNAL PendingImport false"},
	} {
		arn := must(w.CreateKey(aws.CustomerAccount, region, c.spec, c.origin, true))(t)
		out, err := w.as(platformHost).DescribeKey(ctx, &client.DescribeKeyInput{KeyId: &arn})
		ok(t, err)
		m := out.KeyMetadata
		if got := fmt.Sprint(m.KeySpec, " ", m.KeyUsage, " ", m.Origin, " ", m.KeyState, " ", m.Enabled); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
		if *m.Arn != arn || m.KeyManager != types.KeyManagerTypeCustomer || *m.AWSAccountId != aws.CustomerAccount || *m.MultiRegion || !strings.HasSuffix(arn, *m.KeyId) {
			t.Errorf("%+v", m)
		}
		if age := w.clock.read().Sub(*m.CreationDate); age < 0 || age > time.Second {
			t.Errorf("created %s ago", age)
		}
	}
	_, err := w.CreateKey(aws.CustomerAccount, region, "HMAC_256", "", true)
	expect(t, "a key that is not emulated", err, "ValidationException")
	_, err = w.CreateKey(aws.CustomerAccount, region, "DES", "", true)
	expect(t, "a spec that is none", err, "ValidationException")
	_, err = w.CreateKey(aws.CustomerAccount, region, "", "AWS_CLOUDHSM", true)
	expect(t, "an origin that is not emulated", err, "UnsupportedOperationException")
}

// A key that imported its material is usable and still of origin EXTERNAL.
func TestImportedMaterial(t *testing.T) {
	w := newWorld(t, "")
	arn := must(w.CreateKey(aws.CustomerAccount, region, "", originExternal, true))(t)
	ok(t, w.ImportMaterial(arn))
	if info := must(w.Describe(arn))(t); info.State != stateEnabled || info.Origin != originExternal {
		t.Errorf("%+v", info)
	}
	sealed(t, w.as(platformHost), arn, nil)
	expect(t, "of a key that has its own", w.ImportMaterial(w.key(t, true)), "UnsupportedOperationException")
}

// Deletion runs through its states over the wire: scheduled, cancelled to
// Disabled, and at the end of the waiting period final.
func TestDeletion(t *testing.T) {
	w := newWorld(t, "")
	arn := w.key(t, true)
	owner := w.as(aws.Root(aws.CustomerAccount))
	ok(t, func() error {
		_, err := owner.CreateAlias(ctx, &client.CreateAliasInput{AliasName: ptr("alias/a"), TargetKeyId: &arn})
		return err
	}())
	for _, days := range []int32{6, 31} {
		_, err := owner.ScheduleKeyDeletion(ctx, &client.ScheduleKeyDeletionInput{KeyId: &arn, PendingWindowInDays: &days})
		expect(t, fmt.Sprint(days, " days"), err, "ValidationException")
	}
	seven := int32(7)
	out, err := owner.ScheduleKeyDeletion(ctx, &client.ScheduleKeyDeletionInput{KeyId: &arn, PendingWindowInDays: &seven})
	ok(t, err)
	if out.KeyState != types.KeyStatePendingDeletion || *out.KeyId != arn || *out.PendingWindowInDays != 7 {
		t.Errorf("%+v", out)
	}
	_, err = owner.CancelKeyDeletion(ctx, &client.CancelKeyDeletionInput{KeyId: &arn})
	ok(t, err)
	if info := must(w.Describe(arn))(t); info.State != stateDisabled || !info.Deletion.IsZero() {
		t.Errorf("after cancelling: %+v", info)
	}
	ok(t, w.ScheduleDeletion(arn, 7))
	w.clock.advance(7*24*time.Hour - time.Second)
	if info := must(w.Describe(arn))(t); info.State != statePendingDeletion {
		t.Errorf("a second before its time: %+v", info)
	}
	w.clock.advance(time.Second)
	_, err = w.Describe(arn)
	expect(t, "after the waiting period", err, "NotFoundException")
	_, err = w.Describe("arn:aws:kms:us-east-1:111111111111:alias/a")
	expect(t, "its alias", err, "NotFoundException")
}

// Operations that manage a key do not work from another account, whatever its
// policy says.
func TestManagementIsForTheOwner(t *testing.T) {
	w := newWorld(t, "")
	arn := w.key(t, false)
	ok(t, w.PutPolicy(arn, `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}}`))
	k := target{arn: arn, blob: sealed(t, w.as(platformHost), arn, map[string]string{"a": "b"})}
	for name, call := range everyOperation(w.as(platformHost), k) {
		switch name {
		case "EnableKey", "DisableKey", "ScheduleKeyDeletion", "CancelKeyDeletion", "PutKeyPolicy", "GetKeyPolicy", "CreateAlias", "ListAliases":
			expect(t, name, call(), "AccessDeniedException")
		case "RevokeGrant": // needs a grant
		default:
			expect(t, name, call(), "")
		}
	}
}

// Aliases are of one account and region, and follow their target.
func TestAliases(t *testing.T) {
	w := newWorld(t, "")
	one, two := w.key(t, true), w.key(t, true)
	owner := w.as(aws.Root(aws.CustomerAccount))
	create := func(name, arn string) error {
		_, err := owner.CreateAlias(ctx, &client.CreateAliasInput{AliasName: &name, TargetKeyId: &arn})
		return err
	}
	ok(t, create("alias/orders", one))
	for name, want := range map[string]string{
		"alias/orders": "AlreadyExistsException", "orders": "ValidationException", "alias/aws/ebs": "NotAuthorizedException", "alias/a b": "InvalidAliasNameException",
	} {
		expect(t, name, create(name, two), want)
	}
	_, err := owner.UpdateAlias(ctx, &client.UpdateAliasInput{AliasName: ptr("alias/orders"), TargetKeyId: &two})
	ok(t, err)
	if info := must(w.Describe("arn:aws:kms:us-east-1:111111111111:alias/orders"))(t); info.ARN != two {
		t.Errorf("alias/orders is %s", info.ARN)
	}
	listed, err := owner.ListAliases(ctx, &client.ListAliasesInput{})
	ok(t, err)
	if len(listed.Aliases) != 1 || *listed.Aliases[0].AliasName != "alias/orders" || !strings.HasSuffix(two, *listed.Aliases[0].TargetKeyId) {
		t.Errorf("listed %+v", listed.Aliases)
	}
	elsewhere, err := w.as(aws.Root(aws.CustomerAccount), "eu-west-1").ListAliases(ctx, &client.ListAliasesInput{})
	if err != nil || len(elsewhere.Aliases) != 0 {
		t.Errorf("listed %+v elsewhere: %v", elsewhere, err)
	}
	_, err = owner.DisableKey(ctx, &client.DisableKeyInput{KeyId: ptr("alias/orders")})
	expect(t, "an alias where only a key will do", err, "NotFoundException")
	_, err = owner.DeleteAlias(ctx, &client.DeleteAliasInput{AliasName: ptr("alias/orders")})
	ok(t, err)
	_, err = owner.DeleteAlias(ctx, &client.DeleteAliasInput{AliasName: ptr("alias/orders")})
	expect(t, "deleting it again", err, "NotFoundException")
}

// Listings show one account's keys of one region, page by page.
func TestListKeys(t *testing.T) {
	w := newWorld(t, "")
	want := map[string]bool{w.key(t, true): true, w.key(t, false): true, w.key(t, true): true}
	_ = must(w.CreateKey(aws.CustomerAccount, "eu-west-1", "", "", true))(t)
	_ = must(w.CreateKey(aws.PlatformAccount, region, "", "", true))(t)
	two := int32(2)
	pages := client.NewListKeysPaginator(w.as(aws.Root(aws.CustomerAccount)), &client.ListKeysInput{Limit: &two})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		ok(t, err)
		for _, k := range page.Keys {
			if !want[*k.KeyArn] {
				t.Errorf("listed %s", *k.KeyArn)
			}
			delete(want, *k.KeyArn)
		}
	}
	if len(want) != 0 {
		t.Errorf("not listed: %v", want)
	}
	_, err := w.as(aws.Root(aws.CustomerAccount)).ListKeys(ctx, &client.ListKeysInput{Marker: ptr("?")})
	expect(t, "marker", err, "InvalidMarkerException")
}

// The owner can change a policy over the wire, but not lock the door behind.
func TestPutKeyPolicy(t *testing.T) {
	w := newWorld(t, "")
	arn := w.key(t, true)
	owner := w.as(customerUser)
	put := func(policy string, bypass bool) error {
		_, err := owner.PutKeyPolicy(ctx, &client.PutKeyPolicyInput{KeyId: &arn, Policy: &policy, BypassPolicyLockoutSafetyCheck: bypass})
		return err
	}
	const lockout = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"916150859591"},"Action":"kms:*","Resource":"*"}}`
	expect(t, "lockout", put(lockout, false), "MalformedPolicyDocumentException")
	expect(t, "malformed", put(`{}`, true), "MalformedPolicyDocumentException")
	expect(t, "too long", put(strings.Repeat(" ", maxPolicyStored)+defaultPolicy(aws.CustomerAccount), false), "LimitExceededException")
	ok(t, put(defaultPolicy(aws.CustomerAccount), false))
	got, err := owner.GetKeyPolicy(ctx, &client.GetKeyPolicyInput{KeyId: &arn})
	ok(t, err)
	if *got.Policy != defaultPolicy(aws.CustomerAccount) {
		t.Errorf("got %s", *got.Policy)
	}
	ok(t, put(lockout, true))
	expect(t, "locked out", put(defaultPolicy(aws.CustomerAccount), true), "AccessDeniedException")
}

// A lab that was killed finds its keys, aliases, grants and policies again, and
// old ciphertexts open: a reboot of the world is not a revocation.
func TestPersistence(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t, dir)
	arn := w.key(t, true)
	pending := w.key(t, true)
	ok(t, w.ScheduleDeletion(pending, 8))
	blob := sealed(t, w.as(platformHost), arn, map[string]string{"a": "b"})
	rsa := must(w.CreateKey(aws.CustomerAccount, region, "RSA_2048", "", true))(t)
	ok(t, w.EBSCreateGrant(platformHost, arn, "vol-1"))
	ok(t, w.SetIdentityPolicy(platformHost.RoleARN(), `{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"kms:Encrypt","Resource":"*"}}`))

	w = newWorld(t, dir)
	_, err := w.as(platformHost).Decrypt(ctx, &client.DecryptInput{KeyId: &arn, CiphertextBlob: blob, EncryptionContext: map[string]string{"a": "b"}})
	expect(t, "identity policy", err, "AccessDeniedException")
	ok(t, w.SetIdentityPolicy(platformHost.RoleARN(), ""))
	_, err = w.as(platformHost).Decrypt(ctx, &client.DecryptInput{KeyId: &arn, CiphertextBlob: blob, EncryptionContext: map[string]string{"a": "b"}})
	ok(t, err)
	if info := must(w.Describe(arn))(t); info.Grants != 1 || info.Policy != sharedPolicy(aws.CustomerAccount) {
		t.Errorf("%+v", info)
	}
	if info := must(w.Describe(pending))(t); info.State != statePendingDeletion || info.Deletion.IsZero() {
		t.Errorf("%+v", info)
	}
	if info := must(w.Describe(rsa))(t); info.Spec != "RSA_2048" {
		t.Errorf("%+v", info)
	}
	if left, err := filepath.Glob(filepath.Join(dir, stateFile+".*")); err != nil || len(left) != 0 {
		t.Errorf("temporary files are left: %v %v", left, err)
	}
	stat, err := os.Stat(filepath.Join(dir, stateFile))
	if err != nil || stat.Mode().Perm() != 0o600 {
		t.Errorf("the file with the keys is %v: %v", stat.Mode(), err)
	}
}

// A change that cannot be made durable did not happen, and says so.
func TestUnwritableState(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	ok(t, os.Mkdir(dir, 0o700))
	w := newWorld(t, dir)
	arn := w.key(t, true)
	ok(t, os.Rename(dir, dir+".gone"))
	err := w.SetEnabled(arn, false)
	expect(t, "disable", err, "KMSInternalException")
	ok(t, os.Rename(dir+".gone", dir))
	if info := must(w.Describe(arn))(t); info.State != stateEnabled {
		t.Errorf("the key is %s", info.State)
	}
}

// A state file that cannot be read is left alone.
func TestUnreadableState(t *testing.T) {
	for _, content := range []string{"{", `{"version":2}`} {
		dir := t.TempDir()
		path := filepath.Join(dir, stateFile)
		ok(t, os.WriteFile(path, []byte(content), 0o600))
		if _, err := Open(Options{Dir: dir}); err == nil {
			t.Errorf("opened with %q", content)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != content {
			t.Errorf("now it holds %q: %v", got, err)
		}
	}
}
