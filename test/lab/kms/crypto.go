// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"crypto/rand"
	"slices"
	"strconv"
	"strings"
)

// cryptoInput are the members that most cryptographic operations share.
type cryptoInput struct {
	KeyID               *string `json:"KeyId"`
	EncryptionContext   map[string]string
	EncryptionAlgorithm string
	GrantTokens         []string
	DryRun              bool
}

func (in *cryptoInput) check(c *constraints) {
	if in.EncryptionAlgorithm == "" {
		in.EncryptionAlgorithm = specSymmetric
	}
	c.oneOf("encryptionAlgorithm", in.EncryptionAlgorithm, specSymmetric, oaepSHA1, oaepSHA256, "SM2PKE")
	c.context("encryptionContext", in.EncryptionContext)
	c.grantTokens(in.GrantTokens)
}

// begin finds the key to encrypt with and checks all that a dry run checks.
func (s *Server) begin(rq *request, in cryptoInput, action string) (*key, error) {
	rq.call.Context, rq.call.DryRun = in.EncryptionContext, in.DryRun
	if err := s.st.checkGrantTokens(in.GrantTokens); err != nil {
		return nil, err
	}
	k, err := s.st.find(rq, *in.KeyID, true, access{action: action, context: in.EncryptionContext, facts: algorithmFact(in.EncryptionAlgorithm)})
	if err != nil {
		return nil, err
	}
	if err := k.usableFor(action, in.EncryptionAlgorithm, in.EncryptionContext); err != nil {
		return nil, err
	}
	if in.DryRun {
		return nil, wouldSucceed()
	}
	return k, nil
}

func algorithmFact(algorithm string) map[string][]string {
	return map[string][]string{"kms:encryptionalgorithm": {algorithm}}
}

// usableFor checks that the key's kind fits the operation.
func (k *key) usableFor(action, algorithm string, context map[string]string) error {
	switch {
	case k.Usage != usageEncrypt:
		return refuse("InvalidKeyUsageException", "%s key usage is %s which is not valid for %s.", k.ARN, k.Usage, action)
	case !slices.Contains(k.encryptionAlgorithms(), algorithm):
		return refuse("InvalidKeyUsageException", "Algorithm %s is incompatible with key spec %s.", algorithm, k.Spec)
	case k.Spec != specSymmetric && len(context) > 0:
		return invalid("An encryption context is not supported with the algorithm %s.", algorithm)
	}
	return nil
}

type encryptInput struct {
	cryptoInput
	Plaintext []byte
}

func (s *Server) encrypt(rq *request, in encryptInput) (any, error) {
	var c constraints
	c.text("keyId", in.KeyID, 1, maxKeyID)
	c.blob("plaintext", in.Plaintext, maxPlaintext)
	in.check(&c)
	if err := c.err(); err != nil {
		return nil, err
	}
	k, err := s.begin(rq, in.cryptoInput, "Encrypt")
	if err != nil {
		return nil, err
	}
	sealed, err := k.seal(in.EncryptionAlgorithm, in.EncryptionContext, in.Plaintext)
	if err != nil {
		return nil, err
	}
	return map[string]any{"CiphertextBlob": sealed, "KeyId": k.ARN, "EncryptionAlgorithm": in.EncryptionAlgorithm}, nil
}

func (k *key) seal(algorithm string, context map[string]string, plaintext []byte) ([]byte, error) {
	if k.Spec == specSymmetric {
		return sealBlob(k, context, plaintext)
	}
	return k.sealRSA(algorithm, plaintext)
}

type dataKeyInput struct {
	cryptoInput
	KeySpec       string
	NumberOfBytes *int
}

func (s *Server) generateDataKey(rq *request, in dataKeyInput) (any, error) {
	return s.makeDataKey(rq, in, "GenerateDataKey")
}

func (s *Server) generateDataKeyWithoutPlaintext(rq *request, in dataKeyInput) (any, error) {
	out, err := s.makeDataKey(rq, in, "GenerateDataKeyWithoutPlaintext")
	delete(out, "Plaintext")
	return out, err
}

func (s *Server) makeDataKey(rq *request, in dataKeyInput, action string) (map[string]any, error) {
	in.EncryptionAlgorithm = specSymmetric
	var c constraints
	c.text("keyId", in.KeyID, 1, maxKeyID)
	c.number("numberOfBytes", in.NumberOfBytes, 1, maxDataKey)
	c.oneOf("keySpec", in.KeySpec, "AES_256", "AES_128")
	in.check(&c)
	if err := c.err(); err != nil {
		return nil, err
	}
	size, err := in.size()
	if err != nil {
		return nil, err
	}
	k, err := s.begin(rq, in.cryptoInput, action)
	if err != nil {
		return nil, err
	}
	plaintext := make([]byte, size)
	_, _ = rand.Read(plaintext) // never fails: it ends the process instead
	sealed, err := sealBlob(k, in.EncryptionContext, plaintext)
	if err != nil {
		return nil, err
	}
	return map[string]any{"CiphertextBlob": sealed, "Plaintext": plaintext, "KeyId": k.ARN}, nil
}

