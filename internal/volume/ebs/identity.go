// SPDX-License-Identifier: Apache-2.0

package ebs

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// credentialsError marks a failure to get credentials. Inside the SDK it looks
// like any other network error or API error, of another service: without the
// mark, an unreachable metadata service would be taken for an unreachable EC2.
type credentialsError struct{ err error }

func (e *credentialsError) Error() string { return "get credentials: " + e.err.Error() }

func (e *credentialsError) Unwrap() error { return e.err }

// namedCredentials marks the errors of a provider.
type namedCredentials struct{ provider aws.CredentialsProvider }

func (n namedCredentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	c, err := n.provider.Retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, &credentialsError{err}
	}
	return c, nil
}
