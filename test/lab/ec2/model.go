// SPDX-License-Identifier: Apache-2.0

package ec2

import (
	"maps"
	"slices"
	"time"

	"github.com/volseal/volseal/test/lab/aws"
)

// The two instances of the emulated account. Only the first has a machine.
const (
	OurInstance   = "i-0123456789abcdef0"
	OtherInstance = "i-0fedcba9876543210"
)

// States of volumes, attachments and snapshots, as the API spells them.
const (
	creating  = "creating"
	available = "available"
	inUse     = "in-use"
	deleting  = "deleting"
	failed    = "error"

	attaching = "attaching"
	attached  = "attached"
	detaching = "detaching"
	busy      = "busy"

	pending   = "pending"
	completed = "completed"
)

// sealed is what EBS keeps of an encrypted volume's or snapshot's data key.
type sealed struct {
	Key     string `json:"key"`     // ARN of the CMK
	Wrapped []byte `json:"wrapped"` // the data key under the CMK; nil until it was made
	Context string `json:"context"` // value of aws:ebs:id that it is bound to
}

type attachment struct {
	Instance string    `json:"instance"`
	Device   string    `json:"device"` // the name asked for; the guest sees an NVMe name of its own
	State    string    `json:"state"`
	Since    time.Time `json:"since"` // when it was asked for
	Plugged  bool      `json:"plugged"`
	Force    bool      `json:"force"` // detach without asking whether the guest uses it
}

type volume struct {
	ID          string            `json:"id"`
	Size        int               `json:"size"` // GiB
	Zone        string            `json:"zone"`
	State       string            `json:"state"`
	Type        string            `json:"type"`
	IOPS        int               `json:"iops"`
	Created     time.Time         `json:"created"`
	Snapshot    string            `json:"snapshot"`
	Sealed      *sealed           `json:"sealed"` // nil: not encrypted
	MultiAttach bool              `json:"multi_attach"`
	Creator     aws.Principal     `json:"creator"`
	Attachments []attachment      `json:"attachments"`
	Stick       string            `json:"stick"` // the transition that does not end: attaching, detaching or none
	Tags        map[string]string `json:"tags"`
}

// on finds the attachment to an instance, or nil.
func (v *volume) on(instance string) *attachment {
	for i := range v.Attachments {
		if v.Attachments[i].Instance == instance {
			return &v.Attachments[i]
		}
	}
	return nil
}

func (v *volume) clone() *volume {
	c := *v
	c.Attachments = slices.Clone(v.Attachments)
	c.Tags = maps.Clone(v.Tags)
	if v.Sealed != nil {
		key := *v.Sealed
		c.Sealed = &key
	}
	return &c
}

type snapshot struct {
	ID          string            `json:"id"`
	Volume      string            `json:"volume"`
	Source      string            `json:"source"`          // the snapshot that this is a copy of
	Owner       string            `json:"owner,omitempty"` // the account that shares it; empty: ours
	State       string            `json:"state"`
	Message     string            `json:"message"`
	Started     time.Time         `json:"started"`
	Size        int               `json:"size"` // GiB, of the volume
	Description string            `json:"description"`
	Sealed      *sealed           `json:"sealed"`
	Creator     aws.Principal     `json:"creator"`
	Tags        map[string]string `json:"tags"`
}

type instance struct {
	ID   string            `json:"id"`
	Zone string            `json:"zone"`
	Type string            `json:"type"`
	Tags map[string]string `json:"tags"`
}

// once remembers a request made under a client token.
type once struct {
	Request string  `json:"request"` // digest of the parameters
	Volume  *volume `json:"volume"`  // what was answered
}

// state is everything that survives a restart.
type state struct {
	Version    int                  `json:"version"`
	Volumes    map[string]*volume   `json:"volumes"`
	Snapshots  map[string]*snapshot `json:"snapshots"`
	Instances  map[string]*instance `json:"instances"`
	Tokens     map[string]once      `json:"tokens"`
	Denied     []string             `json:"denied"`                // actions that IAM refuses
	KeepFailed bool                 `json:"keep_failed,omitempty"` // a volume without a usable key ends in state error
}

func newState(zone string) *state {
	s := &state{
		Version:   1,
		Volumes:   map[string]*volume{},
		Snapshots: map[string]*snapshot{},
		Instances: map[string]*instance{},
		Tokens:    map[string]once{},
	}
	for id, name := range map[string]string{OurInstance: "db-7f3a", OtherInstance: "db-other"} {
		s.Instances[id] = &instance{ID: id, Zone: zone, Type: "m5.large", Tags: map[string]string{"Name": name}}
	}
	return s
}
