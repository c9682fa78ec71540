// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	client "github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/volseal/volseal/test/lab/aws"
)

// answer is a response with its error taken apart.
type answer struct {
	*http.Response
	Type    string `json:"__type"`
	Message string `json:"message"` // matches Message too
	raw     string
}

// post sends a hand-made request, signed for p.
func (w *world) post(t *testing.T, p aws.Principal, target, body string, tamper func(*http.Request)) answer {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, w.url+"/", strings.NewReader(body))
	ok(t, err)
	r.Header.Set("X-Amz-Target", target)
	r.Header.Set("Content-Type", contentType)
	c := credential(p)
	sum := sha256.Sum256([]byte(body))
	signer := sdk.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: c.SessionToken}
	ok(t, v4.NewSigner().SignHTTP(ctx, signer, r, hex.EncodeToString(sum[:]), service, region, time.Now()))
	if tamper != nil {
		tamper(r)
	}
	res, err := http.DefaultClient.Do(r)
	ok(t, err)
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	ok(t, err)
	a := answer{Response: res, raw: string(raw)}
	if len(raw) > 0 {
		ok(t, json.Unmarshal(raw, &a))
	}
	return a
}

// Requests that are no proper requests get AWS's answers, a request id, and a
// line in the log; none of them reaches a key.
func TestProtocolErrors(t *testing.T) {
	w := newWorld(t, "")
	arn := w.key(t, true)
	describe := `{"KeyId":"` + arn + `"}`
	unsign := func(r *http.Request) { r.Header.Del("Authorization") }
	another := func(r *http.Request) { r.Header.Set("X-Amz-Target", "TrentService.DisableKey") }
	stranger := aws.Principal{Account: "222222222222", ARN: "arn:aws:iam::222222222222:user/eve"}
	for _, c := range []struct {
		name         string
		p            aws.Principal
		target, body string
		tamper       func(*http.Request)
		status       int
		want         string
	}{
		{"sound", platformHost, "TrentService.DescribeKey", describe, nil, 200, ""},
		{"unsigned", platformHost, "TrentService.DescribeKey", describe, unsign, 400, "MissingAuthenticationTokenException"},
		{"unknown caller", stranger, "TrentService.DescribeKey", describe, nil, 400, "UnrecognizedClientException"},
		{"operation exchanged after signing", customerUser, "TrentService.DescribeKey", describe, another, 400, "InvalidSignatureException"},
		{"unknown operation", platformHost, "TrentService.Sign", describe, nil, 400, "UnknownOperationException"},
		{"another service's target", platformHost, "DynamoDB_20120810.DescribeKey", describe, nil, 400, "UnknownOperationException"},
		{"no target prefix", platformHost, "DescribeKey", describe, nil, 400, "UnknownOperationException"},
		{"no JSON", platformHost, "TrentService.DescribeKey", `{`, nil, 400, "SerializationException"},
		{"wrong type", platformHost, "TrentService.DescribeKey", `{"KeyId":1}`, nil, 400, "SerializationException"},
		{"no member", platformHost, "TrentService.DescribeKey", `{}`, nil, 400, "ValidationException"},
		{"null member", platformHost, "TrentService.DescribeKey", `{"KeyId":null}`, nil, 400, "ValidationException"},
		{"too large", platformHost, "TrentService.DescribeKey", strings.Repeat(" ", maxBody) + describe, nil, 413, "RequestEntityTooLarge"},
		{"denied", platformHost, "TrentService.GetKeyPolicy", describe, nil, 400, "AccessDeniedException"},
	} {
		mark := w.calls.Mark()
		a := w.post(t, c.p, c.target, c.body, c.tamper)
		if a.StatusCode != c.status || a.Type != c.want {
			t.Errorf("%s: %d %s", c.name, a.StatusCode, a.raw)
		}
		if a.Header.Get("x-amzn-RequestId") == "" || a.Header.Get("Content-Type") != contentType {
			t.Errorf("%s: headers %v", c.name, a.Header)
		}
		logged := w.calls.Since(mark)
		result := c.want
		if result == "" {
			result = "ok"
		}
		if len(logged) != 1 || logged[0].Result != result || logged[0].RequestID != a.Header.Get("x-amzn-RequestId") {
			t.Errorf("%s: logged %+v", c.name, logged)
		}
	}
	if a := w.post(t, platformHost, "TrentService.DescribeKey", `{}`, nil); a.Message != "1 validation error detected: Value null at 'keyId' failed to satisfy constraint: Member must not be null" {
		t.Errorf("message %q", a.Message)
	}
	if a := w.post(t, platformHost, "TrentService.GetKeyPolicy", describe, nil); !strings.Contains(a.raw, `"Message":"User: `) {
		t.Errorf("a refusal's message is spelled %s", a.raw)
	}
}

// An operation without result answers with an empty body, as AWS's does.
func TestEmptyResult(t *testing.T) {
	w := newWorld(t, "")
	arn := w.key(t, true)
	if a := w.post(t, customerUser, "TrentService.DisableKey", `{"KeyId":"`+arn+`"}`, nil); a.StatusCode != 200 || a.raw != "" {
		t.Errorf("%d %q", a.StatusCode, a.raw)
	}
}

