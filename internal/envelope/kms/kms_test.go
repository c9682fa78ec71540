// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/volseal/volseal/internal/fault"
)

func good(keyID string, plain, blob []byte) reply {
	body := fmt.Sprintf(`{"KeyId":%q,"Plaintext":%q,"CiphertextBlob":%q,"EncryptionAlgorithm":"SYMMETRIC_DEFAULT"}`,
		keyID, base64.StdEncoding.EncodeToString(plain), base64.StdEncoding.EncodeToString(blob))
	return reply{status: 200, body: body}
}

var (
	plainKey = bytes.Repeat([]byte{0x5a}, 32)
	blob     = []byte("wrapped")
)

// What goes over the wire: the pinned ARN as KeyId, the whole context, the blob.
func TestDecryptPinsTheKey(t *testing.T) {
	var target string
	var sent struct {
		KeyID             string `json:"KeyId"`
		CiphertextBlob    []byte
		EncryptionContext map[string]string
	}
	c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		target = r.Header.Get("X-Amz-Target")
		if err := json.NewDecoder(r.Body).Decode(&sent); err != nil {
			t.Error(err)
		}
		good(testARN, plainKey, nil).ServeHTTP(w, r)
	}))
	s, err := c.Decrypt(t.Context(), testARN, testContext, blob)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Destroy()
	if !bytes.Equal(s.Bytes(), plainKey) {
		t.Fatal("not the plaintext")
	}
	if target != "TrentService.Decrypt" || sent.KeyID != testARN || !bytes.Equal(sent.CiphertextBlob, blob) || !testContext.Equal(sent.EncryptionContext) {
		t.Fatalf("%s %+v", target, sent)
	}
}

func TestGenerateDataKey(t *testing.T) {
	var sent struct {
		KeyID, KeySpec    string
		EncryptionContext map[string]string
	}
	c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewDecoder(r.Body).Decode(&sent); err != nil {
			t.Error(err)
		}
		good(testARN, plainKey, blob).ServeHTTP(w, r)
	}))
	s, wrapped, err := c.GenerateDataKey(t.Context(), testARN, testContext)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Destroy()
	if !bytes.Equal(s.Bytes(), plainKey) || !bytes.Equal(wrapped, blob) || sent.KeyID != testARN || sent.KeySpec != "AES_256" || !testContext.Equal(sent.EncryptionContext) {
		t.Fatalf("%q %+v", wrapped, sent)
	}
}

// A success that is not the answer to what was asked is an attack or a broken
// proxy, never a key.
func TestAnswersAreChecked(t *testing.T) {
	for name, c := range map[string]struct {
		a      reply
		reason string
	}{
		"another key":  {good(otherARN, plainKey, blob), "answer-key-id"},
		"bare key id":  {good("aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", plainKey, blob), "answer-key-id"},
		"no key id":    {good("", plainKey, blob), "answer-key-id"},
		"31 bytes":     {good(testARN, plainKey[1:], blob), "answer-length"},
		"33 bytes":     {good(testARN, append([]byte{1}, plainKey...), blob), "answer-length"},
		"no plaintext": {reply{status: 200, body: fmt.Sprintf(`{"KeyId":%q,"CiphertextBlob":"AAAA"}`, testARN)}, "answer-length"},
		"empty object": {reply{status: 200, body: `{}`}, "answer-key-id"},
		"nothing":      {reply{status: 200}, "answer-key-id"},
		"dry run":      {says(412, "DryRunOperationException", "would have succeeded"), "answer-dry-run"},
	} {
		t.Run(name, func(t *testing.T) {
			client := serve(t, c.a)
			_, err := client.Decrypt(t.Context(), testARN, testContext, blob)
			wantFault(t, err, fault.Unknown, c.reason)
			_, _, err = client.GenerateDataKey(t.Context(), testARN, testContext)
			if fault.ClassOf(err) != fault.Unknown {
				t.Fatalf("GenerateDataKey: %v", err)
			}
		})
	}
	t.Run("no blob", func(t *testing.T) {
		_, _, err := serve(t, good(testARN, plainKey, nil)).GenerateDataKey(t.Context(), testARN, testContext)
		wantFault(t, err, fault.Unknown, "answer-length")
	})
}

