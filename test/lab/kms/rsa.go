// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"hash"
)

const (
	oaepSHA1   = "RSAES_OAEP_SHA_1"
	oaepSHA256 = "RSAES_OAEP_SHA_256"
)

func oaepHash(algorithm string) hash.Hash {
	if algorithm == oaepSHA1 {
		return sha1.New() // what the algorithm is named after, not a choice
	}
	return sha256.New()
}

func (k *key) privateRSA() (*rsa.PrivateKey, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(k.Private)
	if err != nil {
		return nil, fmt.Errorf("decode RSA key: %w", err)
	}
	private, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("decode RSA key: it is a %T", parsed)
	}
	return private, nil
}

func (k *key) sealRSA(algorithm string, plaintext []byte) ([]byte, error) {
	private, err := k.privateRSA()
	if err != nil {
		return nil, err
	}
	h := oaepHash(algorithm)
	if limit := private.Size() - 2*h.Size() - 2; len(plaintext) > limit {
		return nil, invalid("Algorithm %s and key spec %s cannot encrypt data larger than %d bytes.", algorithm, k.Spec, limit)
	}
	return rsa.EncryptOAEP(h, rand.Reader, &private.PublicKey, plaintext, nil)
}

func (k *key) openRSA(algorithm string, sealed []byte) ([]byte, error) {
	private, err := k.privateRSA()
	if err != nil {
		return nil, err
	}
	plaintext, err := rsa.DecryptOAEP(oaepHash(algorithm), nil, private, sealed, nil)
	if err != nil {
		return nil, invalidCiphertext()
	}
	return plaintext, nil
}

func (s *Server) getPublicKey(rq *request, in keyInput) (any, error) {
	var c constraints
	c.text("keyId", in.KeyID, 1, maxKeyID)
	if err := c.err(); err != nil {
		return nil, err
	}
	k, err := s.st.find(rq, *in.KeyID, true, access{action: "GetPublicKey"})
	if err != nil {
		return nil, err
	}
	if k.Spec == specSymmetric {
		return nil, refuse("UnsupportedOperationException", "%s key spec is %s which is not valid for this operation.", k.ARN, k.Spec)
	}
	private, err := k.privateRSA()
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	m := k.metadata()
	return map[string]any{
		"KeyId": k.ARN, "PublicKey": public, "KeySpec": k.Spec, "CustomerMasterKeySpec": k.Spec, "KeyUsage": k.Usage,
		"EncryptionAlgorithms": m.EncryptionAlgorithms, "SigningAlgorithms": m.SigningAlgorithms,
	}, nil
}
