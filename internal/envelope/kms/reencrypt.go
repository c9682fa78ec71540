// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
)

// ReEncrypt has a data key wrapped by another CMK. Both are pinned: without
// SourceKeyId KMS would take a blob wrapped by any key that we may use.
func (c *Client) ReEncrypt(ctx context.Context, fromARN, toARN string, ec envelope.Context, wrapped []byte) ([]byte, error) {
	start := time.Now()
	try, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	out, err := c.api.ReEncrypt(try, &awskms.ReEncryptInput{
		SourceKeyId:                  &fromARN,
		SourceEncryptionContext:      ec,
		DestinationKeyId:             &toARN,
		DestinationEncryptionContext: ec,
		CiphertextBlob:               wrapped,
	})
	if err == nil {
		err = checkRewrapped(out, fromARN, toARN)
	}
	if err != nil {
		failed := eitherKey(c.classify(ctx, toARN, err))
		c.o.Observer(operationReEncrypt, failed.Class, time.Since(start))
		return nil, failed
	}
	c.o.Observer(operationReEncrypt, fault.None, time.Since(start))
	return out.CiphertextBlob, nil
}

func checkRewrapped(out *awskms.ReEncryptOutput, fromARN, toARN string) error {
	switch {
	case aws.ToString(out.KeyId) != toARN || aws.ToString(out.SourceKeyId) != fromARN:
		return badAnswer("answer-key-id", "KMS answered for other keys than those that were asked for.")
	case len(out.CiphertextBlob) == 0 || len(out.CiphertextBlob) > maxBlob:
		return badAnswer("answer-length", "KMS returned a wrapped data key of an impossible length.")
	}
	return nil
}

// eitherKey: the call uses two keys and needs a permission of its own on each,
// and KMS's refusal is no word on the key that opens the volume, which was just
// used. So it is never class Revoked: that would forget keys and might lock.
func eitherKey(f *fault.Error) *fault.Error {
	if f.Class != fault.Revoked {
		return f
	}
	told := *f
	told.Class = fault.Misconfigured
	told.Cause = "KMS refuses to wrap the data key under the other CMK: " + f.Cause
	told.Hint = "The host's role needs kms:ReEncryptFrom on the old CMK and kms:ReEncryptTo and kms:Decrypt on the new one, in its own policy and in the policies of both keys; and both keys must be enabled. Nothing was changed."
	told.Who = byCustomerOrPlatform
	return &told
}
