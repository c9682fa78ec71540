// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"bytes"
	"fmt"
	"maps"
	"strings"
	"testing"

	client "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"pgregory.net/rapid"

	"github.com/volseal/volseal/test/lab/aws"
)

func symmetricKey(id string) *key {
	k := &key{ARN: "arn:aws:kms:us-east-1:111111111111:key/" + id, Spec: specSymmetric, Usage: usageEncrypt}
	k.addBacking()
	return k
}

func genContext() *rapid.Generator[map[string]string] {
	word := rapid.StringMatching(`[a-c]{0,2}`)
	return rapid.MapOfN(word, word, 0, 3)
}

// A blob opens under exactly the context it was sealed with, on the key it was
// sealed under; whatever is changed of it, nothing is decrypted.
func TestBlobProperties(t *testing.T) {
	k, other := symmetricKey("k"), symmetricKey("k")
	rapid.Check(t, func(t *rapid.T) {
		plaintext := rapid.SliceOfN(rapid.Byte(), 1, 64).Draw(t, "plaintext")
		context := genContext().Draw(t, "context")
		sealed, err := sealBlob(k, context, plaintext)
		if err != nil {
			t.Fatal(err)
		}
		open := func(k *key, b []byte, context map[string]string) ([]byte, error) {
			p, isBlob := parseBlob(b)
			if !isBlob || p.keyARN != k.ARN {
				return nil, invalidCiphertext()
			}
			return openBlob(k, context, p)
		}
		if got, err := open(k, sealed, context); err != nil || !bytes.Equal(got, plaintext) {
			t.Fatalf("open: %x, %v", got, err)
		}
		if changed := genContext().Draw(t, "other context"); !maps.Equal(changed, context) {
			if got, err := open(k, sealed, changed); code(err) != "InvalidCiphertextException" || got != nil {
				t.Fatalf("open in another context: %x, %v", got, err)
			}
		}
		flipped := bytes.Clone(sealed)
		flipped[rapid.IntRange(0, len(sealed)-1).Draw(t, "at")] ^= byte(rapid.IntRange(1, 255).Draw(t, "bits"))
		if got, err := open(k, flipped, context); err == nil {
			t.Fatalf("open a changed blob: %x", got)
		}
		cut := sealed[:rapid.IntRange(0, len(sealed)-1).Draw(t, "length")]
		if got, err := open(k, cut, context); err == nil {
			t.Fatalf("open a cut blob: %x", got)
		}
		if got, err := open(other, sealed, context); err == nil {
			t.Fatalf("open under other material: %x", got)
		}
	})
}

// Data keys come wrapped at the size AWS's are, so that what must hold them (a
// LUKS token) is proved with real sizes.
func TestBlobSize(t *testing.T) {
	k := symmetricKey("00000000-0000-4000-8000-000000000000")
	sealed := must(sealBlob(k, nil, make([]byte, 32)))(t)
	if len(sealed) < 150 || len(sealed) > 200 {
		t.Errorf("a wrapped data key has %d bytes", len(sealed))
	}
}

// Old ciphertexts stay readable when the key has rotated.
func TestRotationKeepsOldCiphertexts(t *testing.T) {
	w := newWorld(t, "")
	arn := w.key(t, true)
	host := w.as(platformHost)
	before := sealed(t, host, arn, nil)
	ok(t, w.Rotate(arn))
	after := sealed(t, host, arn, nil)
	for name, blob := range map[string][]byte{"before": before, "after": after} {
		_, err := host.Decrypt(ctx, &client.DecryptInput{KeyId: &arn, CiphertextBlob: blob})
		expect(t, name, err, "")
	}
}

func sealed(t *testing.T, c *client.Client, arn string, context map[string]string) []byte {
	t.Helper()
	out, err := c.GenerateDataKeyWithoutPlaintext(ctx, &client.GenerateDataKeyWithoutPlaintextInput{
		KeyId: &arn, KeySpec: types.DataKeySpecAes256, EncryptionContext: context,
	})
	ok(t, err)
	return out.CiphertextBlob
}

