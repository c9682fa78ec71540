// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/volseal/volseal/test/lab/aws"
)

// document is a policy: a key's (with principals) or a principal's (without).
type document struct {
	Version   string     `json:"Version"`
	ID        string     `json:"Id,omitempty"`
	Statement statements `json:"Statement"`
}

type statement struct {
	Sid          string                     `json:"Sid,omitempty"`
	Effect       string                     `json:"Effect"`
	Principal    *principals                `json:"Principal,omitempty"`
	NotPrincipal *principals                `json:"NotPrincipal,omitempty"`
	Action       stringList                 `json:"Action,omitempty"`
	NotAction    stringList                 `json:"NotAction,omitempty"`
	Resource     stringList                 `json:"Resource,omitempty"`
	NotResource  stringList                 `json:"NotResource,omitempty"`
	Condition    map[string]conditionValues `json:"Condition,omitempty"`
}

// conditionValues are the wanted values by condition key.
type conditionValues map[string]stringList

// question is one request for access, as policies see it.
type question struct {
	principal aws.Principal
	action    string              // kms:Decrypt
	resource  string              // key ARN, or "*"
	facts     map[string][]string // condition keys in lower case
}

// verdict is what one policy says to a question.
type verdict struct {
	denied    bool
	allowed   bool // the principal itself is allowed
	delegated bool // the principal's account is: its own policies then decide
}

func (d document) evaluate(q question) verdict {
	var v verdict
	for _, s := range d.Statement {
		match := s.matches(q)
		switch {
		case match == matchNone:
		case s.Effect == "Deny":
			v.denied = true
		case match == matchPrincipal:
			v.allowed = true
		default:
			v.delegated = true
		}
	}
	return v
}

type match int

const (
	matchNone match = iota
	matchAccount
	matchPrincipal
)

func (s statement) matches(q question) match {
	if !s.coversAction(q.action) || !s.coversResource(q.resource) || !s.conditionsHold(q.facts) {
		return matchNone
	}
	switch {
	case s.Principal != nil:
		return s.Principal.match(q.principal)
	case s.NotPrincipal != nil && s.NotPrincipal.match(q.principal) != matchNone:
		return matchNone
	}
	return matchPrincipal // an identity policy, or everybody but
}

func (s statement) coversAction(action string) bool {
	covers := func(pattern string) bool { return wildcard(strings.ToLower(pattern), strings.ToLower(action)) }
	if len(s.NotAction) > 0 {
		return !slices.ContainsFunc(s.NotAction, covers)
	}
	return slices.ContainsFunc(s.Action, covers)
}

func (s statement) coversResource(resource string) bool {
	covers := func(pattern string) bool { return wildcard(pattern, resource) }
	if len(s.NotResource) > 0 {
		return !slices.ContainsFunc(s.NotResource, covers)
	}
	return slices.ContainsFunc(s.Resource, covers)
}

