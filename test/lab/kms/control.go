// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"time"

	"github.com/volseal/volseal/test/lab/aws"
)

// KeyInfo is what the lab may know of a key without asking as anybody.
type KeyInfo struct {
	ARN, ID, Account, Region string
	Spec, Usage, Origin      string // SYMMETRIC_DEFAULT, ENCRYPT_DECRYPT, AWS_KMS, …
	State                    string // Enabled, Disabled, PendingDeletion, PendingImport
	Deletion                 time.Time
	Policy                   string
	Grants                   int
}

// The methods below are the hand of whoever owns a key in the emulated world:
// no policy is asked, nothing is logged as a request, and no fault strikes.
// Their errors are *aws.Error with the code that KMS would answer.

// CreateKey makes a key and returns its ARN. An empty spec is
// SYMMETRIC_DEFAULT, an empty origin AWS_KMS. A shared key's policy lets the
// platform account use it and make grants for AWS resources.
func (s *Server) CreateKey(account, region, spec, origin string, shared bool) (arn string, err error) {
	in := createKeyInput{KeySpec: spec, Origin: origin, BypassPolicyLockoutSafetyCheck: true}
	if rsaBits(spec) != 0 {
		in.KeyUsage = usageEncrypt
	}
	if shared {
		policy := sharedPolicy(account)
		in.Policy = &policy
	}
	var call aws.Call
	_, err = s.do(caller{principal: aws.Root(account), region: region}, &call, func(rq *request) (any, error) {
		return s.createKey(rq, in)
	})
	return call.Key, apiErrorOrNil(err)
}

// SetEnabled enables or disables a key.
func (s *Server) SetEnabled(arn string, enabled bool) error {
	action, state := "DisableKey", stateDisabled
	if enabled {
		action, state = "EnableKey", stateEnabled
	}
	return s.change(arn, action, func(_ *request, k *key) error {
		k.State = state
		return nil
	})
}

// ScheduleDeletion lets a key wait for its deletion for some days, 7 to 30; 0
// is the default of 30.
func (s *Server) ScheduleDeletion(arn string, days int) error {
	if days == 0 {
		days = 30
	}
	var c constraints
	c.number("pendingWindowInDays", &days, 7, 30)
	if err := c.err(); err != nil {
		return err
	}
	return s.change(arn, "ScheduleKeyDeletion", func(rq *request, k *key) error {
		k.scheduleDeletion(rq.now, days)
		return nil
	})
}

// CancelDeletion leaves a key that waited for its deletion disabled.
func (s *Server) CancelDeletion(arn string) error {
	return s.change(arn, "CancelKeyDeletion", func(_ *request, k *key) error {
		k.cancelDeletion()
		return nil
	})
}

// Delete deletes a key at once, as if its waiting period had passed.
func (s *Server) Delete(arn string) error {
	return s.change(arn, "DescribeKey", func(_ *request, k *key) error {
		s.st.drop(k.ARN)
		return nil
	})
}

// PutPolicy replaces the key policy, also by one that locks the owner out.
func (s *Server) PutPolicy(arn, policy string) error {
	return s.change(arn, "PutKeyPolicy", func(rq *request, k *key) error {
		if err := s.st.checkPolicy(rq, k, policy, true); err != nil {
			return err
		}
		k.Policy = policy
		return nil
	})
}

// Deny adds to the key policy a statement that denies actions ("Decrypt",
// "kms:ReEncrypt*"; none: all) to the platform account's principals.
func (s *Server) Deny(arn string, actions ...string) error {
	return s.editPolicy(arn, func(old string) (string, error) { return withDeny(old, actions) })
}

// Allow takes back every Deny.
func (s *Server) Allow(arn string) error { return s.editPolicy(arn, withoutDeny) }

func (s *Server) editPolicy(arn string, edit func(string) (string, error)) error {
	return s.change(arn, "PutKeyPolicy", func(_ *request, k *key) error {
		policy, err := edit(k.Policy)
		if err != nil {
			return err
		}
		k.Policy = policy
		return nil
	})
}

