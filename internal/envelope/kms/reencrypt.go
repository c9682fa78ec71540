// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
)

// ReEncrypt has a data key wrapped by another CMK. Both are pinned: without
// SourceKeyId KMS would take a blob wrapped by any key that we may use.
func (c *Client) ReEncrypt(ctx context.Context, fromARN, toARN string, ec envelope.Context, wrapped []byte) ([]byte, error) {
	var out *awskms.ReEncryptOutput
	err := c.ask(ctx, operationReEncrypt, toARN, func(ctx context.Context) (err error) {
		out, err = c.api.ReEncrypt(ctx, &awskms.ReEncryptInput{
			SourceKeyId:                  &fromARN,
			SourceEncryptionContext:      ec,
			DestinationKeyId:             &toARN,
			DestinationEncryptionContext: ec,
			CiphertextBlob:               wrapped,
		})
		if err != nil {
			return err
		}
		return checkRewrapped(out, fromARN, toARN)
	})
	if err != nil {
		return nil, eitherKey(err)
	}
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
func eitherKey(err error) error {
	var f *fault.Error
	if !errors.As(err, &f) || f.Class != fault.Revoked {
		return err
	}
	told := *f
	told.Class = fault.Misconfigured
	told.Cause = "KMS refuses to wrap the data key under the other CMK: " + f.Cause
	told.Hint = "The host's role needs kms:ReEncryptFrom on the old CMK and kms:ReEncryptTo and kms:Decrypt on the new one, in its own policy and in the policies of both keys; and both keys must be enabled. Nothing was changed."
	told.Who = byCustomerOrPlatform
	return &told
}
