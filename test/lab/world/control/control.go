// SPDX-License-Identifier: Apache-2.0

// Package control is the wire between labctl and the world: the shapes of the
// requests, and the client. It imports nothing of the world, for labctl runs in
// the guest and stays small. What a request does is decided in package world.
package control

import "time"

// CreateKey asks for a key. Empty fields are a symmetric key with KMS's own
// material, in the customer's account and the lab's region.
type CreateKey struct {
	Spec     string `json:"spec,omitempty"`
	Origin   string `json:"origin,omitempty"`
	Region   string `json:"region,omitempty"`
	Account  string `json:"account,omitempty"`
	Unshared bool   `json:"unshared,omitempty"` // the platform's account may not use it
}

// Key names a key.
type Key struct {
	ARN string `json:"arn"`
}

// KeyChange is one of disable, enable, schedule-deletion, cancel-deletion,
// delete, import, rotate.
type KeyChange struct {
	ARN    string `json:"arn"`
	Change string `json:"change"`
}

// KeyPolicy replaces a key's policy document.
type KeyPolicy struct {
	ARN    string `json:"arn"`
	Policy string `json:"policy"`
}

// KeyDeny denies actions to the platform's account in a key's policy.
type KeyDeny struct {
	ARN     string   `json:"arn"`
	Actions []string `json:"actions"`
}

// Wrapped is a data key as a header holds it.
type Wrapped struct {
	ARN     string            `json:"arn"`
	Wrapped []byte            `json:"wrapped"`
	Context map[string]string `json:"context"`
}

// DataKey is one in the clear.
type DataKey struct {
	Plain []byte `json:"plain"`
}

// KeyState is what a key is, for a look.
type KeyState struct {
	ARN      string     `json:"arn"`
	State    string     `json:"state"`
	Spec     string     `json:"spec"`
	Origin   string     `json:"origin"`
	Deletion *time.Time `json:"deletion,omitempty"`
	Grants   int        `json:"grants"`
}

// CreateVolume asks for a volume.
type CreateVolume struct {
	SizeGiB     int    `json:"size_gib,omitempty"`
	Key         string `json:"key,omitempty"` // empty: the account's default key
	Snapshot    string `json:"snapshot,omitempty"`
	Unencrypted bool   `json:"unencrypted,omitempty"`
	Zone        string `json:"zone,omitempty"`    // empty: our instance's
	NoWait      bool   `json:"no_wait,omitempty"` // answer while it is still creating
}

// Move attaches or detaches.
type Move struct {
	Instance string `json:"instance,omitempty"` // empty: ours, or the only one
	NoWait   bool   `json:"no_wait,omitempty"`
}

// Stick is attaching, detaching or off.
type Stick struct {
	Transition string `json:"transition"`
}

// MultiAttach sets the flag.
type MultiAttach struct {
	Enabled bool `json:"enabled"`
}

// Volume is what a volume is now.
type Volume struct {
	ID          string            `json:"id"`
	State       string            `json:"state"`
	SizeGiB     int               `json:"size_gib"`
	KeyARN      string            `json:"key_arn,omitempty"`
	MultiAttach bool              `json:"multi_attach,omitempty"`
	Stick       string            `json:"stick,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	Attachments []Attachment      `json:"attachments"`
}

// Attachment is where a volume is attached, and how far.
type Attachment struct {
	Instance string `json:"instance"`
	Device   string `json:"device"`
	State    string `json:"state"`
}

// Snapshot is what a snapshot is now.
type Snapshot struct {
	ID      string `json:"id"`
	State   string `json:"state"`
	Message string `json:"message,omitempty"`
	KeyARN  string `json:"key_arn,omitempty"`
}

// CreateSnapshot asks for a snapshot of a volume.
type CreateSnapshot struct {
	Volume string `json:"volume"`
}

// CopySnapshot asks for a copy under another key.
type CopySnapshot struct {
	Key string `json:"key"`
}

// Fault breaks a service or its wire, or mends it.
type Fault struct {
	Fault string `json:"fault"`
}

// Mark is a place in the log of calls.
type Mark struct {
	Mark int64 `json:"mark"`
}

// Image is where a volume's raw image lies on the host.
type Image struct {
	Path string `json:"path"`
}

// Deny makes IAM refuse EC2 actions to everybody.
type Deny struct {
	Actions []string `json:"actions"`
}

// Credentials expire, or are good again.
type Credentials struct {
	Expired bool `json:"expired"`
}

// HostCommand runs on the host.
type HostCommand struct {
	Args []string `json:"args"`
}

// Error is the answer of a world that did not do it. Code is the code AWS would
// give, or one of the lab's own words.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Message + " (" + e.Code + ")" }

// StateOn is the state of the volume's attachment to an instance (empty: to
// any), or the volume's own where it has none there.
func (v Volume) StateOn(instance string) string {
	for _, a := range v.Attachments {
		if instance == "" || a.Instance == instance {
			return a.State
		}
	}
	return v.State
}
