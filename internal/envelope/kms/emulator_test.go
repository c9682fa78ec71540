// SPDX-License-Identifier: Apache-2.0

package kms_test

import (
	"context"
	"net/http/httptest"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/envelope/kms"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/test/lab/aws"
	emulator "github.com/volseal/volseal/test/lab/kms"
)

// world is the emulated KMS with its policies and real cryptography, and a
// keyring that reaches it over the wire as the host's role.
type world struct {
	*emulator.Server
	calls  *aws.CallLog
	faults *aws.Faults
	creds  *aws.Credentials
	client *kms.Client
	ring   *envelope.Keyring
	now    time.Duration
	ref    envelope.Ref
}

var hostKey = aws.Credential{
	AccessKeyID: "ASIAHOST", SecretAccessKey: "secret", SessionToken: "token",
	Principal: aws.AssumedRole(aws.PlatformAccount, "volseal-host", "i-0123456789abcdef0"),
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{calls: aws.NewCallLog(), faults: aws.NewFaults(), creds: aws.NewCredentials(), now: time.Hour}
	w.creds.Add(hostKey)
	w.Server = emulator.New(emulator.Options{Credentials: w.creds, Calls: w.calls, Faults: w.faults})
	listener := httptest.NewServer(w.Server)
	t.Cleanup(listener.Close)
	cfg := sdk.Config{Region: "us-east-1", BaseEndpoint: &listener.URL, Credentials: sdk.CredentialsProviderFunc(
		func(context.Context) (sdk.Credentials, error) {
			return sdk.Credentials{AccessKeyID: hostKey.AccessKeyID, SecretAccessKey: hostKey.SecretAccessKey, SessionToken: hostKey.SessionToken}, nil
		})}
	w.client = kms.New(kms.NewClient(cfg), kms.Options{})
	w.ring = envelope.NewKeyring(w.client, envelope.Options{Clock: func() time.Duration { return w.now }})
	t.Cleanup(w.ring.Flush)
	w.ref = envelope.Ref{KeyARN: w.key(t, "", ""), Context: newContext(t, "db")}
	return w
}

func newContext(t *testing.T, database string) envelope.Context {
	t.Helper()
	ec, err := envelope.NewContext(database, map[string]string{"customer": "acme"})
	if err != nil {
		t.Fatal(err)
	}
	return ec
}

func (w *world) key(t *testing.T, spec, origin string) string {
	t.Helper()
	arn, err := w.CreateKey(aws.CustomerAccount, "us-east-1", spec, origin, true)
	if err != nil {
		t.Fatal(err)
	}
	return arn
}

// prove proves with nothing left in the proof window or refused.
func (w *world) prove(t *testing.T, ref envelope.Ref, wrapped []byte) error {
	t.Helper()
	w.now += time.Minute
	p, err := w.ring.Prove(t.Context(), ref, wrapped)
	p.Release()
	return err
}

func (w *world) fresh(t *testing.T) []byte {
	t.Helper()
	p, wrapped, err := w.ring.Fresh(t.Context(), w.ref)
	if err != nil {
		t.Fatal(err)
	}
	p.Release()
	return wrapped
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantClass(t *testing.T, what string, err error, want fault.Class, reason string) {
	t.Helper()
	if fault.ClassOf(err) != want || fault.ReasonOf(err) != reason {
		t.Errorf("%s: got %q %q (%v), want %q %q", what, fault.ClassOf(err), fault.ReasonOf(err), err, want, reason)
	}
}

// What a customer or an operator does to a key, and what the host then reads from KMS.
func TestWhatBecomesOfAKey(t *testing.T) {
	for what, c := range map[string]struct {
		do     func(w *world, arn string) error
		undo   func(w *world, arn string) error
		class  fault.Class
		reason string
	}{
		"disabled": {
			func(w *world, arn string) error { return w.SetEnabled(arn, false) },
			func(w *world, arn string) error { return w.SetEnabled(arn, true) },
			fault.Revoked, "DisabledException",
		},
		"scheduled for deletion": {
			func(w *world, arn string) error { return w.ScheduleDeletion(arn, 7) },
			func(w *world, arn string) error {
				if err := w.CancelDeletion(arn); err != nil {
					return err
				}
				return w.SetEnabled(arn, true)
			},
			fault.Revoked, "KMSInvalidStateException",
		},
		"deleted": {
			func(w *world, arn string) error { return w.Delete(arn) }, nil,
			fault.Revoked, "AccessDeniedException",
		},
		"denied": {
			func(w *world, arn string) error { return w.Deny(arn, "kms:Decrypt") },
			func(w *world, arn string) error { return w.Allow(arn) },
			fault.Revoked, "AccessDeniedException",
		},
		"denied by the role's own policy": {
			func(w *world, _ string) error {
				return w.SetIdentityPolicy(hostKey.Principal.RoleARN(), `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"kms:Decrypt","Resource":"*"}]}`)
			},
			func(w *world, _ string) error { return w.SetIdentityPolicy(hostKey.Principal.RoleARN(), "") },
			fault.Revoked, fault.ReasonDeniedByPlatform,
		},
		"not allowed by the role's own policy": {
			func(w *world, _ string) error {
				return w.SetIdentityPolicy(hostKey.Principal.RoleARN(), `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:DescribeKey","Resource":"*"}]}`)
			},
			func(w *world, _ string) error { return w.SetIdentityPolicy(hostKey.Principal.RoleARN(), "") },
			fault.Revoked, fault.ReasonDeniedByPlatform,
		},
		"throttled": {
			func(w *world, _ string) error { return w.faults.Set("kms", "throttle") },
			func(w *world, _ string) error { return w.faults.Set("kms", "off") },
			fault.Throttled, "ThrottlingException",
		},
		"KMS broken": {
			func(w *world, _ string) error { return w.faults.Set("kms", "error=KMSInternalException") },
			func(w *world, _ string) error { return w.faults.Set("kms", "off") },
			fault.Unreachable, "KMSInternalException",
		},
		"session expired": {
			func(w *world, _ string) error { w.creds.SetExpired(hostKey.AccessKeyID, true); return nil },
			func(w *world, _ string) error { w.creds.SetExpired(hostKey.AccessKeyID, false); return nil },
			fault.Identity, "ExpiredTokenException",
		},
		"access key unknown": {
			func(w *world, _ string) error { w.creds.Remove(hostKey.AccessKeyID); return nil },
			func(w *world, _ string) error { w.creds.Add(hostKey); return nil },
			fault.Identity, "UnrecognizedClientException",
		},
		"clock off": {
			func(w *world, _ string) error {
				w.creds.SetClock(func() time.Time { return time.Now().Add(time.Hour) })
				return nil
			},
			func(w *world, _ string) error { w.creds.SetClock(time.Now); return nil },
			fault.Identity, "InvalidSignatureException",
		},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			wrapped := w.fresh(t)
			check(t, c.do(w, w.ref.KeyARN))
			wantClass(t, what, w.prove(t, w.ref, wrapped), c.class, c.reason)
			if c.class == fault.Revoked && w.ring.Stats() != 0 {
				t.Error("a key stayed in the cache")
			}
			if c.undo != nil {
				check(t, c.undo(w, w.ref.KeyARN))
				check(t, w.prove(t, w.ref, wrapped))
			}
		})
	}
}

