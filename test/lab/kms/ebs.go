// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"github.com/volseal/volseal/test/lab/aws"
)

// What EC2 asks of KMS for an encrypted volume, on behalf of the principal p
// that called EC2. Requests carry the encryption context {"aws:ebs:id": volume
// id} and kms:ViaService ec2.REGION.amazonaws.com, obey the key's policy and
// state, and appear in the call log with Via "ec2". Faults of the KMS that
// clients see do not strike them, or a fault counted out for a client would be
// spent on a volume. keyARN is a key ARN: Describe turns an alias into one. The
// errors are *aws.Error.

const (
	viaEC2         = "ec2"
	ebsContextKey  = "aws:ebs:id"
	ebsDataKeySize = 64
)

// ec2Infrastructure is the principal that serves an attached volume: it is in
// the caller's account, and lives by the grant that EBSCreateGrant makes.
func ec2Infrastructure(p aws.Principal, volumeID string) aws.Principal {
	return aws.AssumedRole(p.Account, "aws:ec2-infrastructure", volumeID)
}

func ebsContext(volumeID string) map[string]string { return map[string]string{ebsContextKey: volumeID} }

// EBSGenerateDataKeyWithoutPlaintext makes the wrapped key of a new volume.
func (s *Server) EBSGenerateDataKeyWithoutPlaintext(p aws.Principal, keyARN, volumeID string) (wrapped []byte, err error) {
	size := ebsDataKeySize
	in := dataKeyInput{NumberOfBytes: &size, cryptoInput: cryptoInput{KeyID: &keyARN, EncryptionContext: ebsContext(volumeID)}}
	err = s.viaEC2(p, "GenerateDataKeyWithoutPlaintext", volumeID, func(rq *request) error {
		out, err := s.makeDataKey(rq, in, "GenerateDataKeyWithoutPlaintext")
		if err != nil {
			return err
		}
		wrapped, _ = out["CiphertextBlob"].([]byte)
		return nil
	})
	return wrapped, err
}

// EBSCreateGrant makes the grant by which EC2 decrypts the volume's key while
// the volume is attached. It needs kms:CreateGrant, where the condition
// kms:GrantIsForAWSResource holds. Repeating it makes no second grant.
func (s *Server) EBSCreateGrant(p aws.Principal, keyARN, volumeID string) error {
	grantee := ec2Infrastructure(p, volumeID).ARN
	in := createGrantInput{
		keyInput: keyInput{&keyARN}, GranteePrincipal: &grantee, Name: "ebs-" + volumeID,
		Operations:  []string{"Decrypt"},
		Constraints: &grantConstraints{EncryptionContextSubset: ebsContext(volumeID)},
	}
	a := in.access()
	a.forAWSResource = true
	return s.viaEC2(p, "CreateGrant", volumeID, func(rq *request) error {
		_, err := s.addGrant(rq, in, a)
		return err
	})
}

// EBSRetireGrant ends what EBSCreateGrant made, as EC2 does after a detach. It
// needs no right, and that there is no such grant is no error.
func (s *Server) EBSRetireGrant(p aws.Principal, keyARN, volumeID string) error {
	grantee := ec2Infrastructure(p, volumeID).ARN
	return s.viaEC2(p, "RetireGrant", volumeID, func(rq *request) error {
		k, err := s.st.resolve(rq, keyARN, true, access{action: "RetireGrant"})
		if err != nil {
			return err
		}
		for _, g := range k.Grants {
			if g.Grantee == grantee {
				return s.endGrant(k, g.ID, false)
			}
		}
		return nil
	})
}

// EBSDecrypt unwraps the volume's key to attach it. EC2 may do so by its grant,
// or else by the caller's own kms:Decrypt. A Deny for the caller's account
// stops both.
func (s *Server) EBSDecrypt(p aws.Principal, keyARN, volumeID string, wrapped []byte) error {
	in := decryptInput{CiphertextBlob: wrapped, cryptoInput: cryptoInput{
		KeyID: &keyARN, EncryptionContext: ebsContext(volumeID), EncryptionAlgorithm: specSymmetric,
	}}
	return s.viaEC2(p, "Decrypt", volumeID, func(rq *request) error {
		byGrant := *rq
		byGrant.principal = ec2Infrastructure(p, volumeID)
		if _, _, err := s.unwrap(&byGrant, in, access{action: "Decrypt"}); err == nil {
			return nil
		}
		_, _, err := s.unwrap(rq, in, access{action: "Decrypt"})
		return err
	})
}

// EBSReEncrypt wraps a volume's or snapshot's key anew: to another CMK, for
// another volume, or both. It needs kms:ReEncryptFrom and kms:ReEncryptTo.
func (s *Server) EBSReEncrypt(p aws.Principal, fromARN, toARN, fromVol, toVol string, wrapped []byte) (rewrapped []byte, err error) {
	in := reEncryptInput{
		CiphertextBlob: wrapped, SourceKeyID: &fromARN, SourceEncryptionContext: ebsContext(fromVol),
		DestinationKeyID: &toARN, DestinationEncryptionContext: ebsContext(toVol),
	}
	err = s.viaEC2(p, "ReEncrypt", toVol, func(rq *request) error {
		out, err := s.reEncrypt(rq, in)
		if err != nil {
			return err
		}
		rewrapped, _ = out.(map[string]any)["CiphertextBlob"].([]byte)
		return nil
	})
	return rewrapped, err
}

func (s *Server) viaEC2(p aws.Principal, operation, volumeID string, serve func(*request) error) error {
	call := aws.Call{
		Service: service, Operation: operation, Region: s.opts.EC2Region, Resource: volumeID, Via: viaEC2,
		Principal: p.ARN, RequestID: aws.NewUUID(), Result: "ok",
	}
	c := caller{principal: p, region: s.opts.EC2Region, via: viaEC2}
	_, err := s.do(c, &call, func(rq *request) (any, error) { return nil, serve(rq) })
	if err != nil {
		call.Result = asAPIError(err).Code
	}
	s.opts.Calls.Add(call)
	return apiErrorOrNil(err)
}
