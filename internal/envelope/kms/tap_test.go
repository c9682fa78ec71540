// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/volseal/volseal/internal/fault"
)

// wire is an HTTP client with one answer.
type wire struct {
	status int
	body   io.Reader
}

func (w wire) Do(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: w.status, Body: io.NopCloser(w.body)}, nil
}

// tapped sends one answer through the tap and returns what the SDK would see of it.
func tapped(t *testing.T, status int, body io.Reader) (seen string, c *caught, err error) {
	t.Helper()
	ctx, c := withCaught(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://kms", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tap{wire{status, body}}.Do(req)
	if err != nil {
		return "", c, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	t.Cleanup(func() { c.key.Destroy() })
	return string(b), c, err
}

// The SDK sees KMS's answer with a key of zeros, and the call finds the key.
func TestTapTakesTheKey(t *testing.T) {
	text := base64.StdEncoding.EncodeToString(plainKey)
	for _, form := range []string{
		`{"KeyId":"k","Plaintext":"%s","CiphertextBlob":"AAAA"}`,
		`{"Plaintext":"%s"}`,
		"{\n  \"Plaintext\" :\t\"%s\",\r\n \"KeyId\": \"k\" }",
	} {
		seen, c, err := tapped(t, 200, strings.NewReader(fmt.Sprintf(form, text)))
		if err != nil {
			t.Fatal(err)
		}
		if seen != fmt.Sprintf(form, standIn) || !bytes.Equal(c.key.Bytes(), plainKey) {
			t.Errorf("the SDK sees %q", seen)
		}
	}
}

// What does not look exactly like KMS's answer passes as it is: the SDK judges it.
func TestTapLeavesTheRestAlone(t *testing.T) {
	text := base64.StdEncoding.EncodeToString(plainKey)
	for name, body := range map[string]string{
		"empty":              "",
		"no plaintext":       `{"KeyId":"k"}`,
		"twice":              `{"Plaintext":"` + text + `","Plaintext":"` + text + `"}`,
		"in other case":      `{"plaintext":"` + text + `"}`,
		"31 bytes":           `{"Plaintext":"` + base64.StdEncoding.EncodeToString(plainKey[1:]) + `"}`,
		"33 bytes":           `{"Plaintext":"` + base64.StdEncoding.EncodeToString(append([]byte{1}, plainKey...)) + `"}`,
		"escaped":            `{"Plaintext":"` + strings.Replace(text, "W", `\u0057`, 1) + `"}`,
		"not base64":         `{"Plaintext":"` + strings.Repeat("*", 44) + `"}`,
		"trailing bits":      `{"Plaintext":"` + text[:42] + "p=" + `"}`,
		"number":             `{"Plaintext":1}`,
		"null":               `{"Plaintext":null}`,
		"cut off":            `{"Plaintext":"` + text[:20],
		"a value, no member": `{"x":"Plaintext","y":"` + text + `"}`,
		"zeros":              `{"Plaintext":"` + standIn + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			seen, c, err := tapped(t, 200, strings.NewReader(body))
			if err != nil || seen != body || c.key != nil {
				t.Errorf("saw %q, key %v, %v", seen, c.key, err)
			}
		})
	}
}

// Bodies are bounded, and errors of the wire stay errors.
func TestTapBounds(t *testing.T) {
	endless := func() io.Reader { return &endlessly{} }
	if _, _, err := tapped(t, 200, endless()); err == nil {
		t.Error("an endless answer was taken")
	}
	if seen, _, err := tapped(t, 400, endless()); err != nil || len(seen) != maxAnswer {
		t.Errorf("%d bytes of an endless error, %v", len(seen), err)
	}
	if _, _, err := tapped(t, 200, io.MultiReader(strings.NewReader("{"), failingReader{})); err == nil {
		t.Error("a cut answer was taken")
	}
}

type endlessly struct{}

func (endlessly) Read(p []byte) (int, error) { return copy(p, bytes.Repeat([]byte(" "), len(p))), nil }

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// A key of zeros is the stand-in and nobody's key; an answer that SDK and tap
// read differently is no key either.
func TestAmbiguousAnswers(t *testing.T) {
	zeros := make([]byte, 32)
	_, err := serve(t, good(testARN, zeros, nil)).Decrypt(t.Context(), testARN, testContext, blob)
	wantFault(t, err, fault.Unknown, "answer-ambiguous")

	_, err = New(&sdk{handed: zeros}, Options{}).Decrypt(context.Background(), testARN, testContext, blob)
	wantFault(t, err, fault.Unknown, "answer-ambiguous")

	// The member occurs once by its bytes, and again by an escaped spelling, which the SDK reads last.
	text := base64.StdEncoding.EncodeToString(plainKey)
	body := fmt.Sprintf(`{"KeyId":%q,"Plaintext":"%s","\u0050laintext":"%s"}`, testARN, text, text)
	_, err = serve(t, reply{status: 200, body: body}).Decrypt(t.Context(), testARN, testContext, blob)
	wantFault(t, err, fault.Unknown, "answer-ambiguous")
}

// An escaped key is unusual but right: it comes out of the SDK.
func TestUnusualAnswerStillWorks(t *testing.T) {
	text := strings.Replace(base64.StdEncoding.EncodeToString(plainKey), "W", `\u0057`, 1)
	body := fmt.Sprintf(`{"KeyId":%q,"Plaintext":"%s"}`, testARN, text)
	s, err := serve(t, reply{status: 200, body: body}).Decrypt(t.Context(), testARN, testContext, blob)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Destroy()
	if !bytes.Equal(s.Bytes(), plainKey) {
		t.Fatal("not the plaintext")
	}
}
