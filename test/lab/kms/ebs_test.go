// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"testing"

	"github.com/volseal/volseal/test/lab/aws"
)

// volume is an encrypted volume as EC2 makes it: a wrapped key bound to its id.
func volume(t *testing.T, w *world, arn, id string) []byte {
	t.Helper()
	return must(w.EBSGenerateDataKeyWithoutPlaintext(platformHost, arn, id))(t)
}

// attach is what EC2 does when a volume is attached.
func attach(w *world, arn, id string, wrapped []byte) error {
	if err := w.EBSCreateGrant(platformHost, arn, id); err != nil {
		return err
	}
	return w.EBSDecrypt(platformHost, arn, id, wrapped)
}

// A volume attaches while the customer's key policy and key state let it, and
// by the grant alone: the shared policy's second statement is what that takes.
func TestEBSAttach(t *testing.T) {
	w := newWorld(t, "")
	arn := w.key(t, true)
	wrapped := volume(t, w, arn, "vol-1")
	ok(t, attach(w, arn, "vol-1", wrapped))
	ok(t, attach(w, arn, "vol-1", wrapped))
	if info := must(w.Describe(arn))(t); info.Grants != 1 {
		t.Errorf("attaching twice left %d grants", info.Grants)
	}
	expect(t, "another volume's key", w.EBSDecrypt(platformHost, arn, "vol-2", wrapped), "InvalidCiphertextException")
	ok(t, w.SetEnabled(arn, false))
	expect(t, "disabled", w.EBSDecrypt(platformHost, arn, "vol-1", wrapped), "DisabledException")
	expect(t, "disabled, new grant", w.EBSCreateGrant(platformHost, arn, "vol-1"), "DisabledException")
	ok(t, w.SetEnabled(arn, true))
	for _, action := range []string{"CreateGrant", "Decrypt", "*"} {
		ok(t, w.Deny(arn, action))
		expect(t, "denied "+action, attach(w, arn, "vol-1", wrapped), "AccessDeniedException")
		ok(t, w.Allow(arn))
	}
	ok(t, attach(w, arn, "vol-1", wrapped))
	ok(t, w.EBSRetireGrant(platformHost, arn, "vol-1"))
	ok(t, w.EBSRetireGrant(platformHost, arn, "vol-1"))
	if info := must(w.Describe(arn))(t); info.Grants != 0 {
		t.Errorf("%d grants are left after the detach", info.Grants)
	}
}

// Sharing only the use of the key, without the statement about grants, is the
// commonest mistake: volumes are created and do not attach.
func TestEBSWithoutGrantStatement(t *testing.T) {
	w := newWorld(t, "")
	arn := w.key(t, false)
	ok(t, w.PutPolicy(arn, formatPolicy(ownerStatement(aws.CustomerAccount), statement{
		Effect: "Allow", Principal: awsPrincipal(aws.Root(aws.PlatformAccount).ARN), Resource: stringList{"*"},
		Action: stringList{"kms:Decrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*", "kms:DescribeKey"},
	})))
	wrapped := volume(t, w, arn, "vol-1")
	expect(t, "attach", attach(w, arn, "vol-1", wrapped), "AccessDeniedException")
}

// EC2 needs no Decrypt of the caller's once it has its grant.
func TestEBSDecryptsByItsGrant(t *testing.T) {
	w := newWorld(t, "")
	arn := w.key(t, false)
	ok(t, w.PutPolicy(arn, formatPolicy(ownerStatement(aws.CustomerAccount), statement{
		Effect: "Allow", Principal: awsPrincipal(aws.Root(aws.PlatformAccount).ARN), Resource: stringList{"*"},
		Action: stringList{"kms:GenerateDataKey*", "kms:CreateGrant"},
	})))
	wrapped := volume(t, w, arn, "vol-1")
	expect(t, "without grant", w.EBSDecrypt(platformHost, arn, "vol-1", wrapped), "AccessDeniedException")
	ok(t, attach(w, arn, "vol-1", wrapped))
}

// Keys that EBS cannot use fail as they do on AWS.
func TestEBSUnfitKeys(t *testing.T) {
	w := newWorld(t, "")
	for name, c := range map[string]struct{ arn, want string }{
		"unshared":      {w.key(t, false), "AccessDeniedException"},
		"asymmetric":    {must(w.CreateKey(aws.CustomerAccount, region, "RSA_2048", "", true))(t), "InvalidKeyUsageException"},
		"imported":      {must(w.CreateKey(aws.CustomerAccount, region, "", originExternal, true))(t), "KMSInvalidStateException"},
		"other region":  {must(w.CreateKey(aws.CustomerAccount, "eu-west-1", "", "", true))(t), "NotFoundException"},
		"never existed": {"arn:aws:kms:us-east-1:111111111111:key/00000000-0000-4000-8000-000000000000", "AccessDeniedException"},
	} {
		_, err := w.EBSGenerateDataKeyWithoutPlaintext(platformHost, c.arn, "vol-1")
		expect(t, name, err, c.want)
	}
}

// A snapshot copied to another CMK opens for its new volume only.
func TestEBSReEncrypt(t *testing.T) {
	w := newWorld(t, "")
	from, to := w.key(t, true), w.key(t, true)
	wrapped := volume(t, w, from, "vol-1")
	moved := must(w.EBSReEncrypt(platformHost, from, to, "vol-1", "snap-1", wrapped))(t)
	ok(t, w.EBSDecrypt(platformHost, to, "snap-1", moved))
	expect(t, "old key", w.EBSDecrypt(platformHost, from, "snap-1", moved), "IncorrectKeyException")
	ok(t, w.Deny(to, "ReEncryptTo"))
	_, err := w.EBSReEncrypt(platformHost, from, to, "vol-1", "snap-1", wrapped)
	expect(t, "denied", err, "AccessDeniedException")
	c := w.calls.Since(w.calls.Mark() - 1)[0]
	if c.Via != "ec2" || c.Operation != "ReEncrypt" || c.Key != from || c.ToKey != to || c.Resource != "snap-1" || c.Result != "AccessDeniedException" {
		t.Errorf("logged %+v", c)
	}
}
