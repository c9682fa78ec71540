// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"slices"
	"strings"

	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
)

// Permission is the right to an operation on a CMK that a dry run can ask
// about: KMS checks right and key as for the request itself, and does nothing.
type Permission string

// The permissions that volseal, or EBS for it, needs and that can be tried.
const (
	MayGenerate        Permission = "kms:GenerateDataKey"
	MayDecrypt         Permission = "kms:Decrypt"
	MayGenerateWrapped Permission = "kms:GenerateDataKeyWithoutPlaintext"
	MayReEncrypt       Permission = "kms:ReEncrypt*" // from the key and to it: one call asks for both
)

// Permissions lists them.
func Permissions() []Permission {
	return []Permission{MayGenerate, MayDecrypt, MayGenerateWrapped, MayReEncrypt}
}

// Try asks for a permission by a dry run. Nil means that the request would have
// succeeded. Its errors are *fault.Error; see Denied and Untried.
func (c *Client) Try(ctx context.Context, p Permission, keyARN string, ec envelope.Context) error {
	operation, dryRun := c.dryRun(p, keyARN, ec)
	return c.ask(ctx, operation, keyARN, func(ctx context.Context) error {
		// Were the flag ignored on the way, the answer would hold a key.
		ctx, tapped := withCaught(ctx)
		defer func() { tapped.key.Destroy() }()
		err := dryRun(ctx)
		if err == nil {
			return badAnswer("answer-dry-run", "KMS did what was only to be tried.")
		}
		if worked := classify(ctx, err, false); worked == nil {
			return nil
		}
		return err
	})
}

func (c *Client) dryRun(p Permission, keyARN string, ec envelope.Context) (operation string, send func(context.Context) error) {
	yes := new(true)
	// Without it a data key would have to be made for each question.
	anyCiphertext := []types.DryRunModifierType{types.DryRunModifierTypeIgnoreCiphertext}
	switch p {
	case MayDecrypt:
		return operationDecrypt, func(ctx context.Context) error {
			_, err := c.api.Decrypt(ctx, &awskms.DecryptInput{KeyId: &keyARN, EncryptionContext: ec, DryRun: yes, DryRunModifiers: anyCiphertext})
			return err
		}
	case MayReEncrypt:
		return operationReEncrypt, func(ctx context.Context) error {
			_, err := c.api.ReEncrypt(ctx, &awskms.ReEncryptInput{
				SourceKeyId: &keyARN, SourceEncryptionContext: ec, DestinationKeyId: &keyARN, DestinationEncryptionContext: ec,
				DryRun: yes, DryRunModifiers: anyCiphertext,
			})
			return err
		}
	case MayGenerateWrapped:
		return operationGenerateWrapped, func(ctx context.Context) error {
			_, err := c.api.GenerateDataKeyWithoutPlaintext(ctx, &awskms.GenerateDataKeyWithoutPlaintextInput{
				KeyId: &keyARN, EncryptionContext: ec, KeySpec: types.DataKeySpecAes256, DryRun: yes,
			})
			return err
		}
	default:
		return operationGenerate, func(ctx context.Context) error {
			_, err := c.api.GenerateDataKey(ctx, &awskms.GenerateDataKeyInput{
				KeyId: &keyARN, EncryptionContext: ec, KeySpec: types.DataKeySpecAes256, DryRun: yes,
			})
			return err
		}
	}
}

// Denied reports whether err is a policy's no: anybody's, the platform's own
// included (fault.ReasonDeniedByPlatform).
func Denied(err error) bool {
	reasons := []string{"AccessDeniedException", "AccessDenied", "NotAuthorized", fault.ReasonDeniedByPlatform, fault.ReasonDeniedUnclear}
	return fault.ClassOf(err) == fault.Revoked && slices.Contains(reasons, fault.ReasonOf(err))
}

// Untried reports whether err says that the question itself was not understood:
// an endpoint that does not know dry runs without a ciphertext misses one.
func Untried(err error) bool {
	return strings.HasPrefix(fault.ReasonOf(err), "Validation") || fault.ReasonOf(err) == "SerializationException"
}
