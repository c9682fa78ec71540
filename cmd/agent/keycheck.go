// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"github.com/volseal/volseal/internal/control"
	"github.com/volseal/volseal/internal/doctor"
	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
)

const (
	// keyCheckLimit stays below what the server gives to a request with a body.
	keyCheckLimit = 9 * time.Second
	// selfLimit bounds the one question of a check that may go unanswered.
	selfLimit = 2 * time.Second
)

// CheckKey implements control.Agent.
func (a *agent) CheckKey(ctx context.Context, arn string) (control.KeyReport, error) {
	if !a.examining.TryLock() {
		return control.KeyReport{}, busyExamining()
	}
	defer a.examining.Unlock()
	ctx, cancel := context.WithTimeout(ctx, keyCheckLimit)
	defer cancel()
	if !envelope.ValidKeyARN(arn) {
		return control.KeyReport{}, a.connector.refuseARN(ctx, arn)
	}
	n, err := a.connector.connect(ctx)
	if err != nil {
		return control.KeyReport{}, err
	}
	self, _ := n.self(ctx) // without an account no statements can be printed; the report says so
	return doctor.Key(ctx, n.kms, self, arn, a.connector.contextFor(arn)), nil
}

func busyExamining() error {
	return &control.Error{Code: control.CodeConflict, Message: "The agent is examining a key or this host already.", Hint: "Try again in some seconds."}
}

// aliasARN has the region as its one group.
var aliasARN = regexp.MustCompile(`^arn:aws(?:-[a-z]{1,16}){0,3}:kms:([a-z0-9-]{1,32}):[0-9]{12}:alias/[A-Za-z0-9/_-]{1,250}$`)

// refuseARN says why something is no key's ARN; of an alias, which key is behind
// it at the moment, if that can be told.
func (c *connector) refuseARN(ctx context.Context, arn string) error {
	alias := aliasARN.FindStringSubmatch(arn)
	if alias == nil {
		return &control.Error{
			Code: control.CodeBadRequest, Message: "This is not the ARN of a KMS key.",
			Hint: "It has the form arn:aws:kms:REGION:ACCOUNT:key/ID.",
		}
	}
	e := &fault.Error{
		Class: fault.Misconfigured, Reason: "alias",
		Cause: "This is an alias: whoever may move it could replace the key.",
		Hint:  "Give the ARN of the key itself (aws kms describe-key --key-id ALIAS).",
	}
	n, err := c.connect(ctx)
	if err != nil || n.region != alias[1] {
		return e
	}
	if key, err := n.kms.Describe(ctx, arn); err == nil && envelope.ValidKeyARN(key.ARN) {
		e.Hint = "Give the ARN of the key itself. At the moment it is " + key.ARN
	}
	return e
}

// contextFor is the encryption context of a volume under the key, since a policy
// may ask for it; of some volume that is imagined, where there is none.
func (c *connector) contextFor(arn string) envelope.Context {
	cfg, _, _ := c.settings()
	for _, v := range cfg.Volumes {
		if v.KeyARN == arn {
			return v.Context
		}
	}
	return envelope.Context{envelope.PurposeKey: envelope.PurposeValue, envelope.DatabaseKey: "key-check"}
}

// self is who this machine is. With an error, what the agent knows without its
// metadata: where, not whose.
func (n *connection) self(ctx context.Context) (doctor.Self, error) {
	ctx, cancel := context.WithTimeout(ctx, selfLimit)
	defer cancel()
	self := doctor.Self{Region: n.region, Instance: n.instance}
	doc, err := n.imds.GetInstanceIdentityDocument(ctx, nil)
	if err != nil {
		return self, unknownSelf(err)
	}
	if doc.InstanceID != n.instance || doc.Region != n.region {
		return self, &fault.Error{
			Class: fault.Misconfigured, Reason: "other-instance",
			Cause: fmt.Sprintf("Instance metadata say %s in %s, volseal.yaml says %s in %s.", doc.InstanceID, doc.Region, n.instance, n.region),
			Hint:  "Take region and instance_id out of volseal.yaml, or correct them.",
		}
	}
	self.Account, self.Zone = doc.AccountID, doc.AvailabilityZone
	return self, nil
}
