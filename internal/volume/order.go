// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"fmt"
	"regexp"

	"github.com/volseal/volseal/internal/envelope"
)

// makes reports that the verb has EC2 make a volume.
func (v Verb) makes() bool { return v == VerbCreate || v == VerbRestore }

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
