// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
)

const (
	testARN  = "arn:aws:kms:us-east-1:111111111111:key/aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
	otherARN = "arn:aws:kms:us-east-1:111111111111:key/bbbbbbbb-bbbb-cccc-dddd-eeeeeeeeeeee"
)

var testContext = envelope.Context{"volseal:database": "db"}

// reply is one HTTP answer of a KMS that says what it is told.
type reply struct {
	status int
	header http.Header
	body   string
}

// says returns an error answer in the form of the JSON 1.1 protocol.
func says(status int, code, message string) reply {
	body, err := json.Marshal(map[string]string{"__type": code, "message": message})
	if err != nil {
		panic(err)
	}
	return reply{status: status, body: string(body)}
}

func (a reply) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	for k, v := range a.header {
		w.Header()[k] = v
	}
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body)
}

type static struct{}

func (static) Retrieve(context.Context) (aws.Credentials, error) {
	return aws.Credentials{AccessKeyID: "AKIATEST", SecretAccessKey: "secret", SessionToken: "token"}, nil
}

// config points the SDK at a test server, as AWS_ENDPOINT_URL does.
func config(url string) aws.Config {
	return aws.Config{Region: "us-east-1", Credentials: static{}, BaseEndpoint: &url}
}

func serve(t *testing.T, h http.Handler) *Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return New(NewClient(config(s.URL)), Options{Timeout: time.Minute})
}

func wantFault(t *testing.T, err error, class fault.Class, reason string) {
	t.Helper()
	if fault.ClassOf(err) != class || fault.ReasonOf(err) != reason {
		t.Fatalf("got %q %q (%v), want %q %q", fault.ClassOf(err), fault.ReasonOf(err), err, class, reason)
	}
	if err != nil && (err.Error() == "" || len(err.Error()) > 300 || fault.HintOf(err) == "") {
		t.Fatalf("cause %q, hint %q", err, fault.HintOf(err))
	}
}
