// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
)

// NewClient returns the SDK's KMS client as this package needs it: it tries
// once, marks failures to get credentials as such, never logs a body, and has an
// HTTP client for short, rare calls. cfg is what the SDK's config package loads;
// its HTTP client is kept if it was built there (AWS_CA_BUNDLE), else it is used
// as it is.
func NewClient(cfg aws.Config, optFns ...func(*awskms.Options)) *awskms.Client {
	own := func(o *awskms.Options) {
		// The reconciler retries, with a jitter that fits a host full of volumes;
		// the SDK's three tries on a 5xx are over within 50 ms.
		o.Retryer = aws.NopRetryer{}
		o.RetryMaxAttempts = 1
		o.HTTPClient = tap{httpClient(o.HTTPClient)}
		o.ClientLogMode = 0 // bodies hold plaintext keys
		if o.Credentials != nil {
			o.Credentials = credentials{o.Credentials}
		}
	}
	return awskms.NewFromConfig(cfg, append([]func(*awskms.Options){own}, optFns...)...)
}

func httpClient(base awskms.HTTPClient) awskms.HTTPClient {
	switch b := base.(type) {
	case nil:
		return awshttp.NewBuildableClient().WithTransportOptions(forRareCalls)
	case *awshttp.BuildableClient:
		return b.WithTransportOptions(forRareCalls)
	default:
		return b
	}
}

// forRareCalls tunes a transport for a few calls a minute.
func forRareCalls(t *http.Transport) {
	// A POST on a connection that the server is just closing fails, and is not
	// repeated. The canary comes once a minute: let it find no idle connection.
	t.IdleConnTimeout = 20 * time.Second
	t.MaxIdleConnsPerHost = 2
	// HTTP/2 would put all calls on one connection, and keep it when it is dead.
	t.ForceAttemptHTTP2 = false
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)
	t.DisableCompression = true // answers are a few hundred bytes; one buffer less that holds them
	t.MaxResponseHeaderBytes = 64 << 10
}

// credentials marks the errors of a provider: whatever lies beneath, an answer of
// STS or of the instance metadata service, it says nothing about the CMK.
type credentials struct{ aws.CredentialsProvider }

func (c credentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	creds, err := c.CredentialsProvider.Retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, &credentialsError{err}
	}
	return creds, nil
}

type credentialsError struct{ err error }

func (e *credentialsError) Error() string { return "get AWS credentials: " + e.err.Error() }
func (e *credentialsError) Unwrap() error { return e.err }
