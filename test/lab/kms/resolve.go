// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"regexp"
	"strings"

	"github.com/volseal/volseal/test/lab/aws"
)

// uuidForm is what a key id looks like. A multi-Region key's (mrk-…) is of a
// form AWS knows too, though no such key exists here.
var uuidForm = regexp.MustCompile(`^([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|mrk-[0-9a-f]{32})$`)

// resolve finds the key that a KeyId member names: a key ARN, a key id of the
// caller's account and region, and where alsoAlias, an alias name or ARN. It
// notes the ARN in the request's log line, also of a key that is not there. For
// a missing key of another account the error is that of a forbidden one, for
// access a.
func (st *state) resolve(rq *request, keyID string, alsoAlias bool, a access) (*key, error) {
	arn, err := st.keyARN(rq, keyID, alsoAlias, a)
	if err != nil {
		return nil, err
	}
	rq.call.Key = arn
	k, ok := st.Keys[arn]
	if !ok {
		return nil, missing(rq.caller, arn, a, "Key '%s' does not exist")
	}
	return k, nil
}

// keyARN turns the forms of a KeyId into a key ARN, without asking whether that
// key exists.
func (st *state) keyARN(rq *request, keyID string, alsoAlias bool, a access) (string, error) {
	here := aws.ARN{Partition: "aws", Service: service, Region: rq.region, Account: rq.principal.Account}
	arn, isARN := aws.ParseARN(keyID)
	switch {
	case !isARN && strings.HasPrefix(keyID, "arn:"):
		return "", refuse("InvalidArnException", "Invalid arn %s", keyID)
	case !isARN:
		arn = here
		arn.Resource = keyID
		if !strings.HasPrefix(keyID, "alias/") {
			arn.Resource = "key/" + keyID
		}
	case arn.Partition != here.Partition || arn.Service != here.Service:
		return "", refuse("InvalidArnException", "Invalid arn %s", keyID)
	case arn.Region != rq.region:
		return "", notFound("Invalid arn %s", arn.Region)
	}
	if isAlias := strings.HasPrefix(arn.Resource, "alias/"); isAlias && alsoAlias {
		return st.aliasTarget(rq.caller, arn.String(), a)
	}
	if id, isKey := strings.CutPrefix(arn.Resource, "key/"); !isKey || !uuidForm.MatchString(id) {
		return "", notFound("Invalid keyId '%s'", keyID)
	}
	return arn.String(), nil
}

func (st *state) aliasTarget(c caller, aliasARN string, a access) (string, error) {
	found, ok := st.Aliases[aliasARN]
	if !ok {
		return "", missing(c, aliasARN, a, "Alias %s is not found.")
	}
	return found.Target, nil
}

// missing is the answer about a key or alias that does not exist.
func missing(c caller, arn string, a access, format string) error {
	if owner, _ := aws.ParseARN(arn); owner.Account != c.principal.Account {
		return denyHidden(c, a)
	}
	return notFound(format, arn)
}

// find resolves a key, checks the caller's right to a on it, and then that its
// state permits: the order in which AWS answers.
func (st *state) find(rq *request, keyID string, alsoAlias bool, a access) (*key, error) {
	k, err := st.resolve(rq, keyID, alsoAlias, a)
	if err != nil {
		return nil, err
	}
	if err := st.authorize(rq.caller, k, a); err != nil {
		return nil, err
	}
	return k, k.stateAllows(a.action)
}

// findOwn is find for the operations that do not work across accounts, however
// generous the policy.
func (st *state) findOwn(rq *request, keyID *string, action string) (*key, error) {
	var c constraints
	c.text("keyId", keyID, 1, maxKeyID)
	if err := c.err(); err != nil {
		return nil, err
	}
	a := access{action: action}
	if arn, ok := aws.ParseARN(*keyID); ok && arn.Region == rq.region && arn.Account != rq.principal.Account {
		rq.call.Key = *keyID
		return nil, denyHidden(rq.caller, a)
	}
	return st.find(rq, *keyID, false, a)
}

// stateAllows is the key state table of the developer guide.
func (k *key) stateAllows(action string) error {
	switch action {
	case "DescribeKey", "GetKeyPolicy", "PutKeyPolicy", "ListKeyPolicies", "ListGrants", "RevokeGrant", "RetireGrant", "ListAliases", "DeleteAlias":
		return nil
	case "CancelKeyDeletion":
		if k.State != statePendingDeletion {
			return refuse("KMSInvalidStateException", "%s is not pending deletion (or pending replica deletion).", k.ARN)
		}
		return nil
	}
	managing := action == "EnableKey" || action == "DisableKey"
	administering := action == "CreateAlias" || action == "UpdateAlias" || action == "ScheduleKeyDeletion"
	switch {
	case k.State == statePendingDeletion:
		return refuse("KMSInvalidStateException", "%s is pending deletion.", k.ARN)
	case k.State == statePendingImport && !administering:
		return refuse("KMSInvalidStateException", "%s is pending import.", k.ARN)
	case k.State == stateDisabled && !managing && !administering:
		return refuse("DisabledException", "%s is disabled.", k.ARN)
	}
	return nil
}
