// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/volseal/volseal/test/lab/aws"
)

var aliasForm = regexp.MustCompile(`^alias/[a-zA-Z0-9/_-]+$`)

type aliasInput struct {
	AliasName   *string
	TargetKeyID *string `json:"TargetKeyId"`
}

// aliasARN checks the name and makes it the ARN of the caller's account and
// region, where aliases live.
func (in aliasInput) aliasARN(rq *request) (string, error) {
	var c constraints
	c.text("aliasName", in.AliasName, 1, 256)
	if err := c.err(); err != nil {
		return "", err
	}
	name := *in.AliasName
	switch {
	case !strings.HasPrefix(name, "alias/"):
		return "", invalid("Alias must start with the prefix \"alias/\". Please see https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html")
	case strings.HasPrefix(name, "alias/aws/"):
		return "", refuse("NotAuthorizedException", "")
	case !aliasForm.MatchString(name):
		return "", refuse("InvalidAliasNameException", "Alias contains invalid characters.")
	}
	return aws.ARN{Partition: "aws", Service: service, Region: rq.region, Account: rq.principal.Account, Resource: name}.String(), nil
}

func (s *Server) createAlias(rq *request, in aliasInput) (any, error) {
	arn, err := in.aliasARN(rq)
	if err != nil {
		return nil, err
	}
	k, err := s.st.findOwn(rq, in.TargetKeyID, "CreateAlias")
	if err != nil {
		return nil, err
	}
	if _, exists := s.st.Aliases[arn]; exists {
		return nil, refuse("AlreadyExistsException", "An alias with the name %s already exists", arn)
	}
	s.st.Aliases[arn] = &alias{ARN: arn, Target: k.ARN, Created: rq.now, Updated: rq.now}
	return nil, s.persist()
}

func (s *Server) updateAlias(rq *request, in aliasInput) (any, error) {
	arn, err := in.aliasARN(rq)
	if err != nil {
		return nil, err
	}
	found, ok := s.st.Aliases[arn]
	if !ok {
		return nil, notFound("Alias %s is not found.", arn)
	}
	k, err := s.st.findOwn(rq, in.TargetKeyID, "UpdateAlias")
	if err != nil {
		return nil, err
	}
	found.Target, found.Updated = k.ARN, rq.now
	return nil, s.persist()
}

func (s *Server) deleteAlias(rq *request, in aliasInput) (any, error) {
	arn, err := in.aliasARN(rq)
	if err != nil {
		return nil, err
	}
	found, ok := s.st.Aliases[arn]
	if !ok {
		return nil, notFound("Alias %s is not found.", arn)
	}
	if _, err := s.st.findOwn(rq, &found.Target, "DeleteAlias"); err != nil {
		return nil, err
	}
	delete(s.st.Aliases, arn)
	return nil, s.persist()
}

type listAliasesInput struct {
	page
	KeyID *string `json:"KeyId"`
}

func (s *Server) listAliases(rq *request, in listAliasesInput) (any, error) {
	if err := s.st.authorizeAccount(rq.caller, "ListAliases"); err != nil {
		return nil, err
	}
	target := ""
	if in.KeyID != nil {
		k, err := s.st.findOwn(rq, in.KeyID, "ListAliases")
		if err != nil {
			return nil, err
		}
		target = k.ARN
	}
	var own []*alias
	for _, arn := range slices.Sorted(maps.Keys(s.st.Aliases)) {
		if a := s.st.Aliases[arn]; isHere(rq, arn) && (target == "" || a.Target == target) {
			own = append(own, a)
		}
	}
	shown, out, err := paginate(in.page, own, func(a *alias) string { return a.ARN })
	if err != nil {
		return nil, err
	}
	list := []map[string]any{}
	for _, a := range shown {
		list = append(list, a.describe(s.st))
	}
	out["Aliases"] = list
	return out, nil
}

func (a *alias) describe(st *state) map[string]any {
	return map[string]any{
		"AliasArn": a.ARN, "AliasName": a.name(), "TargetKeyId": st.Keys[a.Target].id(),
		"CreationDate": inSeconds(a.Created), "LastUpdatedDate": inSeconds(a.Updated),
	}
}
