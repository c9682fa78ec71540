// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"errors"
	"time"

	"github.com/volseal/volseal/internal/fault"
)

// ErrNoSuchVolume is the answer to a name that is not configured.
var ErrNoSuchVolume = errors.New("no such volume")

// ConflictError refuses an operator's verb that does not fit the volume's state.
type ConflictError struct{ Message, Hint string }

func (e *ConflictError) Error() string { return e.Message }

// Status is what is known of one volume, for operators and metrics. It is a
// value; the JSON names are the outward contract. Times are null when unknown.
type Status struct {
	Name               string        `json:"name"`
	VolumeID           string        `json:"volume_id"`
	Database           string        `json:"database"`
	Phase              Phase         `json:"phase"`
	Since              *time.Time    `json:"since"` // when this phase was first seen
	Class              fault.Class   `json:"class"`
	Error              string        `json:"error"`
	Hint               string        `json:"hint"`
	Who                []fault.Owner `json:"who"` // must act, the likeliest first; never nil
	Reason             string        `json:"reason"`
	FailedStep         string        `json:"failed_step"` // for example "Attach volume"
	FailingSince       *time.Time    `json:"failing_since"`
	NextRetry          *time.Time    `json:"next_retry"`
	Device             string        `json:"device"`
	Mapping            string        `json:"mapping"` // "" while it is not open
	Mountpoint         string        `json:"mountpoint"`
	KeyARN             string        `json:"key_arn"`
	LUKSUUID           string        `json:"luks_uuid"`
	Generation         int           `json:"generation"`
	Layers             []Layer       `json:"layers"` // from the disk upwards; never nil
	LastProof          *time.Time    `json:"last_proof"`
	WouldSurviveReboot bool          `json:"would_survive_reboot"`
	Wish               Wish          `json:"wish"`
	Progress           string        `json:"progress"` // of long work, "" when there is none
	Notice             string        `json:"notice"`   // what should be done about a volume that works; "" if nothing
	Rotation           *Rotation     `json:"rotation"` // of its keys, under way; null if none
	// WishSeq counts the wishes recorded for this volume since the agent
	// started; Answered is the newest of them that a finished pass has dealt
	// with. An error is news about wish n only once Answered >= n.
	WishSeq  uint64 `json:"wish_seq"`
	Answered uint64 `json:"answered_seq"`
}

// Satisfied reports whether the wish has come true.
func (s Status) Satisfied() bool {
	switch s.Wish {
	case WishMounted:
		return s.Phase == Mounted
	case WishSealed:
		return s.Mapping == "" && s.Phase != Mounted && s.Phase != Unlocked
	case WishDetached:
		return s.Device == "" && s.Mapping == ""
	}
	return false
}

// Frozen reports whether the volume is mounted without its key, so that all its
// I/O waits. No mapping of another sealed volume is left.
func (s Status) Frozen() bool { return s.Phase == Sealed && s.Mapping != "" }

// KeyState is the last word on one CMK.
type KeyState string

// The states of a CMK.
const (
	KeyUsable        KeyState = "usable"
	KeyRevoked       KeyState = "revoked"
	KeyUnreachable   KeyState = "unreachable"
	KeyMisconfigured KeyState = "misconfigured"
	KeyUnknown       KeyState = "unknown"
)

// KeyStates lists them all, for metrics.
func KeyStates() []KeyState {
	return []KeyState{KeyUsable, KeyRevoked, KeyUnreachable, KeyMisconfigured, KeyUnknown}
}

// KeyStatus is the state of one CMK and when that state was first seen.
type KeyStatus struct {
	ARN   string     `json:"arn"`
	State KeyState   `json:"state"`
	Since *time.Time `json:"since"`
}

// Snapshot is everything that status shows, at one moment for each volume.
type Snapshot struct {
	Volumes []Status    `json:"volumes"`
	Keys    []KeyStatus `json:"keys"`
}
