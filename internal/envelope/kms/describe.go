// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/volseal/volseal/internal/fault"
)

// Key is what KMS tells of a key, in its own words. It explains; it proves nothing.
type Key struct {
	ARN     string
	State   string // Enabled, Disabled, PendingDeletion, PendingImport, …
	Spec    string // SYMMETRIC_DEFAULT, RSA_2048, …
	Usage   string // ENCRYPT_DECRYPT, SIGN_VERIFY, …
	Origin  string // AWS_KMS, EXTERNAL, AWS_CLOUDHSM, EXTERNAL_KEY_STORE
	Manager string // CUSTOMER or AWS
}

// Describe asks KMS about a key, by the ARN of the key or of an alias. Its
// errors are *fault.Error.
func (c *Client) Describe(ctx context.Context, arn string) (Key, error) {
	var out *awskms.DescribeKeyOutput
	err := c.ask(ctx, operationDescribe, arn, func(ctx context.Context) (err error) {
		out, err = c.api.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: &arn})
		return err
	})
	if err != nil {
		return Key{}, err
	}
	m := out.KeyMetadata
	if m == nil || aws.ToString(m.Arn) == "" {
		return Key{}, badAnswer("answer-empty", "KMS described a key without saying which.")
	}
	return Key{
		ARN: *m.Arn, State: string(m.KeyState), Spec: string(m.KeySpec), Usage: string(m.KeyUsage),
		Origin: string(m.Origin), Manager: string(m.KeyManager),
	}, nil
}

// ask makes one call whose answer holds no key, within the timeout, classifies
// its error and tells the observer.
func (c *Client) ask(ctx context.Context, operation, arn string, send func(context.Context) error) error {
	start := time.Now()
	try, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	err := send(try)
	if err == nil {
		c.o.Observer(operation, fault.None, time.Since(start))
		return nil
	}
	failed := c.classify(ctx, arn, err)
	c.o.Observer(operation, failed.Class, time.Since(start))
	return failed
}