func (in dataKeyInput) size() (int, error) {
	switch {
	case (in.KeySpec == "") == (in.NumberOfBytes == nil):
		return 0, invalid("Please specify either number of bytes or key spec.")
	case in.KeySpec == "AES_128":
		return 16, nil
	case in.KeySpec == "AES_256":
		return 32, nil
	}
	return *in.NumberOfBytes, nil
}

// ignoreCiphertext lets a dry run of Decrypt ask about the right alone.
const ignoreCiphertext = "IGNORE_CIPHERTEXT"

type decryptInput struct {
	cryptoInput
	CiphertextBlob  []byte
	DryRunModifiers []string
}

func (s *Server) decrypt(rq *request, in decryptInput) (any, error) {
	onlyRights := in.DryRun && slices.Contains(in.DryRunModifiers, ignoreCiphertext)
	var c constraints
	if !onlyRights {
		c.blob("ciphertextBlob", in.CiphertextBlob, maxCiphertext)
	}
	if in.KeyID != nil || onlyRights {
		c.text("keyId", in.KeyID, 1, maxKeyID)
	}
	in.check(&c)
	if err := c.err(); err != nil {
		return nil, err
	}
	if onlyRights {
		_, err := s.begin(rq, in.cryptoInput, "Decrypt")
		return nil, err
	}
	k, plaintext, err := s.unwrap(rq, in, access{action: "Decrypt"})
	switch {
	case err != nil:
		return nil, err
	case in.DryRun:
		return nil, wouldSucceed()
	}
	return map[string]any{"KeyId": k.ARN, "Plaintext": plaintext, "EncryptionAlgorithm": in.EncryptionAlgorithm}, nil
}

// unwrap decrypts a ciphertext for an access that is authorized here, under the
// key that the request pins or else the one that the ciphertext names.
func (s *Server) unwrap(rq *request, in decryptInput, a access) (*key, []byte, error) {
	rq.call.Context, rq.call.DryRun = in.EncryptionContext, in.DryRun
	a.context, a.aboutCiphertext = in.EncryptionContext, true
	if a.facts == nil {
		a.facts = algorithmFact(in.EncryptionAlgorithm)
	}
	if err := s.st.checkGrantTokens(in.GrantTokens); err != nil {
		return nil, nil, err
	}
	parsed, isBlob := parseBlob(in.CiphertextBlob)
	k, err := s.wrappingKey(rq, in.KeyID, parsed, isBlob, a)
	if err != nil {
		return nil, nil, err
	}
	if isBlob && parsed.keyARN != k.ARN {
		return nil, nil, incorrectKey()
	}
	if err := k.usableFor(a.action, in.EncryptionAlgorithm, in.EncryptionContext); err != nil {
		return nil, nil, err
	}
	if k.Spec != specSymmetric {
		plaintext, err := k.openRSA(in.EncryptionAlgorithm, in.CiphertextBlob)
		return k, plaintext, err
	}
	if !isBlob {
		return nil, nil, invalidCiphertext()
	}
	plaintext, err := openBlob(k, in.EncryptionContext, parsed)
	return k, plaintext, err
}

func (s *Server) wrappingKey(rq *request, keyID *string, parsed blob, isBlob bool, a access) (*key, error) {
	switch {
	case keyID == nil && !isBlob:
		return nil, invalidCiphertext()
	case keyID == nil:
		if k := s.st.Keys[parsed.keyARN]; k == nil || k.parts().Region != rq.region {
			rq.call.Key = parsed.keyARN
			return nil, denyHidden(rq.caller, a)
		}
		return s.st.find(rq, parsed.keyARN, false, a)
	case isBlob && uuidForm.MatchString(*keyID) && strings.HasSuffix(parsed.keyARN, ":key/"+*keyID):
		return s.st.find(rq, parsed.keyARN, false, a) // a short id will do for another account's key too
	}
	return s.st.find(rq, *keyID, true, a)
}

type reEncryptInput struct {
	CiphertextBlob                 []byte
	SourceEncryptionContext        map[string]string
	SourceKeyID                    *string `json:"SourceKeyId"`
	SourceEncryptionAlgorithm      string
	DestinationKeyID               *string `json:"DestinationKeyId"`
	DestinationEncryptionContext   map[string]string
	DestinationEncryptionAlgorithm string
	GrantTokens                    []string
	DryRun                         bool
	DryRunModifiers                []string
}

