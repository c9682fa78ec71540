// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/volseal/volseal/internal/envelope"
)

// Making is a volume that an operator ordered and that is not in use yet. It is
// in the claim from the order until the volume's header goes onto it (create) or
// was opened (restore), so that a kill neither loses a volume nor makes a second:
//
//	order recorded                 nothing was made; it is gone on with
//	Asked recorded                 EC2 may have been asked; it is asked again under the
//	                               same client token, for which it makes one volume only
//	volume_id recorded             awaited, then attached, then formatted or opened
//	EC2 took the volume back       volume_id and Asked go, together with a new token
type Making struct {
	SizeGiB  int       `json:"size_gib"`           // 0: the snapshot's, not known yet
	Snapshot string    `json:"snapshot,omitempty"` // what it is made from. Such a volume is never formatted
	KeyARN   string    `json:"key_arn,omitempty"`  // of the EBS layer; "" is the configured one
	Since    time.Time `json:"since"`
	Token    string    `json:"client_token"`
	Asked    string    `json:"asked,omitempty"`   // the CMK for which EC2 was asked under Token; "" if it certainly was not
	Copying  string    `json:"copying,omitempty"` // the CMK under which a copy of Snapshot was asked for, tagged with Token
	Copy     string    `json:"copy,omitempty"`    // that copy
	Broken   []string  `json:"broken,omitempty"`  // earlier volumes, in state error, that nobody has deleted yet
}

// maxBroken is how many volumes in state error may stand about before no more
// are asked for. Nothing is ever deleted: that is an operator's to do.
const maxBroken = 4

// MakingState is how far an ordered volume is.
type MakingState int

// The states of an order.
const (
	MakingNothing  MakingState = iota // none was ordered, or it is in use by now
	MakingOrdered                     // EC2 has named no volume yet
	MakingBlank                       // EC2 named one, made for us and blank: it is to be formatted
	MakingRestored                    // EC2 named one, made from a snapshot: it is never formatted
)

func (c Claim) making() MakingState {
	switch {
	case c.Making == nil:
		return MakingNothing
	case c.VolumeID == "":
		return MakingOrdered
	case c.Making.Snapshot != "":
		return MakingRestored
	}
	return MakingBlank
}

func newMaking(o Order) *Making {
	return &Making{
		SizeGiB: o.SizeGiB, Snapshot: o.Snapshot, KeyARN: o.KeyARN,
		Since: time.Now().UTC().Truncate(time.Second), Token: newToken(),
	}
}

// rewrap is what becomes of the header of a volume that is restored under
// another CMK than the configured one: it follows the EBS layer, before the volume
// is first opened.
func (o Order) rewrap(s Spec) Rewrap {
	if o.KeyARN == "" || o.KeyARN == s.KeyARN {
		return Rewrap{}
	}
	return Rewrap{From: s.KeyARN, To: o.KeyARN, First: true}
}

// newToken is a client token as EC2 takes it: at most 64 characters.
func newToken() string { return "volseal-" + rand.Text() }

// meets reports that the order is for the same volume.
func (m *Making) meets(o Order) bool {
	return m.Snapshot == o.Snapshot && m.KeyARN == o.KeyARN && (m.SizeGiB == o.SizeGiB || o.Verb == VerbRestore)
}

// anew is the order with no volume asked for yet. EC2 would answer the old token
// with the volume that came to nothing.
func (m *Making) anew() *Making {
	n := *m
	n.Token, n.Asked, n.Broken = newToken(), "", slices.Clone(m.Broken)
	return &n
}

// key is the CMK of the EBS layer, while none was asked for yet.
func (m *Making) key(s Spec) string {
	if m.KeyARN != "" {
		return m.KeyARN
	}
	return s.KeyARN
}

func (m *Making) validate() error {
	switch {
	case m.Token == "" || len(m.Token) > 64:
		return errors.New("making without a client_token that EC2 takes")
	case m.SizeGiB < 0 || m.SizeGiB > MaxSizeGiB, m.SizeGiB == 0 && m.Snapshot == "":
		return fmt.Errorf("making a volume of %d GiB", m.SizeGiB)
	case m.Snapshot != "" && !snapshotForm.MatchString(m.Snapshot):
		return errors.New("making from what is no snapshot")
	case m.Copy != "" && !snapshotForm.MatchString(m.Copy):
		return errors.New("making from a copy that is no snapshot")
	case m.KeyARN != "" && !envelope.ValidKeyARN(m.KeyARN):
		return errors.New("making under what is no key ARN")
	}
	return nil
}

// CreateTitle is the step of making a volume as a person reads it. A size of 0
// is one that is not known yet.
func CreateTitle(sizeGiB int) string {
	if sizeGiB == 0 {
		return StepCreate.Title()
	}
	return fmt.Sprintf("Create %d GB database volume", sizeGiB)
}

// progress is what status says of it.
func (m *Making) progress() string {
	switch {
	case m.Snapshot != "":
		return "creating a volume from " + m.Snapshot
	default:
		return fmt.Sprintf("creating a volume of %d GiB", m.SizeGiB)
	}
}

// fitsOrder refuses an order for a name that has a volume, or another order.
func (w *worker) fitsOrder(o Order) error {
	c, name := w.claim, w.spec.Name
	switch {
	case w.spec.VolumeID != "":
		return &ConflictError{
			Message: "The configuration names " + w.spec.VolumeID + " for this volume.",
			Hint:    "To open it, run: volseal unlock " + name + ". For a volume that volseal makes, leave volume_id out and reload.",
		}
	case c.Making != nil && c.Making.meets(o):
		return nil // said once more
	case c.Making != nil:
		return &ConflictError{
			Message: "Another order stands since " + c.Making.Since.Format("2006-01-02 15:04:05 UTC") + ": " + c.Making.progress() + ".",
			Hint:    "To call that off, run: volseal release " + name,
		}
	case c.VolumeID != "":
		return &ConflictError{
			Message: "This volume has " + c.VolumeID + ".",
			Hint:    "To open it, run: volseal unlock " + name + ". To replace it, see \"Replacing a disk\" in the runbook.",
		}
	}
	return nil
}
