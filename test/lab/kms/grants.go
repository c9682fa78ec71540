// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"maps"
	"slices"
	"strings"

	"github.com/volseal/volseal/test/lab/aws"
)

// grantOperations are what a grant can allow on a key that encrypts.
var grantOperations = [...]string{
	"Decrypt", "Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo",
	"CreateGrant", "RetireGrant", "DescribeKey", "GetPublicKey", "Sign", "Verify", "GenerateDataKeyPair",
	"GenerateDataKeyPairWithoutPlaintext", "GenerateMac", "VerifyMac", "DeriveSharedSecret",
}

type grantConstraints struct {
	EncryptionContextEquals map[string]string `json:",omitempty"`
	EncryptionContextSubset map[string]string `json:",omitempty"`
}

type createGrantInput struct {
	keyInput
	GranteePrincipal  *string
	RetiringPrincipal string
	Operations        []string
	Constraints       *grantConstraints
	GrantTokens       []string
	Name              string
	DryRun            bool
}

func (in createGrantInput) check() error {
	var c constraints
	c.text("keyId", in.KeyID, 1, maxKeyID)
	c.text("granteePrincipal", in.GranteePrincipal, 1, 256)
	c.text("name", &in.Name, 0, 256)
	c.grantTokens(in.GrantTokens)
	if len(in.Operations) == 0 {
		c.fail(" null", "operations", "not be null")
	}
	for _, o := range in.Operations {
		c.oneOf("operations", o, grantOperations[:]...)
	}
	if err := c.err(); err != nil {
		return err
	}
	for _, principal := range []string{*in.GranteePrincipal, in.RetiringPrincipal} {
		if arn, ok := aws.ParseARN(principal); principal != "" && (!ok || arn.Service != "iam" && arn.Service != "sts") {
			return refuse("InvalidArnException", "ARN does not refer to a valid principal")
		}
	}
	return nil
}

// access is the right to make this grant. Its context constraint counts as the
// request's encryption context.
func (in createGrantInput) access() access {
	a := access{action: "CreateGrant", facts: map[string][]string{
		"kms:granteeprincipal": {*in.GranteePrincipal},
		"kms:grantoperations":  in.Operations,
	}}
	if in.RetiringPrincipal != "" {
		a.facts["kms:retiringprincipal"] = []string{in.RetiringPrincipal}
	}
	switch c := in.Constraints; {
	case c == nil:
	case c.EncryptionContextEquals != nil:
		a.context, a.facts["kms:grantconstrainttype"] = c.EncryptionContextEquals, []string{"EncryptionContextEquals"}
	case c.EncryptionContextSubset != nil:
		a.context, a.facts["kms:grantconstrainttype"] = c.EncryptionContextSubset, []string{"EncryptionContextSubset"}
	}
	return a
}

func (s *Server) createGrant(rq *request, in createGrantInput) (any, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	return s.addGrant(rq, in, in.access())
}

func (s *Server) addGrant(rq *request, in createGrantInput, a access) (any, error) {
	rq.call.DryRun, rq.call.Context = in.DryRun, a.context
	if err := s.st.checkGrantTokens(in.GrantTokens); err != nil {
		return nil, err
	}
	k, err := s.st.find(rq, *in.KeyID, false, a)
	if err != nil {
		return nil, err
	}
	if k.Spec != specSymmetric && in.Constraints != nil {
		return nil, invalid("Grant constraints are not supported on an asymmetric key.")
	}
	if in.DryRun {
		return nil, wouldSucceed()
	}
	g, isNew := k.grantFor(rq, in)
	if isNew {
		k.Grants = append(k.Grants, g)
		if err := s.persist(); err != nil {
			return nil, err
		}
	}
	return map[string]string{"GrantId": g.ID, "GrantToken": g.Token}, nil
}

// grantFor is the grant asked for: one that is there already where name and all
// else agree, so that a repeated request makes no second one.
func (k *key) grantFor(rq *request, in createGrantInput) (g *grant, isNew bool) {
	g = newGrant(rq, in)
	for _, old := range k.Grants {
		same := old.Name == g.Name && old.Grantee == g.Grantee && old.Retiring == g.Retiring && slices.Equal(old.Operations, g.Operations) &&
			maps.Equal(old.ContextEquals, g.ContextEquals) && maps.Equal(old.ContextSubset, g.ContextSubset)
		if same && g.Name != "" {
			return old, false
		}
	}
	return g, true
}

func newGrant(rq *request, in createGrantInput) *grant {
	random := make([]byte, 32+96)
	_, _ = rand.Read(random) // never fails: it ends the process instead
	g := &grant{
		ID: hex.EncodeToString(random[:32]), Token: base64.StdEncoding.EncodeToString(random[32:]),
		Name: in.Name, Grantee: *in.GranteePrincipal, Retiring: in.RetiringPrincipal,
		Issuer: aws.Root(rq.principal.Account).ARN, Operations: slices.Clone(in.Operations), Created: rq.now,
	}
	slices.Sort(g.Operations)
	if in.Constraints != nil {
		g.ContextEquals, g.ContextSubset = in.Constraints.EncryptionContextEquals, in.Constraints.EncryptionContextSubset
	}
	return g
}

