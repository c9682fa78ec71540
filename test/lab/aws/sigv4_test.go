// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

var host = AssumedRole("916150859591", "volseal-host", "i-0123456789abcdef0")

func registry(now time.Time) *Credentials {
	c := NewCredentials()
	c.SetClock(func() time.Time { return now })
	c.Add(Credential{AccessKeyID: "ASIAHOST", SecretAccessKey: "secret", SessionToken: "session", Principal: host})
	return c
}

// signed is a request as the SDK's own signer makes it, seen from the server.
func signed(t *testing.T, at time.Time, service, region, body string, prepare func(*http.Request)) (*http.Request, []byte) {
	t.Helper()
	out, err := http.NewRequest("POST", "http://127.0.0.1:1234/a%20b/c?z=2&a=1%2F+x&a=", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	out.Header.Set("X-Amz-Target", "TrentService.Decrypt")
	out.Header.Set("Content-Type", "application/x-amz-json-1.1")
	out.Header.Set("X-Amz-Spaced", "a   b ") // signed with its spaces collapsed
	if prepare != nil {
		prepare(out)
	}
	sum := sha256.Sum256([]byte(body))
	creds := sdk.Credentials{AccessKeyID: "ASIAHOST", SecretAccessKey: "secret", SessionToken: "session"}
	if err := v4.NewSigner().SignHTTP(context.Background(), creds, out, hex.EncodeToString(sum[:]), service, region, at); err != nil {
		t.Fatal(err)
	}
	return onTheWire(t, out)
}

// onTheWire sends r through a real server, so that the test sees the headers
// where net/http leaves them.
func onTheWire(t *testing.T, r *http.Request) (got *http.Request, body []byte) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, in *http.Request) {
		got = in.Clone(context.Background())
		body, _ = io.ReadAll(in.Body)
	}))
	defer server.Close()
	r.Host = r.URL.Host
	r.URL.Host = strings.TrimPrefix(server.URL, "http://")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	return got, body
}

// A signature of the real SDK proves the principal; this is what every other
// authorization in the lab rests on.
func TestVerifyAcceptsTheSDK(t *testing.T) {
	now := time.Now()
	for _, service := range []string{"kms", "ec2"} {
		r, body := signed(t, now, service, "eu-west-1", `{"KeyId":"x"}`, nil)
		for _, region := range []string{"", "eu-west-1"} {
			got, err := registry(now.Add(4*time.Minute)).Verify(r, body, service, region)
			if err != nil || got != host {
				t.Fatalf("%s in %q: %v, %v", service, region, got, err)
			}
		}
		if got := RequestRegion(r); got != "eu-west-1" {
			t.Errorf("RequestRegion = %q", got)
		}
	}
}