// wildcard reports whether s matches a pattern in which * is any run of
// characters and ? is any one.
func wildcard(pattern, s string) bool {
	star, retry := -1, 0
	p, i := 0, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, retry = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p, i = p+1, i+1
		case star >= 0:
			retry++
			p, i = star+1, retry
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// principals is the Principal element: "*", or principals by kind.
type principals struct {
	everybody bool
	byKind    map[string]stringList
}

func (p *principals) match(who aws.Principal) match {
	best := matchNone
	if p.everybody {
		best = matchPrincipal
	}
	for _, name := range p.byKind["AWS"] {
		best = max(best, matchName(name, who))
	}
	return best
}

// matchName compares a principal's name in a policy or a grant with a caller.
// An account, by its id or its root, stands for all of its principals.
func matchName(name string, who aws.Principal) match {
	role, isRole := strings.CutPrefix(name, "arn:aws:iam::"+who.Account+":role/")
	switch {
	case name == "*", name == who.ARN && !who.IsRoot():
		return matchPrincipal
	case isRole && who.Role != "" && role[strings.LastIndex(role, "/")+1:] == who.Role:
		return matchPrincipal
	case name == who.Account, name == aws.Root(who.Account).ARN:
		return matchAccount
	}
	return matchNone
}

func (p *principals) UnmarshalJSON(b []byte) error {
	var name string
	if json.Unmarshal(b, &name) == nil {
		if name != "*" {
			return fmt.Errorf("principal %q is neither * nor an object", name)
		}
		p.everybody = true
		return nil
	}
	if err := json.Unmarshal(b, &p.byKind); err != nil {
		return fmt.Errorf("decode principal: %w", err)
	}
	for kind := range p.byKind {
		if !slices.Contains([]string{"AWS", "Service", "Federated", "CanonicalUser"}, kind) {
			return fmt.Errorf("unknown kind of principal %q", kind)
		}
	}
	return nil
}

func (p *principals) MarshalJSON() ([]byte, error) {
	if p.everybody {
		return json.Marshal("*")
	}
	return json.Marshal(p.byKind)
}

// stringList is a string or several.
type stringList []string

func (l *stringList) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] != '[' {
		b = slices.Concat([]byte{'['}, b, []byte{']'})
	}
	var values []any
	if err := json.Unmarshal(b, &values); err != nil {
		return fmt.Errorf("decode strings: %w", err)
	}
	*l = nil
	for _, v := range values {
		switch v := v.(type) {
		case string:
			*l = append(*l, v)
		case bool, float64: // conditions may have them unquoted
			*l = append(*l, fmt.Sprint(v))
		default:
			return fmt.Errorf("%v is not a string", v)
		}
	}
	return nil
}

// MarshalJSON writes a list of one as AWS does, without brackets.
func (l stringList) MarshalJSON() ([]byte, error) {
	if len(l) == 1 {
		return json.Marshal(l[0])
	}
	return json.Marshal([]string(l))
}

// statements is a statement or several.
type statements []statement

func (l *statements) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '{' {
		b = slices.Concat([]byte{'['}, b, []byte{']'})
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode((*[]statement)(l))
}

// parsePolicy reads a policy strictly: what the emulator does not understand it
// refuses, for a condition ignored would be an access granted.
func parsePolicy(text string, forKey bool) (document, error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	var doc document
	if err := d.Decode(&doc); err != nil {
		return document{}, malformedPolicy("The policy is not valid JSON of the policy grammar: %v", err)
	}
	if doc.Version != "2012-10-17" && doc.Version != "2008-10-17" && doc.Version != "" {
		return document{}, malformedPolicy("Unknown policy version %q", doc.Version)
	}
	if len(doc.Statement) == 0 {
		return document{}, malformedPolicy("The policy has no statement")
	}
	for _, s := range doc.Statement {
		if err := s.check(forKey); err != nil {
			return document{}, err
		}
	}
	return doc, nil
}

func (s statement) check(forKey bool) error {
	hasPrincipal := s.Principal != nil || s.NotPrincipal != nil
	switch {
	case s.Effect != "Allow" && s.Effect != "Deny":
		return malformedPolicy("Statement %q: Effect must be Allow or Deny", s.Sid)
	case forKey != hasPrincipal, s.Principal != nil && s.NotPrincipal != nil:
		return malformedPolicy("Statement %q: a key policy names principals, an identity policy does not", s.Sid)
	case s.NotPrincipal != nil && s.Effect == "Allow":
		return malformedPolicy("Statement %q: NotPrincipal goes only with Deny", s.Sid)
	case (len(s.Action) > 0) == (len(s.NotAction) > 0):
		return malformedPolicy("Statement %q: want one of Action and NotAction", s.Sid)
	case (len(s.Resource) > 0) == (len(s.NotResource) > 0):
		return malformedPolicy("Statement %q: want one of Resource and NotResource", s.Sid)
	}
	return s.checkConditions()
}

func malformedPolicy(format string, args ...any) error {
	return refuse("MalformedPolicyDocumentException", format, args...)
}