// What an attacker with the volume can put into a token: nothing of it unwraps.
func TestForeignWrappedKeys(t *testing.T) {
	w := newWorld(t)
	wrapped := w.fresh(t)
	other := envelope.Ref{KeyARN: w.key(t, "", ""), Context: w.ref.Context}

	wantClass(t, "another context", w.prove(t, envelope.Ref{KeyARN: w.ref.KeyARN, Context: newContext(t, "theirs")}, wrapped), fault.Integrity, "InvalidCiphertextException")
	wantClass(t, "another CMK", w.prove(t, other, wrapped), fault.Integrity, "IncorrectKeyException")
	wantClass(t, "a bit flipped", w.prove(t, w.ref, flip(wrapped)), fault.Integrity, "InvalidCiphertextException")
	wantClass(t, "garbage", w.prove(t, w.ref, []byte("garbage")), fault.Integrity, "InvalidCiphertextException")
	check(t, w.prove(t, w.ref, wrapped))
}

func flip(b []byte) []byte {
	c := append([]byte(nil), b...)
	c[len(c)-1] ^= 1
	return c
}

// Keys that can never do.
func TestUnsuitableKeys(t *testing.T) {
	w := newWorld(t)
	for what, c := range map[string]struct {
		arn    string
		class  fault.Class
		reason string
	}{
		"asymmetric":        {w.key(t, "RSA_2048", ""), fault.Misconfigured, "InvalidKeyUsageException"},
		"pending import":    {w.key(t, "", "EXTERNAL"), fault.Misconfigured, "KMSInvalidStateException"},
		"of nobody":         {"arn:aws:kms:us-east-1:111111111111:key/00000000-0000-0000-0000-000000000000", fault.Revoked, "AccessDeniedException"},
		"of another region": {"arn:aws:kms:us-west-2:111111111111:key/00000000-0000-0000-0000-000000000000", fault.Misconfigured, "NotFoundException"},
	} {
		_, _, err := w.ring.Fresh(t.Context(), envelope.Ref{KeyARN: c.arn, Context: w.ref.Context})
		wantClass(t, what, err, c.class, c.reason)
	}
}

// Many volumes of one database at boot cost one Decrypt; a fresh key costs one
// GenerateDataKey and one Decrypt, and is shared without another call.
func TestCallsAreSaved(t *testing.T) {
	w := newWorld(t)
	wrapped := w.fresh(t)
	for range 15 {
		w.fresh(t)
	}
	for range 16 {
		p, err := w.ring.Prove(t.Context(), w.ref, wrapped)
		check(t, err)
		p.Release()
	}
	var seen []string
	for _, c := range w.calls.Since(0) {
		seen = append(seen, c.Operation)
		if c.Key != w.ref.KeyARN || c.Context[envelope.DatabaseKey] != "db" || c.Context["customer"] != "acme" {
			t.Errorf("%+v", c)
		}
	}
	if len(seen) != 2 || seen[0] != "GenerateDataKey" || seen[1] != "Decrypt" {
		t.Fatal(seen)
	}
}
