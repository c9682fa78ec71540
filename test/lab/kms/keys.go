// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/volseal/volseal/test/lab/aws"
)

// seconds is a timestamp of the JSON 1.1 protocol.
type seconds float64

func inSeconds(t time.Time) seconds { return seconds(float64(t.UnixMilli()) / 1000) }

// keyMetadata is KeyMetadata of the API.
type keyMetadata struct {
	AWSAccountID          string   `json:"AWSAccountId"`
	Arn                   string   `json:"Arn"`
	CreationDate          seconds  `json:"CreationDate"`
	CustomerMasterKeySpec string   `json:"CustomerMasterKeySpec"`
	DeletionDate          *seconds `json:"DeletionDate,omitempty"`
	Description           string   `json:"Description"`
	Enabled               bool     `json:"Enabled"`
	EncryptionAlgorithms  []string `json:"EncryptionAlgorithms,omitempty"`
	ExpirationModel       string   `json:"ExpirationModel,omitempty"`
	KeyID                 string   `json:"KeyId"`
	KeyManager            string   `json:"KeyManager"`
	KeySpec               string   `json:"KeySpec"`
	KeyState              string   `json:"KeyState"`
	KeyUsage              string   `json:"KeyUsage"`
	MultiRegion           bool     `json:"MultiRegion"`
	Origin                string   `json:"Origin"`
	SigningAlgorithms     []string `json:"SigningAlgorithms,omitempty"`
}

func (k *key) metadata() keyMetadata {
	m := keyMetadata{
		AWSAccountID: k.parts().Account, Arn: k.ARN, KeyID: k.id(), CreationDate: inSeconds(k.Created),
		Description: k.Description, Enabled: k.State == stateEnabled, KeyManager: "CUSTOMER",
		KeySpec: k.Spec, CustomerMasterKeySpec: k.Spec, KeyState: k.State, KeyUsage: k.Usage, Origin: k.Origin,
		EncryptionAlgorithms: k.encryptionAlgorithms(),
	}
	if k.Usage == usageSign {
		m.SigningAlgorithms = []string{
			"RSASSA_PKCS1_V1_5_SHA_256", "RSASSA_PKCS1_V1_5_SHA_384", "RSASSA_PKCS1_V1_5_SHA_512",
			"RSASSA_PSS_SHA_256", "RSASSA_PSS_SHA_384", "RSASSA_PSS_SHA_512",
		}
	}
	if k.Deletion != nil {
		at := inSeconds(*k.Deletion)
		m.DeletionDate = &at
	}
	if k.Origin == originExternal && k.State != statePendingImport && len(k.Backing) > 0 {
		m.ExpirationModel = "KEY_MATERIAL_DOES_NOT_EXPIRE"
	}
	return m
}

func (k *key) encryptionAlgorithms() []string {
	switch {
	case k.Usage != usageEncrypt:
		return nil
	case k.Spec == specSymmetric:
		return []string{specSymmetric}
	}
	return []string{oaepSHA1, oaepSHA256}
}

// rsaBits are the RSA specs.
func rsaBits(spec string) int {
	return map[string]int{"RSA_2048": 2048, "RSA_3072": 3072, "RSA_4096": 4096}[spec]
}

type createKeyInput struct {
	Description                    string
	KeySpec, CustomerMasterKeySpec string
	KeyUsage, Origin               string
	MultiRegion                    bool
	Policy                         *string
	BypassPolicyLockoutSafetyCheck bool
}

func (in *createKeyInput) normalize() error {
	if in.KeySpec == "" {
		in.KeySpec = in.CustomerMasterKeySpec
	}
	var c constraints
	c.oneOf("keySpec", in.KeySpec, "RSA_2048", "RSA_3072", "RSA_4096", "SYMMETRIC_DEFAULT", "ECC_NIST_P256", "ECC_NIST_P384",
		"ECC_NIST_P521", "ECC_SECG_P256K1", "HMAC_224", "HMAC_256", "HMAC_384", "HMAC_512", "SM2")
	c.oneOf("keyUsage", in.KeyUsage, usageEncrypt, usageSign, "GENERATE_VERIFY_MAC", "KEY_AGREEMENT")
	c.oneOf("origin", in.Origin, originKMS, originExternal, "AWS_CLOUDHSM", "EXTERNAL_KEY_STORE")
	c.text("description", &in.Description, 0, 8192)
	if err := c.err(); err != nil {
		return err
	}
	if in.KeySpec == "" {
		in.KeySpec = specSymmetric
	}
	if in.Origin == "" {
		in.Origin = originKMS
	}
	return in.checkUsage()
}

func (in *createKeyInput) checkUsage() error {
	symmetric := in.KeySpec == specSymmetric
	switch {
	case symmetric && in.KeyUsage == "":
		in.KeyUsage = usageEncrypt
	case in.KeyUsage == "":
		return invalid("You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.")
	case symmetric && in.KeyUsage != usageEncrypt:
		return invalid("KeyUsage %s is not compatible with KeySpec %s", in.KeyUsage, in.KeySpec)
	}
	if in.MultiRegion || !symmetric && (rsaBits(in.KeySpec) == 0 || in.Origin != originKMS) ||
		in.Origin != originKMS && in.Origin != originExternal || in.KeyUsage != usageEncrypt && in.KeyUsage != usageSign {
		return refuse("UnsupportedOperationException", "This kind of key is not emulated: %s %s %s", in.KeySpec, in.KeyUsage, in.Origin)
	}
	return nil
}