// The round trips of the product: a data key comes back only under its CMK and
// context, and every way to be wrong has the code that the classifier reads.
func TestDecrypt(t *testing.T) {
	w := newWorld(t, "")
	arn, other, unshared := w.key(t, true), w.key(t, true), w.key(t, false)
	host, owner := w.as(platformHost), w.as(aws.Root(aws.CustomerAccount))
	ok(t, func() error {
		_, err := owner.CreateAlias(ctx, &client.CreateAliasInput{AliasName: ptr("alias/orders"), TargetKeyId: &arn})
		return err
	}())
	context := map[string]string{"volseal:database": "db-1", "volseal:purpose": "luks2-data-key-v1"}
	made, err := host.GenerateDataKey(ctx, &client.GenerateDataKeyInput{KeyId: &arn, KeySpec: types.DataKeySpecAes256, EncryptionContext: context})
	ok(t, err)
	foreign := sealed(t, owner, unshared, context)
	flipped := bytes.Clone(made.CiphertextBlob)
	flipped[len(flipped)-1] ^= 1
	id := arn[strings.LastIndex(arn, "/")+1:]
	cases := []struct {
		name    string
		c       *client.Client
		keyID   string
		blob    []byte
		context map[string]string
		want    string
	}{
		{"pinned", host, arn, made.CiphertextBlob, context, ""},
		{"unpinned", host, "", made.CiphertextBlob, context, ""},
		{"pinned by a short id across accounts", host, id, made.CiphertextBlob, context, ""},
		{"pinned by the owner's short id", owner, id, made.CiphertextBlob, context, ""},
		{"pinned by alias", owner, "alias/orders", made.CiphertextBlob, context, ""},
		{"pinned by alias ARN across accounts", host, "arn:aws:kms:us-east-1:111111111111:alias/orders", made.CiphertextBlob, context, ""},
		{"wrong context", host, arn, made.CiphertextBlob, map[string]string{"volseal:database": "db-2"}, "InvalidCiphertextException"},
		{"no context", host, arn, made.CiphertextBlob, nil, "InvalidCiphertextException"},
		{"changed", host, arn, flipped, context, "InvalidCiphertextException"},
		{"garbage", host, arn, []byte("garbage"), context, "InvalidCiphertextException"},
		{"garbage, unpinned", host, "", []byte("garbage"), context, "InvalidCiphertextException"},
		{"pinned to another key", host, other, made.CiphertextBlob, context, "IncorrectKeyException"},
		{"pinned to a key that is not ours", host, unshared, made.CiphertextBlob, context, "AccessDeniedException"},
		{"wrapped by a key that is not ours", host, "", foreign, context, "AccessDeniedException"},
		{"wrapped by a key that is not ours, pinned to one that is", host, arn, foreign, context, "IncorrectKeyException"},
		{"wrong region", host, strings.Replace(arn, region, "eu-west-1", 1), made.CiphertextBlob, context, "NotFoundException"},
		{"no such key", owner, "00000000-0000-4000-8000-000000000000", made.CiphertextBlob, context, "NotFoundException"},
		{"no such alias", owner, "alias/none", made.CiphertextBlob, context, "NotFoundException"},
		{"no such alias across accounts", host, "arn:aws:kms:us-east-1:111111111111:alias/none", made.CiphertextBlob, context, "AccessDeniedException"},
		{"no key id", host, "volseal", made.CiphertextBlob, context, "NotFoundException"},
		{"no ARN", host, "arn:aws:kms", made.CiphertextBlob, context, "InvalidArnException"},
		{"ARN of another service", host, strings.Replace(arn, ":kms:", ":s3:", 1), made.CiphertextBlob, context, "InvalidArnException"},
		{"empty ciphertext", host, arn, []byte{}, context, "ValidationException"},
		{"too much ciphertext", host, arn, make([]byte, 6145), context, "ValidationException"},
	}
	for _, c := range cases {
		in := &client.DecryptInput{CiphertextBlob: c.blob, EncryptionContext: c.context}
		if c.keyID != "" {
			in.KeyId = &c.keyID
		}
		out, err := c.c.Decrypt(ctx, in)
		expect(t, c.name, err, c.want)
		if err == nil && (!bytes.Equal(out.Plaintext, made.Plaintext) || *out.KeyId != arn) {
			t.Errorf("%s: other plaintext, or key %s", c.name, *out.KeyId)
		}
	}
}