// checkGrantTokens wants tokens of living grants. They lend no right beyond
// their grant's, which is in force at once here.
func (st *state) checkGrantTokens(tokens []string) error {
	for _, token := range tokens {
		if k, _ := st.grantByToken(token); k == nil {
			return refuse("InvalidGrantTokenException", "Invalid grant token")
		}
	}
	return nil
}

func (st *state) grantByToken(token string) (*key, *grant) {
	for _, k := range st.Keys {
		for _, g := range k.Grants {
			if g.Token == token {
				return k, g
			}
		}
	}
	return nil, nil
}

type listGrantsInput struct {
	page
	keyInput
	GrantID          string `json:"GrantId"`
	GranteePrincipal string
}

func (s *Server) listGrants(rq *request, in listGrantsInput) (any, error) {
	var c constraints
	c.text("keyId", in.KeyID, 1, maxKeyID)
	if err := c.err(); err != nil {
		return nil, err
	}
	k, err := s.st.find(rq, *in.KeyID, false, access{action: "ListGrants"})
	if err != nil {
		return nil, err
	}
	var matching []*grant
	for _, g := range k.Grants {
		if (in.GrantID == "" || in.GrantID == g.ID) && (in.GranteePrincipal == "" || in.GranteePrincipal == g.Grantee) {
			matching = append(matching, g)
		}
	}
	slices.SortFunc(matching, func(a, b *grant) int { return strings.Compare(a.ID, b.ID) })
	shown, out, err := paginate(in.page, matching, func(g *grant) string { return g.ID })
	if err != nil {
		return nil, err
	}
	list := []map[string]any{}
	for _, g := range shown {
		list = append(list, g.describe(k))
	}
	out["Grants"] = list
	return out, nil
}

func (g *grant) describe(k *key) map[string]any {
	d := map[string]any{
		"KeyId": k.ARN, "GrantId": g.ID, "Name": g.Name, "CreationDate": inSeconds(g.Created), "GranteePrincipal": g.Grantee,
		"IssuingAccount": g.Issuer, "Operations": g.Operations,
	}
	if g.Retiring != "" {
		d["RetiringPrincipal"] = g.Retiring
	}
	if g.ContextEquals != nil || g.ContextSubset != nil {
		d["Constraints"] = grantConstraints{g.ContextEquals, g.ContextSubset}
	}
	return d
}

type endGrantInput struct {
	keyInput
	GrantID    *string `json:"GrantId"`
	GrantToken *string
	DryRun     bool
}

func (in endGrantInput) checkIDs() error {
	var c constraints
	c.text("keyId", in.KeyID, 1, maxKeyID)
	c.text("grantId", in.GrantID, 1, 128)
	return c.err()
}

func (s *Server) revokeGrant(rq *request, in endGrantInput) (any, error) {
	rq.call.DryRun = in.DryRun
	if err := in.checkIDs(); err != nil {
		return nil, err
	}
	k, err := s.st.find(rq, *in.KeyID, false, access{action: "RevokeGrant"})
	if err != nil {
		return nil, err
	}
	return nil, s.endGrant(k, *in.GrantID, in.DryRun)
}

func (s *Server) endGrant(k *key, grantID string, dryRun bool) error {
	at := slices.IndexFunc(k.Grants, func(g *grant) bool { return g.ID == grantID })
	switch {
	case at < 0:
		return notFound("Grant ID %s not found", grantID)
	case dryRun:
		return wouldSucceed()
	}
	k.Grants = slices.Delete(k.Grants, at, at+1)
	return s.persist()
}

// retireGrant needs no right on the key from those whom the grant itself names.
func (s *Server) retireGrant(rq *request, in endGrantInput) (any, error) {
	rq.call.DryRun = in.DryRun
	k, g, err := s.grantToRetire(rq, in)
	if err != nil {
		return nil, err
	}
	rq.call.Key = k.ARN
	mayRetire := matchName(g.Retiring, rq.principal) != matchNone ||
		matchName(g.Grantee, rq.principal) != matchNone && slices.Contains(g.Operations, "RetireGrant")
	if !mayRetire {
		ungranted := *k // a grant lets its grantee retire itself, not another
		ungranted.Grants = nil
		if err := s.st.authorize(rq.caller, &ungranted, access{action: "RetireGrant"}); err != nil {
			return nil, err
		}
	}
	return nil, s.endGrant(k, g.ID, in.DryRun)
}

func (s *Server) grantToRetire(rq *request, in endGrantInput) (*key, *grant, error) {
	if in.GrantToken != nil {
		k, g := s.st.grantByToken(*in.GrantToken)
		if k == nil {
			return nil, nil, refuse("InvalidGrantTokenException", "Invalid grant token")
		}
		return k, g, nil
	}
	if err := in.checkIDs(); err != nil {
		return nil, nil, err
	}
	k, err := s.st.resolve(rq, *in.KeyID, false, access{action: "RetireGrant"})
	if err != nil {
		return nil, nil, err
	}
	for _, g := range k.Grants {
		if g.ID == *in.GrantID {
			return k, g, nil
		}
	}
	return nil, nil, refuse("InvalidGrantIdException", "Invalid grant ID %s", *in.GrantID)
}
