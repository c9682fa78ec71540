// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/volseal/volseal/internal/envelope/kms"
	"github.com/volseal/volseal/internal/fault"
)

const keyARN = "arn:aws:kms:us-east-1:111111111111:key/aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"

var (
	here     = Self{Account: "916150859591", Region: "us-east-1", Instance: "i-0123456789abcdef0", Zone: "us-east-1a"}
	soundKey = kms.Key{ARN: keyARN, State: "Enabled", Spec: "SYMMETRIC_DEFAULT", Usage: "ENCRYPT_DECRYPT", Origin: "AWS_KMS", Manager: "CUSTOMER"}

	hidden     = &fault.Error{Class: fault.Revoked, Reason: "AccessDeniedException", Cause: "Not allowed.", Hint: "Ask."}
	byPlatform = &fault.Error{Class: fault.Revoked, Reason: fault.ReasonDeniedByPlatform, Cause: "Our role may not.", Hint: "Mend the role.", Who: []fault.Owner{fault.Platform}}
	disabled   = &fault.Error{Class: fault.Revoked, Reason: "DisabledException", Cause: "The CMK is disabled.", Hint: "Enable it."}
	tooSlow    = &fault.Error{Class: fault.Unreachable, Reason: "timeout", Cause: "Too slow.", Hint: "Wait."}
	unknownTry = &fault.Error{Class: fault.Misconfigured, Reason: "ValidationException", Cause: "Bad request.", Hint: "Mend it."}
)

// all answers every trial alike.
func all(err error) map[kms.Permission]error {
	tried := map[kms.Permission]error{}
	for _, p := range kms.Permissions() {
		tried[p] = err
	}
	return tried
}

// TestKeyRules protects customers and whoever helps them: each rule of the key
// that is broken is one failed line with a remedy, the class is that of the
// cause, and the statements are asked for where they are what is missing.
func TestKeyRules(t *testing.T) {
	with := func(edit func(*kms.Key)) kms.Key {
		k := soundKey
		edit(&k)
		return k
	}
	one := func(p kms.Permission, err error) map[kms.Permission]error {
		tried := all(nil)
		tried[p] = err
		return tried
	}
	for name, tt := range map[string]struct {
		answers keyAnswers
		failed  string // the names of failed lines
		class   fault.Class
		missing int // statements
	}{
		"a sound key":            {keyAnswers{key: soundKey, tried: all(nil)}, "", "", 0},
		"another region":         {keyAnswers{arn: strings.Replace(keyARN, "us-east-1", "eu-west-1", 1)}, "region", fault.Misconfigured, 0},
		"disabled":               {keyAnswers{key: with(func(k *kms.Key) { k.State = "Disabled" }), tried: all(disabled)}, "state", fault.Revoked, 0},
		"pending deletion":       {keyAnswers{key: with(func(k *kms.Key) { k.State = "PendingDeletion" }), tried: all(disabled)}, "state", fault.Revoked, 0},
		"key store disconnected": {keyAnswers{key: with(func(k *kms.Key) { k.State = "Unavailable" }), tried: all(tooSlow)}, "state", fault.Unreachable, 0},
		"RSA":                    {keyAnswers{key: with(func(k *kms.Key) { k.Spec = "RSA_2048" }), tried: all(unknownTry)}, "kind", fault.Misconfigured, 0},
		"to sign":                {keyAnswers{key: with(func(k *kms.Key) { k.Usage = "SIGN_VERIFY" }), tried: all(unknownTry)}, "kind", fault.Misconfigured, 0},
		"imported": {
			keyAnswers{key: with(func(k *kms.Key) { k.Origin, k.State = "EXTERNAL", "PendingImport" }), tried: all(disabled)},
			"state material", fault.Misconfigured, 0,
		},
		"imported and there":     {keyAnswers{key: with(func(k *kms.Key) { k.Origin = "EXTERNAL" }), tried: all(nil)}, "material", fault.Misconfigured, 0},
		"managed by AWS":         {keyAnswers{key: with(func(k *kms.Key) { k.Manager = "AWS" }), tried: all(nil)}, "manager", fault.Misconfigured, 0},
		"another key's facts":    {keyAnswers{key: with(func(k *kms.Key) { k.ARN += "x" }), tried: all(nil)}, "kms:DescribeKey", fault.Unknown, 0},
		"not shared":             {keyAnswers{describeErr: hidden, tried: all(hidden)}, "kms:DescribeKey kms:GenerateDataKey kms:Decrypt kms:GenerateDataKeyWithoutPlaintext kms:ReEncrypt*", fault.Revoked, 2},
		"one action missing":     {keyAnswers{key: soundKey, tried: one(kms.MayReEncrypt, hidden)}, "kms:ReEncrypt*", fault.Revoked, 1},
		"DescribeKey missing":    {keyAnswers{describeErr: hidden, tried: all(nil)}, "kms:DescribeKey", fault.Revoked, 1},
		"our own policy":         {keyAnswers{key: soundKey, tried: one(kms.MayDecrypt, byPlatform)}, "kms:Decrypt", fault.Revoked, 0},
		"nobody answers":         {keyAnswers{describeErr: tooSlow, tried: all(tooSlow)}, "kms:DescribeKey kms:GenerateDataKey kms:Decrypt kms:GenerateDataKeyWithoutPlaintext kms:ReEncrypt*", fault.Unreachable, 0},
		"an old endpoint":        {keyAnswers{key: soundKey, tried: one(kms.MayDecrypt, unknownTry)}, "", "", 0},
		"disabled, and one more": {keyAnswers{key: with(func(k *kms.Key) { k.State = "Disabled" }), tried: map[kms.Permission]error{kms.MayDecrypt: hidden, kms.MayGenerate: disabled, kms.MayGenerateWrapped: disabled, kms.MayReEncrypt: disabled}}, "state kms:Decrypt", fault.Revoked, 1},
	} {
		tt.answers.self = here
		if tt.answers.arn == "" {
			tt.answers.arn = keyARN
		}
		r := tt.answers.judge()
		if got := strings.Join(names(r.Checks, fault.CheckFailed), " "); got != tt.failed {
			t.Errorf("%s: failed %q, want %q", name, got, tt.failed)
		}
		if first := fault.FirstFailed(r.Checks); (first == nil) != r.OK || first != nil && first.Class != tt.class {
			t.Errorf("%s: ok %v, first %+v, want class %q", name, r.OK, first, tt.class)
		}
		if len(r.Missing) != tt.missing {
			t.Errorf("%s: %d statements, want %d", name, len(r.Missing), tt.missing)
		}
		complete(t, r.Checks)
	}
}