// onlyRights: the ciphertext is not asked about, so its key must be named.
func (in reEncryptInput) onlyRights() bool {
	return in.DryRun && slices.Contains(in.DryRunModifiers, ignoreCiphertext)
}

func (in reEncryptInput) source() decryptInput {
	return decryptInput{CiphertextBlob: in.CiphertextBlob, cryptoInput: cryptoInput{
		KeyID: in.SourceKeyID, EncryptionContext: in.SourceEncryptionContext, GrantTokens: in.GrantTokens,
		EncryptionAlgorithm: in.SourceEncryptionAlgorithm, DryRun: in.DryRun,
	}}
}

func (in reEncryptInput) destination() cryptoInput {
	return cryptoInput{
		KeyID: in.DestinationKeyID, EncryptionContext: in.DestinationEncryptionContext,
		EncryptionAlgorithm: in.DestinationEncryptionAlgorithm, GrantTokens: in.GrantTokens, DryRun: in.DryRun,
	}
}

// reEncrypt is authorized twice: from the one key, to the other.
func (s *Server) reEncrypt(rq *request, in reEncryptInput) (any, error) {
	from, to := in.source(), in.destination()
	var c constraints
	if in.onlyRights() {
		c.text("sourceKeyId", in.SourceKeyID, 1, maxKeyID)
	} else {
		c.blob("ciphertextBlob", in.CiphertextBlob, maxCiphertext)
	}
	c.text("destinationKeyId", in.DestinationKeyID, 1, maxKeyID)
	from.check(&c)
	to.check(&c)
	if err := c.err(); err != nil {
		return nil, err
	}
	if in.onlyRights() {
		return nil, s.mayReEncrypt(rq, from, to)
	}
	same := sameKeyFact(s.sameKey(rq, from, to))
	source, plaintext, err := s.unwrap(rq, from, access{action: "ReEncryptFrom", facts: same})
	if err != nil {
		return nil, err
	}
	destination, err := s.reEncryptTo(rq, to, same)
	if err != nil {
		return nil, err
	}
	sealed, err := destination.seal(to.EncryptionAlgorithm, to.EncryptionContext, plaintext)
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"CiphertextBlob": sealed, "SourceKeyId": source.ARN, "KeyId": destination.ARN,
		"SourceEncryptionAlgorithm": from.EncryptionAlgorithm, "DestinationEncryptionAlgorithm": to.EncryptionAlgorithm,
	}, nil
}

func (s *Server) reEncryptTo(rq *request, to cryptoInput, same map[string][]string) (*key, error) {
	source := rq.call.Key
	k, err := s.st.find(rq, *to.KeyID, true, access{action: "ReEncryptTo", context: to.EncryptionContext, facts: same})
	rq.call.Key, rq.call.ToKey, rq.call.ToContext = source, rq.call.Key, to.EncryptionContext
	if err != nil {
		return nil, err
	}
	if err := k.usableFor("ReEncrypt", to.EncryptionAlgorithm, to.EncryptionContext); err != nil {
		return nil, err
	}
	if to.DryRun {
		return nil, wouldSucceed()
	}
	return k, nil
}

// mayReEncrypt checks both rights and both keys, and ends as a dry run does.
func (s *Server) mayReEncrypt(rq *request, from decryptInput, to cryptoInput) error {
	source, err1 := s.st.keyARN(rq, *from.KeyID, true, access{})
	destination, err2 := s.st.keyARN(rq, *to.KeyID, true, access{})
	same := sameKeyFact(err1 == nil && err2 == nil && source == destination)
	rq.call.Context, rq.call.DryRun = from.EncryptionContext, true
	k, err := s.st.find(rq, *from.KeyID, true, access{action: "ReEncryptFrom", context: from.EncryptionContext, facts: same})
	if err != nil {
		return err
	}
	if err := k.usableFor("ReEncrypt", from.EncryptionAlgorithm, from.EncryptionContext); err != nil {
		return err
	}
	_, err = s.reEncryptTo(rq, to, same)
	return err
}

func sameKeyFact(same bool) map[string][]string {
	return map[string][]string{"kms:reencryptonsamekey": {strconv.FormatBool(same)}}
}

func (s *Server) sameKey(rq *request, from decryptInput, to cryptoInput) bool {
	parsed, ok := parseBlob(from.CiphertextBlob)
	destination, err := s.st.keyARN(rq, *to.KeyID, true, access{})
	return ok && err == nil && parsed.keyARN == destination
}