// The texts that a person will search for are AWS's.
func TestMessages(t *testing.T) {
	w := newWorld(t, "")
	arn := w.key(t, true)
	owner, host := w.as(aws.Root(aws.CustomerAccount)), w.as(platformHost)
	elsewhere := strings.Replace(arn, region, "eu-west-1", 1)
	describe := func(c *client.Client, id string) error {
		_, err := c.DescribeKey(ctx, &client.DescribeKeyInput{KeyId: &id})
		return err
	}
	gone := "arn:aws:kms:us-east-1:111111111111:key/00000000-0000-4000-8000-000000000000"
	blob := sealed(t, host, arn, nil)
	decryptIn := func(region string) error {
		_, err := w.as(platformHost, region).Decrypt(ctx, &client.DecryptInput{CiphertextBlob: blob})
		return err
	}
	for want, err := range map[string]error{
		"Invalid arn eu-west-1":                                             describe(host, elsewhere),
		"Invalid keyId 'volseal'":                                           describe(owner, "volseal"),
		"Key '" + gone + "' does not exist":                                 describe(owner, gone),
		"Alias arn:aws:kms:us-east-1:111111111111:alias/none is not found.": describe(owner, "alias/none"),
		"User: " + platformHost.ARN + " is not authorized to perform: kms:Decrypt on the resource associated with this ciphertext because " +
			"the resource does not exist in this Region, no resource-based policies allow access, or a resource-based policy explicitly denies access": decryptIn("eu-west-1"),
	} {
		if message(err) != want {
			t.Errorf("got %q, want %q", message(err), want)
		}
	}
}

// Requests beyond the API's limits are refused as the API's validation does.
func TestLimits(t *testing.T) {
	w := newWorld(t, "")
	arn := w.key(t, true)
	host := w.as(platformHost)
	encrypt := func(size int, context map[string]string) error {
		_, err := host.Encrypt(ctx, &client.EncryptInput{KeyId: &arn, Plaintext: make([]byte, size), EncryptionContext: context})
		return err
	}
	generate := func(bytes int32, spec types.DataKeySpec) error {
		in := &client.GenerateDataKeyInput{KeyId: &arn, KeySpec: spec}
		if bytes != 0 {
			in.NumberOfBytes = &bytes
		}
		_, err := host.GenerateDataKey(ctx, in)
		return err
	}
	const one = "1 validation error detected: Value"
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"4096 bytes", encrypt(4096, nil), ""},
		{"4097 bytes", encrypt(4097, nil), one + " at 'plaintext' failed to satisfy constraint: Member must have length less than or equal to 4096"},
		{"no bytes", encrypt(0, nil), one + " at 'plaintext' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{"long context", encrypt(1, map[string]string{"a": strings.Repeat("b", 8192)}), one + " at 'encryptionContext' failed to satisfy constraint: Member must have length less than or equal to 8192"},
		{"data key of 64 bytes", generate(64, ""), ""},
		{"data key of 1025 bytes", generate(1025, ""), one + " '1025' at 'numberOfBytes' failed to satisfy constraint: Member must have value less than or equal to 1024"},
		{"spec and size", generate(32, "AES_256"), "Please specify either number of bytes or key spec."},
		{"neither", generate(0, ""), "Please specify either number of bytes or key spec."},
		{"unknown spec", generate(0, "AES_512"), one + " 'AES_512' at 'keySpec' failed to satisfy constraint: Member must satisfy enum value set: [AES_256, AES_128]"},
	} {
		if got := message(c.err); got != c.want || c.want != "" && code(c.err) != "ValidationException" {
			t.Errorf("%s: got %v, want %q", c.name, c.err, c.want)
		}
	}
}