// Whatever is forged, missing, stale or meant for somebody else is refused in
// the words the service has for it.
func TestVerifyRefuses(t *testing.T) {
	now := time.Now()
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	edit := func(old, replacement string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("Authorization", strings.ReplaceAll(r.Header.Get("Authorization"), old, replacement))
		}
	}
	cases := []struct {
		name     string
		at       time.Time
		tamper   func(*http.Request)
		region   string
		kms, ec2 string
	}{
		{"no signature", now, func(r *http.Request) { r.Header.Del("Authorization") }, "", "MissingAuthenticationTokenException", "MissingAuthenticationToken"},
		{"other algorithm", now, edit("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), "", "IncompleteSignatureException", "IncompleteSignature"},
		{"no signature value", now, edit("Signature=", "Sig="), "", "IncompleteSignatureException", "IncompleteSignature"},
		{"short scope", now, edit("/aws4_request", ""), "", "IncompleteSignatureException", "IncompleteSignature"},
		{"unknown key", now, edit("ASIAHOST", "ASIAOTHER"), "", "UnrecognizedClientException", "AuthFailure"},
		{"wrong session token", now, header("X-Amz-Security-Token", "other"), "", "UnrecognizedClientException", "AuthFailure"},
		{"no session token", now, func(r *http.Request) { r.Header.Del("X-Amz-Security-Token") }, "", "UnrecognizedClientException", "AuthFailure"},
		{"wrong region", now, nil, "us-west-2", "InvalidSignatureException", "SignatureDoesNotMatch"},
		{"other service", now, edit("/kms/", "/s3/"), "", "InvalidSignatureException", ""},
		{"other day", now, edit(now.UTC().Format("20060102"), "20010101"), "", "InvalidSignatureException", "SignatureDoesNotMatch"},
		{"too old", now.Add(-6 * time.Minute), nil, "", "InvalidSignatureException", "RequestExpired"},
		{"from the future", now.Add(6 * time.Minute), nil, "", "InvalidSignatureException", "RequestExpired"},
		{"target changed", now, header("X-Amz-Target", "TrentService.ScheduleKeyDeletion"), "", "InvalidSignatureException", "SignatureDoesNotMatch"},
		{"target not signed", now, edit("x-amz-target", "x-amz-other"), "", "InvalidSignatureException", "SignatureDoesNotMatch"},
		{"host not signed", now, edit("host;", ""), "", "InvalidSignatureException", "SignatureDoesNotMatch"},
		{"host changed", now, func(r *http.Request) { r.Host = "kms.example" }, "", "InvalidSignatureException", "SignatureDoesNotMatch"},
		{"query changed", now, func(r *http.Request) { r.URL.RawQuery = "Action=Delete" }, "", "InvalidSignatureException", "SignatureDoesNotMatch"},
		{"method changed", now, func(r *http.Request) { r.Method = "PUT" }, "", "InvalidSignatureException", "SignatureDoesNotMatch"},
		{"signature changed", now, edit("Signature=", "Signature=0"), "", "InvalidSignatureException", "SignatureDoesNotMatch"},
	}
	for _, c := range cases {
		for service, want := range map[string]string{"kms": c.kms, "ec2": c.ec2} {
			if want == "" {
				continue
			}
			r, body := signed(t, c.at, service, "us-east-1", "{}", nil)
			if c.tamper != nil {
				c.tamper(r)
			}
			expectCode(t, c.name+" to "+service, want, registry(now), r, body, service, c.region)
		}
	}
}

// A signature is good for one service only: what a host signed for EC2 opens
// nothing at KMS.
func TestVerifyRefusesAnotherServicesSignature(t *testing.T) {
	now := time.Now()
	r, body := signed(t, now, "ec2", "us-east-1", "{}", nil)
	expectCode(t, "signed for ec2", "InvalidSignatureException", registry(now), r, body, "kms", "")
}

// The body is signed: a request whose content was changed on the way is refused.
func TestVerifyRefusesChangedBody(t *testing.T) {
	now := time.Now()
	r, body := signed(t, now, "kms", "us-east-1", `{"KeyId":"a"}`, nil)
	expectCode(t, "changed body", "InvalidSignatureException", registry(now), r, bytes.ReplaceAll(body, []byte("a"), []byte("b")), "kms", "")
}

// The identity faults of the lab: a role session that has run out comes back
// after renewal, a forgotten key does not.
func TestCredentialLifeCycle(t *testing.T) {
	now := time.Now()
	c := registry(now)
	r, body := signed(t, now, "kms", "us-east-1", "{}", nil)
	if !c.SetExpired("ASIAHOST", true) || c.SetExpired("ASIAOTHER", true) {
		t.Fatal("SetExpired does not tell known keys from unknown")
	}
	expectCode(t, "expired", "ExpiredTokenException", c, r, body, "kms", "")
	c.SetExpired("ASIAHOST", false)
	if _, err := c.Verify(r, body, "kms", ""); err != nil {
		t.Fatalf("renewed: %v", err)
	}
	c.Remove("ASIAHOST")
	expectCode(t, "removed", "UnrecognizedClientException", c, r, body, "kms", "")
}

func expectCode(t *testing.T, name, want string, c *Credentials, r *http.Request, body []byte, service, region string) {
	t.Helper()
	p, err := c.Verify(r, body, service, region)
	var e *Error
	if !errors.As(err, &e) {
		t.Errorf("%s: got principal %q and error %v, want %s", name, p.ARN, err, want)
		return
	}
	if e.Code != want || e.Message == "" || e.Status < 400 || p != (Principal{}) {
		t.Errorf("%s: got %d %v for %q, want %s", name, e.Status, e, p.ARN, want)
	}
}