// TestKeyWithoutAccount protects from statements that would share a key with nobody.
func TestKeyWithoutAccount(t *testing.T) {
	r := keyAnswers{self: Self{Region: "us-east-1"}, arn: keyARN, describeErr: hidden, tried: all(hidden)}.judge()
	if r.Principal != "" || len(r.Missing) != 0 {
		t.Errorf("%+v", r)
	}
	if c := fault.FirstFailed(r.Checks); !strings.Contains(c.Remedy, "volseal key policy") {
		t.Errorf("remedy %q", c.Remedy)
	}
}

// TestKeyPartition protects customers in other partitions: ARNs do not cross them.
func TestKeyPartition(t *testing.T) {
	arn := strings.Replace(strings.Replace(keyARN, "arn:aws:", "arn:aws-cn:", 1), "us-east-1", "cn-north-1", 1)
	r := keyAnswers{self: Self{Account: "1", Region: "cn-north-1"}, arn: arn, describeErr: hidden, tried: all(hidden)}.judge()
	if r.Principal != "arn:aws-cn:iam::1:root" || r.Missing[0].Principal.AWS != r.Principal {
		t.Errorf("%+v", r)
	}
}

func names(checks []fault.Check, status fault.CheckStatus) (all []string) {
	for _, c := range checks {
		if c.Status == status {
			all = append(all, c.Name)
		}
	}
	return all
}

// complete insists that each line can be acted upon by whoever it names.
func complete(t *testing.T, checks []fault.Check) {
	t.Helper()
	for _, c := range checks {
		bad := c.Name == "" || c.Detail == "" || c.Who == nil || !slices.Contains(fault.CheckStatuses(), c.Status)
		if c.Status == fault.CheckFailed {
			bad = bad || c.Remedy == "" || c.Class == fault.None || len(c.Who) == 0
		} else {
			bad = bad || c.Class != fault.None || len(c.Who) > 0
		}
		if c.Status == fault.CheckWarn {
			bad = bad || c.Remedy == ""
		}
		if bad {
			t.Errorf("incomplete: %+v", c)
		}
	}
}

var errPlain = errors.New("a plain error")
