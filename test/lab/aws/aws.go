// SPDX-License-Identifier: Apache-2.0

// Package aws holds what the lab's emulated AWS services share: who a caller is
// and how a signature proves it, the shape of an error on the wire, the log of
// requests served, and the faults a service is told to answer with. What a
// single service does (keys, volumes) does not belong here, and no product code
// may import it.
package aws

import "strings"

// The accounts of the emulated world: a customer who owns CMKs, and the platform
// whose hosts use them.
const (
	CustomerAccount = "111111111111"
	PlatformAccount = "916150859591"
)

// Error is what a service answers instead of a result: the exact AWS code and
// message, and the HTTP status they travel with.
type Error struct {
	Code    string
	Message string
	Status  int
}

// Error joins code and message the way the SDKs print them.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Principal is a proved caller.
type Principal struct {
	Account     string // twelve digits
	ARN         string // arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION, arn:aws:iam::ACCOUNT:user/NAME or …:root
	Role        string // role name; empty unless an assumed role
	SessionName string // empty unless an assumed role
}

// Root is the root user of an account, to whom every policy of the account yields.
func Root(account string) Principal {
	return Principal{Account: account, ARN: "arn:aws:iam::" + account + ":root"}
}

// AssumedRole is a session of a role; for an instance role the session is the instance id.
func AssumedRole(account, role, session string) Principal {
	return Principal{
		Account:     account,
		ARN:         "arn:aws:sts::" + account + ":assumed-role/" + role + "/" + session,
		Role:        role,
		SessionName: session,
	}
}

// RoleARN is the ARN of the role behind a session, which policies usually name
// instead of the session; empty for a principal that is no role.
func (p Principal) RoleARN() string {
	if p.Role == "" {
		return ""
	}
	return "arn:aws:iam::" + p.Account + ":role/" + p.Role
}

// IsRoot reports whether p is the root user of its account.
func (p Principal) IsRoot() bool { return p.ARN == Root(p.Account).ARN }

// ARN is an Amazon resource name in its six parts.
type ARN struct {
	Partition, Service, Region, Account, Resource string
}

// ParseARN splits an ARN; ok is false when s is not one.
func ParseARN(s string) (a ARN, ok bool) {
	parts := strings.SplitN(s, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" || parts[1] == "" || parts[2] == "" || parts[5] == "" {
		return ARN{}, false
	}
	return ARN{Partition: parts[1], Service: parts[2], Region: parts[3], Account: parts[4], Resource: parts[5]}, true
}

// String puts the parts together again.
func (a ARN) String() string {
	return strings.Join([]string{"arn", a.Partition, a.Service, a.Region, a.Account, a.Resource}, ":")
}
