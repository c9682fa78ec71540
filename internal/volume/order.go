// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"fmt"
	"regexp"

	"github.com/volseal/volseal/internal/envelope"
)

// Verb is what an operator may ask of a volume.
type Verb string

// The verbs.
const (
	VerbInit     Verb = "init"     // format a blank volume, once, then mount it
	VerbUnlock   Verb = "unlock"   // to Mounted
	VerbLock     Verb = "lock"     // to Sealed, and stay there
	VerbReattach Verb = "reattach" // from any state to Mounted, by a way that begins anew
	VerbRelease  Verb = "release"  // to Detached, and stay there

	// VerbAcceptHeader is reattach by one who put an older header back and knows
	// what that brings back: keys that a rotation had replaced.
	VerbAcceptHeader Verb = "accept-header"

	VerbCreate  Verb = "create"  // have EC2 make a volume, format it, then mount it
	VerbRestore Verb = "restore" // have EC2 make a volume from a snapshot, then mount it
)

// makes reports that the verb has EC2 make a volume.
func (v Verb) makes() bool { return v == VerbCreate || v == VerbRestore }

// Order is what an operator asks of a volume: a verb, and what that verb needs to
// know, as it came over the socket. Nothing of it is validated but by Validate.
type Order struct {
	Verb     Verb   `json:"-"`
	SizeGiB  int    `json:"size_gib,omitempty"` // create
	Snapshot string `json:"snapshot,omitempty"` // restore: snap-…
	KeyARN   string `json:"key_arn,omitempty"`  // restore: the CMK of the EBS layer; "" is the configured one
}

// MaxSizeGiB is the largest gp3 volume.
const MaxSizeGiB = 16384

var snapshotForm = regexp.MustCompile(`^snap-([0-9a-f]{8}|[0-9a-f]{17})$`)

// OrderError is an order whose arguments do not fit its verb.
type OrderError struct{ Message string }

func (e *OrderError) Error() string { return e.Message }

// Validate refuses what is missing, malformed, or no argument of the verb.
func (o Order) Validate() error {
	switch {
	case o.Verb == VerbCreate && (o.SizeGiB < 1 || o.SizeGiB > MaxSizeGiB):
		return &OrderError{fmt.Sprintf("The size must be from 1 to %d GiB.", MaxSizeGiB)}
	case o.Verb == VerbRestore && !snapshotForm.MatchString(o.Snapshot):
		return &OrderError{"The snapshot must be an id such as snap-0123456789abcdef0."}
	case o.Verb == VerbRestore && o.KeyARN != "" && !envelope.ValidKeyARN(o.KeyARN):
		return &OrderError{"The key must be a key ARN such as arn:aws:kms:us-east-1:111111111111:key/aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee; an alias is refused."}
	case o.Verb != VerbCreate && o.SizeGiB != 0:
		return notAnArgument(o.Verb, "size_gib")
	case o.Verb != VerbRestore && o.Snapshot != "":
		return notAnArgument(o.Verb, "snapshot")
	case o.Verb != VerbRestore && o.KeyARN != "":
		return notAnArgument(o.Verb, "key_arn")
	}
	return nil
}

func notAnArgument(v Verb, name string) error {
	return &OrderError{fmt.Sprintf("%s is no argument of %s.", name, v)}
}
