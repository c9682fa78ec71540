// SPDX-License-Identifier: Apache-2.0

// Package keypolicy holds the two statements by which a customer shares a CMK
// with the account that runs their databases. They are text for the customer to
// paste: nothing here asks AWS, or judges a policy that is there already.
package keypolicy

import (
	"fmt"
	"regexp"
	"slices"
)

// Statement is one of a key policy's, in the order in which it is printed.
type Statement struct {
	Sid       string     `json:"Sid"`
	Effect    string     `json:"Effect"`
	Principal Principal  `json:"Principal"`
	Action    []string   `json:"Action"`
	Resource  string     `json:"Resource"`
	Condition *Condition `json:"Condition,omitempty"`
}

// Principal is who is allowed.
type Principal struct {
	AWS string `json:"AWS"`
}

// Condition is the one that is needed here.
type Condition struct {
	Bool ForAWSResource `json:"Bool"`
}

// ForAWSResource holds for services such as EBS alone: nobody can make a grant
// to himself.
type ForAWSResource struct {
	Value string `json:"kms:GrantIsForAWSResource"` // true
}

// Statements are the two of the principal, as Parse returns it: use of the key,
// and grants by which EBS uses it for a volume that is attached.
func Statements(principal string) []Statement {
	return []Statement{
		{
			Sid: "Allow use of the key", Effect: "Allow", Principal: Principal{principal}, Resource: "*",
			Action: []string{"kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"},
		},
		{
			Sid: "Allow attachment of persistent resources", Effect: "Allow", Principal: Principal{principal}, Resource: "*",
			Action:    []string{"kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant"},
			Condition: &Condition{ForAWSResource{"true"}},
		},
	}
}

// Lacking are those of the principal's statements that a policy cannot hold in
// full, by the actions that it does not allow. They are whole, each to be put in
// the place of the one with its Sid: a second statement with the missing action
// alone would do the same, and leave a policy that nobody can compare with the
// documented one.
//
// Nobody but a service can try what the second statement allows. It is taken to
// lack where the first allows nothing at all: then the key was never shared.
func Lacking(principal string, denied, tried []string) []Statement {
	all := Statements(principal)
	lacking := slices.DeleteFunc(slices.Clone(all), func(s Statement) bool {
		return !slices.ContainsFunc(denied, func(action string) bool { return slices.Contains(s.Action, action) })
	})
	if len(denied) > 0 && len(denied) == len(tried) {
		return all
	}
	return lacking
}

const partition = `(aws(?:-[a-z]{1,16}){0,3})`

var (
	account = regexp.MustCompile(`^[0-9]{12}$`)
	root    = regexp.MustCompile(`^arn:` + partition + `:iam::[0-9]{12}:root$`)
	role    = regexp.MustCompile(`^arn:` + partition + `:iam::[0-9]{12}:role/(?:[!-~]{1,510}/)?[A-Za-z0-9+=,.@_-]{1,64}$`)
	session = regexp.MustCompile(`^arn:` + partition + `:sts::[0-9]{12}:assumed-role/`)
)

// Account is the principal that stands for a whole account: its own policies
// then say who of it.
func Account(partition, id string) string { return fmt.Sprintf("arn:%s:iam::%s:root", partition, id) }

// Parse takes an account's number, the ARN of its root or that of a role, and
// returns the principal. What it refuses it explains.
func Parse(text string) (string, error) {
	switch {
	case account.MatchString(text):
		return Account("aws", text), nil
	case root.MatchString(text), role.MatchString(text):
		return text, nil
	case session.MatchString(text):
		return "", fmt.Errorf("%.128q is a session, which ends; name its role: arn:aws:iam::ACCOUNT:role/NAME", text)
	default:
		return "", fmt.Errorf("%.128q is neither an account of 12 digits, nor arn:aws:iam::ACCOUNT:root, nor arn:aws:iam::ACCOUNT:role/NAME", text)
	}
}