// An asymmetric key is refused for what only a symmetric one can do, and really
// encrypts otherwise.
func TestRSA(t *testing.T) {
	w := newWorld(t, "")
	arn := must(w.CreateKey(aws.CustomerAccount, region, "RSA_2048", "", true))(t)
	host, owner := w.as(platformHost), w.as(aws.Root(aws.CustomerAccount))
	_, err := host.GenerateDataKey(ctx, &client.GenerateDataKeyInput{KeyId: &arn, KeySpec: types.DataKeySpecAes256})
	expect(t, "GenerateDataKey", err, "InvalidKeyUsageException")
	_, err = host.Encrypt(ctx, &client.EncryptInput{KeyId: &arn, Plaintext: []byte("x")})
	expect(t, "Encrypt by default", err, "InvalidKeyUsageException")
	_, err = host.Decrypt(ctx, &client.DecryptInput{KeyId: &arn, CiphertextBlob: []byte("x")})
	expect(t, "Decrypt by default", err, "InvalidKeyUsageException")
	described, err := host.DescribeKey(ctx, &client.DescribeKeyInput{KeyId: &arn})
	ok(t, err)
	if m := described.KeyMetadata; m.KeySpec != types.KeySpecRsa2048 || fmt.Sprint(m.EncryptionAlgorithms) != "[RSAES_OAEP_SHA_1 RSAES_OAEP_SHA_256]" {
		t.Errorf("DescribeKey: %+v", m)
	}
	for _, algorithm := range []types.EncryptionAlgorithmSpec{types.EncryptionAlgorithmSpecRsaesOaepSha1, types.EncryptionAlgorithmSpecRsaesOaepSha256} {
		out, err := host.Encrypt(ctx, &client.EncryptInput{KeyId: &arn, Plaintext: []byte("x"), EncryptionAlgorithm: algorithm})
		ok(t, err)
		got, err := host.Decrypt(ctx, &client.DecryptInput{KeyId: &arn, CiphertextBlob: out.CiphertextBlob, EncryptionAlgorithm: algorithm})
		ok(t, err)
		if string(got.Plaintext) != "x" {
			t.Errorf("%s: %q", algorithm, got.Plaintext)
		}
	}
	_, err = host.Encrypt(ctx, &client.EncryptInput{KeyId: &arn, Plaintext: make([]byte, 191), EncryptionAlgorithm: types.EncryptionAlgorithmSpecRsaesOaepSha256})
	if want := "Algorithm RSAES_OAEP_SHA_256 and key spec RSA_2048 cannot encrypt data larger than 190 bytes."; message(err) != want {
		t.Errorf("too long: %v", err)
	}
	signing, err := owner.CreateKey(ctx, &client.CreateKeyInput{KeySpec: types.KeySpecRsa2048, KeyUsage: types.KeyUsageTypeSignVerify})
	ok(t, err)
	_, err = owner.Encrypt(ctx, &client.EncryptInput{KeyId: signing.KeyMetadata.Arn, Plaintext: []byte("x")})
	if want := *signing.KeyMetadata.Arn + " key usage is SIGN_VERIFY which is not valid for Encrypt."; message(err) != want {
		t.Errorf("a signing key: %v", err)
	}
	public, err := owner.GetPublicKey(ctx, &client.GetPublicKeyInput{KeyId: &arn})
	if err != nil || len(public.PublicKey) == 0 {
		t.Errorf("GetPublicKey: %v", err)
	}
	symmetric := w.key(t, true)
	_, err = owner.GetPublicKey(ctx, &client.GetPublicKeyInput{KeyId: &symmetric})
	expect(t, "GetPublicKey of a symmetric key", err, "UnsupportedOperationException")
}

// ReEncrypt moves a data key to another CMK and context without showing it, and
// needs the right on both sides: rotation to a customer's new CMK rests on it.
func TestReEncrypt(t *testing.T) {
	w := newWorld(t, "")
	from, to := w.key(t, true), w.key(t, true)
	host := w.as(platformHost)
	context := map[string]string{"volseal:database": "db-1"}
	made, err := host.GenerateDataKey(ctx, &client.GenerateDataKeyInput{KeyId: &from, KeySpec: types.DataKeySpecAes256, EncryptionContext: context})
	ok(t, err)
	move := func() (*client.ReEncryptOutput, error) {
		return host.ReEncrypt(ctx, &client.ReEncryptInput{
			CiphertextBlob: made.CiphertextBlob, SourceKeyId: &from, SourceEncryptionContext: context,
			DestinationKeyId: &to, DestinationEncryptionContext: map[string]string{"volseal:database": "db-2"},
		})
	}
	moved, err := move()
	ok(t, err)
	got, err := host.Decrypt(ctx, &client.DecryptInput{KeyId: &to, CiphertextBlob: moved.CiphertextBlob, EncryptionContext: map[string]string{"volseal:database": "db-2"}})
	ok(t, err)
	if !bytes.Equal(got.Plaintext, made.Plaintext) || *moved.KeyId != to || *moved.SourceKeyId != from {
		t.Errorf("moved to %s: %+v", to, moved)
	}
	last := w.calls.Since(w.calls.Mark() - 2)[0]
	if last.Operation != "ReEncrypt" || last.Key != from || last.ToKey != to || last.Context["volseal:database"] != "db-1" || last.ToContext["volseal:database"] != "db-2" {
		t.Errorf("logged %+v", last)
	}
	for _, c := range []struct{ key, action, text string }{
		{from, "ReEncryptFrom", "kms:ReEncryptFrom on the resource associated with this ciphertext"},
		{to, "ReEncryptTo", "kms:ReEncryptTo on this resource"},
	} {
		ok(t, w.Deny(c.key, c.action))
		_, err := move()
		expect(t, "denied "+c.action, err, "AccessDeniedException")
		if !strings.Contains(message(err), c.text) {
			t.Errorf("denied %s: %s", c.action, message(err))
		}
		ok(t, w.Allow(c.key))
	}
	ok(t, w.SetEnabled(to, false))
	_, err = move()
	expect(t, "to a disabled key", err, "DisabledException")
}

