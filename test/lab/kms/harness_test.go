// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	client "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"

	"github.com/volseal/volseal/test/lab/aws"
)

const region = "us-east-1"

var (
	platformHost = aws.AssumedRole(aws.PlatformAccount, "volseal-host", "i-0123456789abcdef0")
	customerUser = aws.Principal{Account: aws.CustomerAccount, ARN: "arn:aws:iam::111111111111:user/alice"}
)

// clock is a clock that the test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) read() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// world is an emulator behind a loopback listener, and clients of it.
type world struct {
	*Server
	url   string
	calls *aws.CallLog
	fault *aws.Faults
	creds *aws.Credentials
	clock *clock
}

// secretOf is the rule by which test principals get their access keys.
func credential(p aws.Principal) aws.Credential {
	id := strings.NewReplacer(":", "", "/", "", "-", "").Replace(p.ARN)
	c := aws.Credential{AccessKeyID: "AKIA" + id, SecretAccessKey: "secret of " + id, Principal: p}
	if p.Role != "" {
		c.SessionToken = "token of " + id
	}
	return c
}

func newWorld(t *testing.T, dir string) *world {
	t.Helper()
	w := &world{calls: aws.NewCallLog(), fault: aws.NewFaults(), creds: aws.NewCredentials(), clock: &clock{now: time.Now()}}
	for _, p := range []aws.Principal{platformHost, customerUser, aws.Root(aws.CustomerAccount), aws.Root(aws.PlatformAccount)} {
		w.creds.Add(credential(p))
	}
	server, err := Open(Options{Dir: dir, Credentials: w.creds, Calls: w.calls, Faults: w.fault, Now: w.clock.read})
	if err != nil {
		t.Fatal(err)
	}
	w.Server = server
	listener := httptest.NewServer(server)
	t.Cleanup(listener.Close)
	w.url = listener.URL
	return w
}

// as is the real SDK's client with the credentials of p, without retries.
func (w *world) as(p aws.Principal, regions ...string) *client.Client {
	c := credential(p)
	opts := client.Options{
		Region: region, BaseEndpoint: &w.url, Retryer: sdk.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, c.SessionToken),
	}
	if len(regions) > 0 {
		opts.Region = regions[0]
	}
	return client.New(opts)
}

func (w *world) key(t *testing.T, shared bool) string {
	t.Helper()
	return must(w.CreateKey(aws.CustomerAccount, region, "", "", shared))(t)
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// code is the AWS code of an error, "" for none, and the Go type for another.
func code(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode()
	}
	if e, ok := errors.AsType[*aws.Error](err); ok {
		return e.Code
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func message(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorMessage()
	}
	return ""
}

func expect(t *testing.T, what string, err error, want string) {
	t.Helper()
	if got := code(err); got != want {
		t.Errorf("%s: got %q (%v), want %q", what, got, err, want)
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ptr is sdk.String under a shorter name.
func ptr(s string) *string { return &s }

var ctx = context.Background()