// sdk stands for the SDK and keeps the slice it handed out.
type sdk struct {
	API    // what is not faked here is not called
	handed []byte
}

func (s *sdk) Decrypt(context.Context, *awskms.DecryptInput, ...func(*awskms.Options)) (*awskms.DecryptOutput, error) {
	keyID := testARN
	return &awskms.DecryptOutput{KeyId: &keyID, Plaintext: s.handed}, nil
}

func (s *sdk) ReEncrypt(context.Context, *awskms.ReEncryptInput, ...func(*awskms.Options)) (*awskms.ReEncryptOutput, error) {
	return nil, errors.New("not asked for")
}

func (s *sdk) GenerateDataKey(context.Context, *awskms.GenerateDataKeyInput, ...func(*awskms.Options)) (*awskms.GenerateDataKeyOutput, error) {
	keyID := testARN
	return &awskms.GenerateDataKeyOutput{KeyId: &keyID, Plaintext: s.handed, CiphertextBlob: blob}, nil
}

// The SDK's slice is wiped, whether the answer is taken or refused.
func TestPlaintextIsWiped(t *testing.T) {
	for _, n := range []int{31, 32, 33} {
		for _, arn := range []string{testARN, otherARN} {
			a, b := &sdk{handed: bytes.Repeat([]byte{1}, n)}, &sdk{handed: bytes.Repeat([]byte{1}, n)}
			s, _ := New(a, Options{}).Decrypt(t.Context(), arn, testContext, blob)
			s.Destroy()
			s, _, _ = New(b, Options{}).GenerateDataKey(t.Context(), arn, testContext)
			s.Destroy()
			if !bytes.Equal(a.handed, make([]byte, n)) || !bytes.Equal(b.handed, make([]byte, n)) {
				t.Fatalf("%d bytes of %s survived", n, arn)
			}
		}
	}
}

// Each call is observed once, with the class that the caller sees.
func TestObserver(t *testing.T) {
	type seen struct {
		operation string
		class     fault.Class
	}
	var all []seen
	observe := func(operation string, class fault.Class, d time.Duration) {
		if d < 0 {
			t.Errorf("took %v", d)
		}
		all = append(all, seen{operation, class})
	}
	c := New(&sdk{handed: bytes.Clone(plainKey)}, Options{Observer: observe})
	s, _ := c.Decrypt(t.Context(), testARN, testContext, blob)
	s.Destroy()
	_, _, err := c.GenerateDataKey(t.Context(), otherARN, testContext)
	if err == nil || len(all) != 2 || all[0] != (seen{"Decrypt", fault.None}) || all[1] != (seen{"GenerateDataKey", fault.Unknown}) {
		t.Fatalf("%v %+v", err, all)
	}
}

// NotFound is the customer's doing only for a key that was there before.
func TestNotFoundRemembersWhatWorked(t *testing.T) {
	gone := false
	c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if gone {
			says(400, "NotFoundException", "Key 'x' does not exist").ServeHTTP(w, r)
			return
		}
		good(testARN, plainKey, nil).ServeHTTP(w, r)
	}))
	s, err := c.Decrypt(t.Context(), testARN, testContext, blob)
	if err != nil {
		t.Fatal(err)
	}
	s.Destroy()
	gone = true
	_, err = c.Decrypt(t.Context(), testARN, testContext, blob)
	wantFault(t, err, fault.Revoked, "NotFoundException")
	_, err = c.Decrypt(t.Context(), otherARN, testContext, blob)
	wantFault(t, err, fault.Misconfigured, "NotFoundException")
	c.Worked(otherARN) // as a record older than the process tells
	_, err = c.Decrypt(t.Context(), otherARN, testContext, blob)
	wantFault(t, err, fault.Revoked, "NotFoundException")
}

// The reconciler owns the retries: one request a call, also where the SDK's own
// retryer would try again.
func TestNoRetries(t *testing.T) {
	for _, a := range []reply{says(500, "KMSInternalException", ""), says(400, "ThrottlingException", ""), {status: 503}} {
		requests := 0
		c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			requests++
			a.ServeHTTP(w, r)
		}))
		if _, err := c.Decrypt(t.Context(), testARN, testContext, blob); err == nil || requests != 1 {
			t.Fatalf("%d requests, %v", requests, err)
		}
	}
}