// A dry run answers what the request would, but for success, and changes
// nothing: DryRunOperationException is how the preflight hears yes.
func TestDryRun(t *testing.T) {
	w := newWorld(t, "")
	arn := w.key(t, true)
	host, owner := w.as(platformHost), w.as(aws.Root(aws.CustomerAccount))
	blob := sealed(t, host, arn, nil)
	yes := true
	grantee := ptr(platformHost.ARN)
	attempts := map[string]func() error{
		"Decrypt": func() error {
			_, err := host.Decrypt(ctx, &client.DecryptInput{KeyId: &arn, CiphertextBlob: blob, DryRun: &yes})
			return err
		},
		"Decrypt without ciphertext": func() error {
			_, err := host.Decrypt(ctx, &client.DecryptInput{KeyId: &arn, DryRun: &yes, DryRunModifiers: []types.DryRunModifierType{"IGNORE_CIPHERTEXT"}})
			return err
		},
		"Encrypt": func() error {
			_, err := host.Encrypt(ctx, &client.EncryptInput{KeyId: &arn, Plaintext: []byte("x"), DryRun: &yes})
			return err
		},
		"GenerateDataKey": func() error {
			_, err := host.GenerateDataKey(ctx, &client.GenerateDataKeyInput{KeyId: &arn, KeySpec: "AES_256", DryRun: &yes})
			return err
		},
		"GenerateDataKeyWithoutPlaintext": func() error {
			_, err := host.GenerateDataKeyWithoutPlaintext(ctx, &client.GenerateDataKeyWithoutPlaintextInput{KeyId: &arn, KeySpec: "AES_256", DryRun: &yes})
			return err
		},
		"ReEncrypt": func() error {
			_, err := host.ReEncrypt(ctx, &client.ReEncryptInput{CiphertextBlob: blob, DestinationKeyId: &arn, DryRun: &yes})
			return err
		},
		"ReEncrypt without ciphertext": func() error {
			_, err := host.ReEncrypt(ctx, &client.ReEncryptInput{SourceKeyId: &arn, DestinationKeyId: &arn, DryRun: &yes, DryRunModifiers: []types.DryRunModifierType{"IGNORE_CIPHERTEXT"}})
			return err
		},
		"CreateGrant": func() error {
			_, err := owner.CreateGrant(ctx, &client.CreateGrantInput{KeyId: &arn, GranteePrincipal: grantee, Operations: []types.GrantOperation{"Decrypt"}, DryRun: &yes})
			return err
		},
	}
	for name, attempt := range attempts {
		expect(t, name, attempt(), "DryRunOperationException")
	}
	if info := must(w.Describe(arn))(t); info.Grants != 0 {
		t.Errorf("a dry run made %d grants", info.Grants)
	}
	if c := w.calls.Since(w.calls.Mark() - 1)[0]; !c.DryRun || c.Result != "DryRunOperationException" {
		t.Errorf("logged %+v", c)
	}
	ok(t, w.SetEnabled(arn, false))
	for name, attempt := range attempts {
		expect(t, name+" when disabled", attempt(), "DisabledException")
	}
	_, err := host.Decrypt(ctx, &client.DecryptInput{DryRun: &yes, DryRunModifiers: []types.DryRunModifierType{"IGNORE_CIPHERTEXT"}})
	expect(t, "no key to ask about", err, "ValidationException")
	_, err = host.ReEncrypt(ctx, &client.ReEncryptInput{DestinationKeyId: &arn, DryRun: &yes, DryRunModifiers: []types.DryRunModifierType{"IGNORE_CIPHERTEXT"}})
	expect(t, "no key to ask about", err, "ValidationException")
	_, err = host.ReEncrypt(ctx, &client.ReEncryptInput{SourceKeyId: &arn, DestinationKeyId: &arn, DryRun: &yes})
	expect(t, "no ciphertext to ask about", err, "ValidationException")
}

// What a test searches memory for is the very key that a client got, also when
// no client gets it any more.
func TestUnwrap(t *testing.T) {
	w := newWorld(t, "")
	arn := w.key(t, true)
	context := map[string]string{"volseal:database": "db"}
	made, err := w.as(platformHost).GenerateDataKey(t.Context(), &client.GenerateDataKeyInput{
		KeyId: &arn, KeySpec: types.DataKeySpecAes256, EncryptionContext: context,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.SetEnabled(arn, false); err != nil {
		t.Fatal(err)
	}
	if got := must(w.Unwrap(arn, made.CiphertextBlob, context))(t); !bytes.Equal(got, made.Plaintext) {
		t.Error("another key")
	}
	if _, err := w.Unwrap(arn, made.CiphertextBlob, nil); err == nil {
		t.Error("unwrapped under another context")
	}
}
