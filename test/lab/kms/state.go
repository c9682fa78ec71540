// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"strings"
	"time"

	"github.com/volseal/volseal/test/lab/aws"
)

// The states, specs, usages and origins that are emulated, in KMS's words.
const (
	stateEnabled         = "Enabled"
	stateDisabled        = "Disabled"
	statePendingDeletion = "PendingDeletion"
	statePendingImport   = "PendingImport"

	specSymmetric = "SYMMETRIC_DEFAULT"

	usageEncrypt = "ENCRYPT_DECRYPT"
	usageSign    = "SIGN_VERIFY"

	originKMS      = "AWS_KMS"
	originExternal = "EXTERNAL"
)

// state is all that the emulator remembers; its JSON is the file in Options.Dir.
type state struct {
	Version  int               `json:"version"`
	Keys     map[string]*key   `json:"keys"`    // by key ARN; a deleted key is gone
	Aliases  map[string]*alias `json:"aliases"` // by alias ARN
	Identity map[string]string `json:"identity_policies"`
}

type key struct {
	ARN         string     `json:"arn"`
	Description string     `json:"description,omitempty"`
	Spec        string     `json:"spec"`
	Usage       string     `json:"usage"`
	Origin      string     `json:"origin"`
	State       string     `json:"state"`
	Created     time.Time  `json:"created"`
	Deletion    *time.Time `json:"deletion,omitempty"` // when a key pending deletion goes
	Window      int        `json:"window,omitempty"`   // days given to ScheduleKeyDeletion
	Backing     [][]byte   `json:"backing,omitempty"`  // 32 bytes each, by version; of a symmetric key
	Private     []byte     `json:"private,omitempty"`  // PKCS #8; of an RSA key
	Policy      string     `json:"policy"`
	Grants      []*grant   `json:"grants,omitempty"`
}

type alias struct {
	ARN     string    `json:"arn"`
	Target  string    `json:"target"` // key ARN
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
}

type grant struct {
	ID            string            `json:"id"`
	Token         string            `json:"token"`
	Name          string            `json:"name,omitempty"`
	Grantee       string            `json:"grantee"`
	Retiring      string            `json:"retiring,omitempty"`
	Issuer        string            `json:"issuer"` // account that made it
	Operations    []string          `json:"operations"`
	ContextEquals map[string]string `json:"context_equals,omitempty"`
	ContextSubset map[string]string `json:"context_subset,omitempty"`
	Created       time.Time         `json:"created"`
}

func newState() *state {
	return &state{Version: 1, Keys: map[string]*key{}, Aliases: map[string]*alias{}, Identity: map[string]string{}}
}

func (k *key) parts() aws.ARN {
	a, _ := aws.ParseARN(k.ARN)
	return a
}

// id is the UUID at the end of the key's ARN.
func (k *key) id() string { return strings.TrimPrefix(k.parts().Resource, "key/") }

// name is "alias/…".
func (a *alias) name() string {
	arn, _ := aws.ParseARN(a.ARN)
	return arn.Resource
}

// expire drops the keys whose waiting period has passed. It reports whether
// there were any.
func (st *state) expire(now time.Time) bool {
	changed := false
	for arn, k := range st.Keys {
		if k.Deletion != nil && !now.Before(*k.Deletion) {
			st.drop(arn)
			changed = true
		}
	}
	return changed
}

// drop deletes a key for good, with its aliases and grants.
func (st *state) drop(keyARN string) {
	delete(st.Keys, keyARN)
	for arn, a := range st.Aliases {
		if a.Target == keyARN {
			delete(st.Aliases, arn)
		}
	}
}
