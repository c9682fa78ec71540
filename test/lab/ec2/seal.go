// SPDX-License-Identifier: Apache-2.0

package ec2

import (
	"fmt"
	"strings"

	"github.com/volseal/volseal/test/lab/aws"
)

// keyARN makes an ARN of what a request calls KmsKeyId: an ARN, a key id or an
// alias of the caller's account; nothing means the account's default key. Whether
// there is such a key is not asked here: EBS finds out later.
func (s *Server) keyARN(id string) (string, error) {
	switch {
	case strings.HasPrefix(id, "arn:"):
		return id, nil
	case strings.HasPrefix(id, "alias/"):
		return fmt.Sprintf("arn:aws:kms:%s:%s:%s", s.opts.Region, s.opts.Account, id), nil
	case id != "":
		return fmt.Sprintf("arn:aws:kms:%s:%s:key/%s", s.opts.Region, s.opts.Account, id), nil
	case s.opts.DefaultKey == "":
		return "", invalid("This account has no default key for EBS encryption: name one")
	default:
		return s.opts.DefaultKey, nil
	}
}

// seal gets a data key for the new resource id under want.Key: a fresh one, or
// that of the snapshot it is made from, moved to want.Key. The errors are KMS's.
func (s *Server) seal(p aws.Principal, id string, want sealed, from *sealed) (sealed, error) {
	arn, ok := aws.ParseARN(want.Key)
	if !ok || arn.Region != s.opts.Region {
		return sealed{}, refuse("NotFoundException", "EBS reaches no key %s from %s", want.Key, s.opts.Region)
	}
	key, err := s.opts.KMS.Describe(want.Key) // which may be an alias
	if err != nil {
		return sealed{}, fmt.Errorf("find key of %s: %w", id, err)
	}
	out := sealed{Key: key.ARN, Context: id}
	if from == nil {
		out.Wrapped, err = s.opts.KMS.EBSGenerateDataKeyWithoutPlaintext(p, out.Key, id)
	} else {
		out.Wrapped, err = s.opts.KMS.EBSReEncrypt(p, from.Key, out.Key, from.Context, id, from.Wrapped)
	}
	if err != nil {
		return sealed{}, fmt.Errorf("seal %s: %w", id, err)
	}
	return out, nil
}

// unseal is what happens at an attach: a grant for the instance's host, and the
// data key decrypted into it. Every refusal looks the same from outside, also
// one that only concerns the grant.
func (s *Server) unseal(p aws.Principal, v *volume) error {
	if v.Sealed == nil {
		return nil
	}
	err := s.opts.KMS.EBSCreateGrant(p, v.Sealed.Key, v.Sealed.Context)
	if err == nil {
		err = s.opts.KMS.EBSDecrypt(p, v.Sealed.Key, v.Sealed.Context, v.Sealed.Wrapped)
	}
	if err != nil {
		s.opts.Log.Info("EBS could not use the key", "volume", v.ID, "key", v.Sealed.Key, "error", err)
		return refuse("CustomerKeyHasBeenRevoked",
			"Volume %s cannot be attached. The encrypted volume was unable to access the KMS master key.", v.ID)
	}
	return nil
}

// release ends the grant of a volume that nothing is attached to any more.
func (s *Server) release(id string) {
	v := s.view(id)
	if v == nil || v.Sealed == nil || len(v.Attachments) > 0 {
		return
	}
	host := aws.AssumedRole(s.opts.Account, "aws:ec2-infrastructure", id)
	if err := s.opts.KMS.EBSRetireGrant(host, v.Sealed.Key, v.Sealed.Context); err != nil {
		s.opts.Log.Debug("grant not retired", "volume", id, "error", err) // the key may be gone
	}
}