// ImportMaterial gives material to a key of origin EXTERNAL, which enables it.
func (s *Server) ImportMaterial(arn string) error {
	return s.change(arn, "ImportKeyMaterial", func(_ *request, k *key) error {
		if k.Origin != originExternal {
			return refuse("UnsupportedOperationException", "%s origin is %s which is not valid for this operation.", k.ARN, k.Origin)
		}
		k.addBacking()
		k.State = stateEnabled
		return nil
	})
}

// Rotate gives a symmetric key a new backing key for what it encrypts from now on.
func (s *Server) Rotate(arn string) error {
	return s.change(arn, "RotateKeyOnDemand", func(_ *request, k *key) error {
		if k.Spec != specSymmetric || k.Origin != originKMS {
			return refuse("UnsupportedOperationException", "%s key spec is %s and its origin %s.", k.ARN, k.Spec, k.Origin)
		}
		k.addBacking()
		return nil
	})
}

// Unwrap decrypts a data key as the key's owner could, whatever state the key is
// in: what a test searches memory for.
func (s *Server) Unwrap(arn string, wrapped []byte, context map[string]string) ([]byte, error) {
	out, err := s.as(arn, func(rq *request) (any, error) {
		k, err := s.st.resolve(rq, arn, false, access{action: "Decrypt"})
		if err != nil {
			return nil, err
		}
		parsed, isBlob := parseBlob(wrapped)
		if !isBlob {
			return nil, invalidCiphertext()
		}
		if parsed.keyARN != k.ARN {
			return nil, incorrectKey()
		}
		return openBlob(k, context, parsed)
	})
	plaintext, _ := out.([]byte)
	return plaintext, err
}

// SetIdentityPolicy sets the policy of a role or user, by the ARN that its
// principals have in IAM (arn:aws:iam::ACCOUNT:role/NAME). An empty policy
// restores the default, which allows kms:* on all keys.
func (s *Server) SetIdentityPolicy(principalARN, policy string) error {
	_, err := s.do(caller{}, &aws.Call{}, func(*request) (any, error) {
		if policy == "" {
			delete(s.st.Identity, principalARN)
			return nil, s.persist()
		}
		if _, err := parsePolicy(policy, false); err != nil {
			return nil, err
		}
		s.st.Identity[principalARN] = policy
		return nil, s.persist()
	})
	return apiErrorOrNil(err)
}

// Describe tells about a key, by its ARN or an alias ARN.
func (s *Server) Describe(arn string) (KeyInfo, error) {
	var info KeyInfo
	_, err := s.as(arn, func(rq *request) (any, error) {
		k, err := s.st.resolve(rq, arn, true, access{action: "DescribeKey"})
		if err != nil {
			return nil, err
		}
		info = k.info()
		return nil, nil
	})
	return info, err
}

func (k *key) info() KeyInfo {
	parts := k.parts()
	info := KeyInfo{
		ARN: k.ARN, ID: k.id(), Account: parts.Account, Region: parts.Region, Spec: k.Spec, Usage: k.Usage, Origin: k.Origin,
		State: k.State, Policy: k.Policy, Grants: len(k.Grants),
	}
	if k.Deletion != nil {
		info.Deletion = *k.Deletion
	}
	return info
}

// change applies a change that the key's state permits as it would the action.
func (s *Server) change(arn, action string, change func(*request, *key) error) error {
	_, err := s.as(arn, func(rq *request) (any, error) {
		k, err := s.st.resolve(rq, arn, false, access{action: action})
		if err != nil {
			return nil, err
		}
		if err := k.stateAllows(action); err != nil && action != "ImportKeyMaterial" {
			return nil, err
		}
		if err := change(rq, k); err != nil {
			return nil, err
		}
		return nil, s.persist()
	})
	return err
}

// as runs serve as the root user of the account, in the region, that own arn.
func (s *Server) as(arn string, serve func(*request) (any, error)) (any, error) {
	parts, _ := aws.ParseARN(arn)
	out, err := s.do(caller{principal: aws.Root(parts.Account), region: parts.Region}, &aws.Call{}, serve)
	return out, apiErrorOrNil(err)
}

func apiErrorOrNil(err error) error {
	if err == nil {
		return nil
	}
	return asAPIError(err)
}
