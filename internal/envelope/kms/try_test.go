// SPDX-License-Identifier: Apache-2.0

package kms_test

import (
	"testing"

	"github.com/volseal/volseal/internal/envelope/kms"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/test/lab/aws"
)

// TestTry protects the preflight: each permission is asked for by itself, a yes
// leaves nothing behind, and each no is told from a key that cannot be used.
func TestTry(t *testing.T) {
	w := newWorld(t)
	arn, ec := w.ref.KeyARN, w.ref.Context
	for _, p := range kms.Permissions() {
		if err := w.client.Try(t.Context(), p, arn, ec); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
	for denied, of := range map[string]kms.Permission{
		"GenerateDataKey": kms.MayGenerate, "Decrypt": kms.MayDecrypt, "GenerateDataKeyWithoutPlaintext": kms.MayGenerateWrapped,
		"ReEncryptFrom": kms.MayReEncrypt, "ReEncryptTo": kms.MayReEncrypt,
	} {
		if err := w.Deny(arn, denied); err != nil {
			t.Fatal(err)
		}
		for _, p := range kms.Permissions() {
			if err := w.client.Try(t.Context(), p, arn, ec); kms.Denied(err) != (p == of) || (err != nil) != (p == of) {
				t.Errorf("kms:%s denied: %s: %v", denied, p, err)
			}
		}
		if err := w.Allow(arn); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range w.calls.Since(0) {
		if !c.DryRun {
			t.Errorf("a real %s", c.Operation)
		}
	}
	if err := w.SetEnabled(arn, false); err != nil {
		t.Fatal(err)
	}
	for _, p := range kms.Permissions() {
		if err := w.client.Try(t.Context(), p, arn, ec); kms.Denied(err) || fault.ReasonOf(err) != "DisabledException" {
			t.Errorf("%s of a disabled key: %v", p, err)
		}
	}
}

// TestDescribe protects who reads why a key cannot be used, and who looks for
// the key behind an alias.
func TestDescribe(t *testing.T) {
	w := newWorld(t)
	imported := w.key(t, "", "EXTERNAL")
	got, err := w.client.Describe(t.Context(), imported)
	want := kms.Key{ARN: imported, State: "PendingImport", Spec: "SYMMETRIC_DEFAULT", Usage: "ENCRYPT_DECRYPT", Origin: "EXTERNAL", Manager: "CUSTOMER"}
	if err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	unshared, err := w.CreateKey(aws.CustomerAccount, "us-east-1", "", "", false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.client.Describe(t.Context(), unshared); !kms.Denied(err) {
		t.Errorf("a key that is not shared: %v", err)
	}
}