func (s *Server) createKey(rq *request, in createKeyInput) (any, error) {
	if err := in.normalize(); err != nil {
		return nil, err
	}
	if err := s.st.authorizeAccount(rq.caller, "CreateKey"); err != nil {
		return nil, err
	}
	k, err := newKey(rq, in)
	if err != nil {
		return nil, err
	}
	if err := s.st.checkPolicy(rq, k, k.Policy, in.BypassPolicyLockoutSafetyCheck); err != nil {
		return nil, err
	}
	rq.call.Key = k.ARN
	s.st.Keys[k.ARN] = k
	if err := s.persist(); err != nil {
		return nil, err
	}
	return map[string]any{"KeyMetadata": k.metadata()}, nil
}

func newKey(rq *request, in createKeyInput) (*key, error) {
	account := rq.principal.Account
	arn := aws.ARN{Partition: "aws", Service: service, Region: rq.region, Account: account, Resource: "key/" + aws.NewUUID()}
	k := &key{
		ARN: arn.String(), Description: in.Description, Spec: in.KeySpec, Usage: in.KeyUsage, Origin: in.Origin,
		State: stateEnabled, Created: rq.now, Policy: defaultPolicy(account),
	}
	if in.Policy != nil {
		k.Policy = *in.Policy
	}
	switch {
	case in.Origin == originExternal:
		k.State = statePendingImport
	case in.KeySpec == specSymmetric:
		k.addBacking()
	default:
		private, err := rsa.GenerateKey(rand.Reader, rsaBits(in.KeySpec))
		if err != nil {
			return nil, fmt.Errorf("generate RSA key: %w", err)
		}
		if k.Private, err = x509.MarshalPKCS8PrivateKey(private); err != nil {
			return nil, fmt.Errorf("encode RSA key: %w", err)
		}
	}
	return k, nil
}

// addBacking gives the key new material. Blobs name the version that sealed
// them, so the older ones stay readable.
func (k *key) addBacking() {
	material := make([]byte, 32)
	_, _ = rand.Read(material) // never fails: it ends the process instead
	k.Backing = append(k.Backing, material)
}

type keyInput struct {
	KeyID *string `json:"KeyId"`
}

func (s *Server) describeKey(rq *request, in struct {
	keyInput
	GrantTokens []string
},
) (any, error) {
	var c constraints
	c.text("keyId", in.KeyID, 1, maxKeyID)
	c.grantTokens(in.GrantTokens)
	if err := c.err(); err != nil {
		return nil, err
	}
	k, err := s.st.find(rq, *in.KeyID, true, access{action: "DescribeKey"})
	if err != nil {
		return nil, err
	}
	return map[string]any{"KeyMetadata": k.metadata()}, nil
}

func (s *Server) enableKey(rq *request, in keyInput) (any, error) {
	return nil, s.changeKey(rq, in.KeyID, "EnableKey", func(k *key) { k.State = stateEnabled })
}

func (s *Server) disableKey(rq *request, in keyInput) (any, error) {
	return nil, s.changeKey(rq, in.KeyID, "DisableKey", func(k *key) { k.State = stateDisabled })
}

func (s *Server) changeKey(rq *request, keyID *string, action string, change func(*key)) error {
	k, err := s.st.findOwn(rq, keyID, action)
	if err != nil {
		return err
	}
	change(k)
	return s.persist()
}

type scheduleInput struct {
	keyInput
	PendingWindowInDays *int
}

func (s *Server) scheduleKeyDeletion(rq *request, in scheduleInput) (any, error) {
	if in.PendingWindowInDays == nil {
		days := 30
		in.PendingWindowInDays = &days
	}
	var c constraints
	c.number("pendingWindowInDays", in.PendingWindowInDays, 7, 30)
	if err := c.err(); err != nil {
		return nil, err
	}
	k, err := s.st.findOwn(rq, in.KeyID, "ScheduleKeyDeletion")
	if err != nil {
		return nil, err
	}
	k.scheduleDeletion(rq.now, *in.PendingWindowInDays)
	at := inSeconds(*k.Deletion)
	out := map[string]any{"KeyId": k.ARN, "DeletionDate": at, "KeyState": k.State, "PendingWindowInDays": k.Window}
	return out, s.persist()
}

func (k *key) scheduleDeletion(now time.Time, days int) {
	at := now.AddDate(0, 0, days)
	k.State, k.Deletion, k.Window = statePendingDeletion, &at, days
}

// cancelKeyDeletion leaves the key disabled, as AWS does (a key that waits for
// its material goes on waiting).
func (s *Server) cancelKeyDeletion(rq *request, in keyInput) (any, error) {
	k, err := s.st.findOwn(rq, in.KeyID, "CancelKeyDeletion")
	if err != nil {
		return nil, err
	}
	k.cancelDeletion()
	return map[string]any{"KeyId": k.ARN}, s.persist()
}

func (k *key) cancelDeletion() {
	k.State, k.Deletion, k.Window = stateDisabled, nil, 0
	if k.Origin == originExternal && len(k.Backing) == 0 {
		k.State = statePendingImport
	}
}

func (s *Server) listKeys(rq *request, in page) (any, error) {
	if err := s.st.authorizeAccount(rq.caller, "ListKeys"); err != nil {
		return nil, err
	}
	var own []*key
	for _, arn := range slices.Sorted(maps.Keys(s.st.Keys)) {
		if k := s.st.Keys[arn]; isHere(rq, k.ARN) {
			own = append(own, k)
		}
	}
	shown, out, err := paginate(in, own, func(k *key) string { return k.ARN })
	if err != nil {
		return nil, err
	}
	keys := []map[string]string{}
	for _, k := range shown {
		keys = append(keys, map[string]string{"KeyArn": k.ARN, "KeyId": k.id()})
	}
	out["Keys"] = keys
	return out, nil
}

func isHere(rq *request, arn string) bool {
	a, _ := aws.ParseARN(arn)
	return a.Account == rq.principal.Account && a.Region == rq.region
}
