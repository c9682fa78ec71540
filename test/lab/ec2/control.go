// SPDX-License-Identifier: Apache-2.0

package ec2

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/volseal/volseal/test/lab/aws"
)

// What the lab's controls do outside the API. Errors are *aws.Error where the
// API has one for the case.

// Volume is what the controls may know of a volume.
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

// Attachment is where a volume is attached; State as in the API.
type Attachment struct {
	Instance string `json:"instance"`
	Device   string `json:"device"`
	State    string `json:"state"`
}

// Snapshot is what the controls may know of a snapshot.
type Snapshot struct {
	ID      string `json:"id"`
	State   string `json:"state"`
	Message string `json:"message,omitempty"`
	KeyARN  string `json:"key_arn,omitempty"`
}

// CreateVolume begins a volume as the principal p and returns its id.
func (s *Server) CreateVolume(p aws.Principal, spec VolumeSpec) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.addVolume(p, spec)
	if err != nil {
		return "", err
	}
	if err := s.save(); err != nil {
		return "", err
	}
	s.kick(v.ID)
	return v.ID, nil
}

// Attach begins to attach a volume as the principal p, under the first device
// name that is free.
func (s *Server) Attach(p aws.Principal, volumeID, instanceID string) error {
	_, err := s.attach(p, volumeID, instanceID, "")
	return err
}

// Detach begins to detach a volume; instanceID may be empty where only one has
// it. With force nobody asks whether the guest uses it.
func (s *Server) Detach(volumeID, instanceID string, force bool) error {
	_, err := s.detach(volumeID, instanceID, "", force)
	return err
}

// CreateSnapshot begins a snapshot as the principal p and returns its id.
func (s *Server) CreateSnapshot(ctx context.Context, p aws.Principal, volumeID string) (string, error) {
	snap, err := s.addSnapshot(ctx, p, volumeID, "", nil)
	if err != nil {
		return "", err
	}
	return snap.ID, nil
}

// CopySnapshot begins a copy under another key, as the principal p, and returns
// the copy's id.
func (s *Server) CopySnapshot(p aws.Principal, id, key string) (string, error) {
	snap, err := s.copySnapshot(p, id, copySpec{key: key, encrypted: key != ""})
	if err != nil {
		return "", err
	}
	return snap.ID, nil
}

// KeepFailed has volumes whose key is not usable end in state error, instead of
// vanishing.
func (s *Server) KeepFailed(keep bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.st.KeepFailed = keep
	return s.save()
}

// ShareFrom makes a snapshot that of another account, which shares it with ours.
func (s *Server) ShareFrom(account, snapshotID string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	snap, err := s.snapshot(snapshotID)
	if err != nil {
		return err
	}
	snap.Owner = account
	return s.save()
}

// Volume describes a volume.
func (s *Server) Volume(id string) (Volume, error) {
	v, _, err := s.look(id)
	return v, err
}

// Volumes are all volumes, in order of their ids.
func (s *Server) Volumes() []Volume {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []Volume{}
	for _, id := range slices.Sorted(maps.Keys(s.st.Volumes)) {
		out = append(out, s.st.Volumes[id].seen())
	}
	return out
}

// look also tells whether the volume has come to rest.
func (s *Server) look(id string) (out Volume, atRest bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.volume(id)
	if err != nil {
		return Volume{}, false, err
	}
	waits := slices.ContainsFunc(v.Attachments, func(a attachment) bool { return a.State == busy })
	todo, _ := s.nextOfVolume(v)
	return v.seen(), todo == nil || waits, nil
}

// seen is a volume as the controls may know it.
func (v *volume) seen() Volume {
	out := Volume{
		ID: v.ID, State: v.State, SizeGiB: v.Size, MultiAttach: v.MultiAttach, Stick: v.Stick,
		Tags: maps.Clone(v.Tags), Attachments: []Attachment{},
	}
	if v.Sealed != nil {
		out.KeyARN = v.Sealed.Key
	}
	for _, a := range v.Attachments {
		out.Attachments = append(out.Attachments, Attachment{a.Instance, a.Device, a.State})
	}
	return out
}

// Snapshot describes a snapshot.
func (s *Server) Snapshot(id string) (Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	snap, err := s.snapshot(id)
	if err != nil {
		return Snapshot{}, err
	}
	out := Snapshot{ID: id, State: snap.State, Message: snap.Message}
	if snap.Sealed != nil {
		out.KeyARN = snap.Sealed.Key
	}
	return out, nil
}

// WaitVolume returns the volume when it has come to rest: nothing will change
// by itself, or only when the guest lets go of it. A volume that is gone is
// InvalidVolume.NotFound.
func (s *Server) WaitVolume(ctx context.Context, id string) (Volume, error) {
	for {
		changed := s.watch()
		v, atRest, err := s.look(id)
		if err != nil || atRest {
			return v, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return v, fmt.Errorf("wait for %s, now %s: %w", id, v.State, ctx.Err())
		}
	}
}

// WaitSnapshot returns the snapshot when it is completed or in error.
func (s *Server) WaitSnapshot(ctx context.Context, id string) (Snapshot, error) {
	for {
		changed := s.watch()
		snap, err := s.Snapshot(id)
		if err != nil || snap.State != pending {
			return snap, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return snap, fmt.Errorf("wait for %s, now %s: %w", id, snap.State, ctx.Err())
		}
	}
}

func (s *Server) watch() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// Stick makes a transition of a volume, "attaching" or "detaching", not end: the
// one that is under way or else the next. A detach frees what sticks attaching, a
// forced one what sticks detaching, and "off" either.
func (s *Server) Stick(volumeID, transition string) error {
	switch transition {
	case attaching, detaching:
	case "off":
		transition = ""
	default:
		return invalid("Value (%s) is invalid: a volume sticks attaching or detaching, or off", transition)
	}
	return s.change(volumeID, func(v *volume) { v.Stick = transition })
}

// SetMultiAttach sets what DescribeVolumes says of Multi-Attach, and whether a
// second instance may attach the volume.
func (s *Server) SetMultiAttach(volumeID string, enabled bool) error {
	return s.change(volumeID, func(v *volume) { v.MultiAttach = enabled })
}

func (s *Server) change(volumeID string, change func(v *volume)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.volume(volumeID)
	if err != nil {
		return err
	}
	change(v)
	if err := s.save(); err != nil {
		return err
	}
	s.kick(volumeID)
	return nil
}

// Deny makes IAM refuse the actions ("AttachVolume") to everybody, in place of
// those it refused before; no actions refuse none.
func (s *Server) Deny(actions ...string) error {
	for _, a := range actions {
		if _, known := s.operations[a]; !known {
			return invalid("Value (%s) is invalid: no such EC2 action here", a)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.st.Denied = slices.Clone(actions)
	return s.save()
}

// Disks are the volumes that a machine which boots now finds plugged in, in the
// order of their attachment.
func (s *Server) Disks() []Disk {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []*volume
	for _, v := range s.st.Volumes {
		if a := v.on(OurInstance); a != nil && a.Plugged {
			found = append(found, v)
		}
	}
	slices.SortFunc(found, func(a, b *volume) int {
		if c := a.on(OurInstance).Since.Compare(b.on(OurInstance).Since); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	var disks []Disk
	for _, v := range found {
		disks = append(disks, Disk{v.ID, s.volumePath(v.ID)})
	}
	return disks
}