// Faults come with the status that makes the SDK classify them as on AWS, and
// end when they were told to.
func TestFaults(t *testing.T) {
	w := newWorld(t, "")
	arn := w.key(t, true)
	describe := `{"KeyId":"` + arn + `"}`
	for spec, want := range map[string]struct {
		code   string
		status int
	}{
		"throttle":                           {"ThrottlingException", 400},
		"error=KMSInternalException:1":       {"KMSInternalException", 500},
		"error=KeyUnavailableException:1":    {"KeyUnavailableException", 500},
		"error=DependencyTimeoutException:1": {"DependencyTimeoutException", 503},
		"error=AccessDeniedException:1":      {"AccessDeniedException", 400},
		"error=ExpiredTokenException:1":      {"ExpiredTokenException", 400},
	} {
		ok(t, w.fault.Set(service, spec))
		a := w.post(t, platformHost, "TrentService.DescribeKey", describe, nil)
		if a.Type != want.code || a.StatusCode != want.status || a.Message == "" {
			t.Errorf("%s: %d %s", spec, a.StatusCode, a.raw)
		}
		if strings.HasSuffix(spec, ":1") {
			if a := w.post(t, platformHost, "TrentService.DescribeKey", describe, nil); a.StatusCode != 200 {
				t.Errorf("after %s: %d %s", spec, a.StatusCode, a.raw)
			}
		}
		ok(t, w.fault.Set(service, "off"))
	}
	ok(t, w.fault.Set(service, "error=KMSInternalException:1"))
	ok(t, w.EBSCreateGrant(platformHost, arn, "vol-1"))
	if w.fault.Next(service) == nil {
		t.Error("EC2's request spent a fault that was meant for a client")
	}
}

// The log tells scenarios what was asked of which key, in which context, by
// whom, and what came of it.
func TestCallLog(t *testing.T) {
	w := newWorld(t, "")
	arn := w.key(t, true)
	host := w.as(platformHost)
	context := map[string]string{"volseal:database": "db-1"}
	blob := sealed(t, host, arn, context)
	mark := w.calls.Mark()
	_, err := host.Decrypt(ctx, &client.DecryptInput{KeyId: &arn, CiphertextBlob: blob, EncryptionContext: context})
	ok(t, err)
	_, err = host.Decrypt(ctx, &client.DecryptInput{KeyId: &arn, CiphertextBlob: blob})
	expect(t, "no context", err, "InvalidCiphertextException")
	got := w.calls.Since(mark)
	if len(got) != 2 {
		t.Fatalf("logged %+v", got)
	}
	first := got[0]
	if first.Operation != "Decrypt" || first.Key != arn || first.Context["volseal:database"] != "db-1" || first.Principal != platformHost.ARN ||
		first.Region != region || first.Result != "ok" || first.Service != "kms" || got[1].Result != "InvalidCiphertextException" {
		t.Errorf("logged %+v", got)
	}
	line, err := json.Marshal(first)
	ok(t, err)
	if bytes.ContainsRune(line, '\n') || !strings.Contains(string(line), `"operation":"Decrypt"`) {
		t.Errorf("as JSON %s", line)
	}
}

// BenchmarkDecrypt is the emulator's own cost of a Decrypt, so that a
// measurement of the agent can tell the two apart.
func BenchmarkDecrypt(b *testing.B) {
	s := New(Options{})
	arn, err := s.CreateKey(aws.CustomerAccount, region, "", "", true)
	if err != nil {
		b.Fatal(err)
	}
	wrapped, err := s.EBSGenerateDataKeyWithoutPlaintext(platformHost, arn, "vol-1")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := s.EBSDecrypt(platformHost, arn, "vol-1", wrapped); err != nil {
			b.Fatal(err)
		}
	}
}

// Clients and the hand that disables their key meet in one emulator: under the
// race detector this proves its lock, and without it that a client sees nothing
// between enabled and disabled.
func TestConcurrentUse(t *testing.T) {
	w := newWorld(t, t.TempDir())
	arn := w.key(t, true)
	host := w.as(platformHost)
	blob := sealed(t, host, arn, nil)
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for range 25 {
				_, err := host.Decrypt(ctx, &client.DecryptInput{KeyId: &arn, CiphertextBlob: blob})
				if got := code(err); got != "" && got != "DisabledException" {
					t.Errorf("Decrypt: %v", err)
				}
			}
		})
	}
	clients.Go(func() {
		for i := range 20 {
			if err := w.SetEnabled(arn, i%2 == 1); err != nil {
				t.Errorf("change the key: %v", err)
			}
		}
	})
	clients.Wait()
	if _, err := host.Decrypt(ctx, &client.DecryptInput{KeyId: &arn, CiphertextBlob: blob}); err != nil {
		t.Errorf("enabled at last: %v", err)
	}
}
