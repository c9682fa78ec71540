// SPDX-License-Identifier: Apache-2.0

package ec2

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"

	"github.com/volseal/volseal/test/lab/aws"
)

type snapshotReply struct {
	meta
	snapshotItem
}

func (s *Server) serveCreateSnapshot(r *request) (reply, error) {
	tags, err := r.tagsFor("snapshot")
	if err != nil {
		return nil, err
	}
	snap, err := s.addSnapshot(s.ctx, r.caller, r.text("VolumeId"), r.text("Description"), tags)
	if err != nil {
		return nil, err
	}
	return &snapshotReply{snapshotItem: snap.item(s.owner(snap))}, nil
}

// addSnapshot copies the image before it answers: a snapshot is of the moment
// it was asked for. Only its completion takes time. Whether the key is usable is
// not asked; who restores the snapshot will be.
func (s *Server) addSnapshot(ctx context.Context, p aws.Principal, volumeID, description string, tags map[string]string) (*snapshot, error) {
	s.images.Lock()
	defer s.images.Unlock()
	snap, plugged, err := s.newSnapshot(p, volumeID, description, tags)
	if err != nil {
		return nil, err
	}
	if err := s.copyStill(ctx, plugged, s.snapshotPath(snap.ID), s.volumePath(volumeID), snap.Size); err != nil {
		return nil, err
	}
	return s.commitSnapshot(snap)
}

func (s *Server) newSnapshot(p aws.Principal, volumeID, description string, tags map[string]string) (snap *snapshot, plugged bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.volume(volumeID)
	if err != nil {
		return nil, false, err
	}
	if v.State != available && v.State != inUse {
		return nil, false, refuse("IncorrectState", "Volume '%s' is in the '%s' state.", volumeID, v.State)
	}
	v = v.clone()
	snap = &snapshot{
		ID:          newID("snap"),
		Volume:      volumeID,
		State:       pending,
		Started:     s.opts.Now().UTC(),
		Size:        v.Size,
		Description: description,
		Sealed:      v.Sealed,
		Creator:     p,
		Tags:        tags,
	}
	a := v.on(OurInstance)
	return snap, a != nil, nil
}

// copyStill copies an image while the machine, if it has it open, holds still.
func (s *Server) copyStill(ctx context.Context, plugged bool, to, from string, size int) (err error) {
	if machine, ok := s.opts.Plugger.(Pauser); ok && plugged {
		if err := machine.Pause(ctx); err != nil {
			return fmt.Errorf("pause machine for snapshot: %w", err)
		}
		defer func() { err = errors.Join(err, machine.Resume(context.WithoutCancel(ctx))) }()
	}
	return makeImage(to, from, size)
}

// commitSnapshot records a new snapshot and returns a copy, to answer with.
func (s *Server) commitSnapshot(snap *snapshot) (*snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if snap.Tags == nil {
		snap.Tags = map[string]string{}
	}
	s.st.Snapshots[snap.ID] = snap
	if err := s.save(); err != nil {
		return nil, err
	}
	s.kick(snap.ID)
	answer := *snap
	answer.Tags = maps.Clone(snap.Tags)
	return &answer, nil
}

func (s *Server) owner(snap *snapshot) string { return cmp.Or(snap.Owner, s.opts.Account) }

type copySnapshotReply struct {
	meta
	SnapshotID string       `xml:"snapshotId"`
	Tags       set[tagItem] `xml:"tagSet"`
}

func (s *Server) serveCopySnapshot(r *request) (reply, error) {
	encrypted, err := r.flag("Encrypted")
	if err != nil {
		return nil, err
	}
	tags, err := r.tagsFor("snapshot")
	if err != nil {
		return nil, err
	}
	if region := r.text("SourceRegion"); region != s.opts.Region {
		return nil, invalid("Value (%s) for parameter sourceRegion is invalid: there is only %s here", region, s.opts.Region)
	}
	snap, err := s.copySnapshot(r.caller, r.text("SourceSnapshotId"), copySpec{
		key: r.text("KmsKeyId"), encrypted: encrypted, description: r.text("Description"), tags: tags,
	})
	if err != nil {
		return nil, err
	}
	return &copySnapshotReply{SnapshotID: snap.ID, Tags: tagItems(snap.Tags)}, nil
}

type copySpec struct {
	key, description string
	encrypted        bool
	tags             map[string]string
}

// copySnapshot begins a copy. Rights are checked later, and their lack shows
// only in the copy's state.
func (s *Server) copySnapshot(p aws.Principal, sourceID string, spec copySpec) (*snapshot, error) {
	s.mu.Lock()
	source, err := s.snapshot(sourceID)
	if err != nil {
		s.mu.Unlock()
		return nil, err
	}
	snap := &snapshot{
		ID:          newID("snap"),
		Volume:      "vol-ffffffff", // what EC2 says of a copy
		Source:      sourceID,
		State:       pending,
		Started:     s.opts.Now().UTC(),
		Size:        source.Size,
		Description: spec.description,
		Creator:     p,
		Tags:        spec.tags,
	}
	state, wasEncrypted := source.State, source.Sealed != nil
	s.mu.Unlock()
	if state != completed {
		return nil, refuse("IncorrectState", "Snapshot is in invalid state - %s", state)
	}
	if spec.key != "" && !spec.encrypted && !wasEncrypted {
		return nil, refuse("InvalidParameterDependency", "The parameter KmsKeyId requires the parameter Encrypted to be set.")
	}
	if spec.encrypted || wasEncrypted {
		key, err := s.keyARN(spec.key)
		if err != nil {
			return nil, err
		}
		snap.Sealed = &sealed{Key: key}
	}
	return s.commitSnapshot(snap)
}

// completeSnapshot is the step from pending to completed or error.
func (s *Server) completeSnapshot(_ context.Context, id string) {
	s.images.Lock()
	defer s.images.Unlock()
	todo, source := s.snapshotAndSource(id)
	if todo == nil {
		return
	}
	todo.State = completed
	if todo.Source != "" {
		if err := s.makeCopy(todo, source); err != nil {
			s.opts.Log.Info("snapshot copy failed", "snapshot", id, "error", err)
			todo.State, todo.Message = failed, "Given key ID is not accessible"
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	snap := s.st.Snapshots[id]
	if snap == nil {
		return
	}
	snap.State, snap.Message, snap.Sealed = todo.State, todo.Message, todo.Sealed
	if err := s.save(); err != nil {
		s.opts.Log.Error("EC2 state not saved", "snapshot", id, "error", err)
	}
}

// snapshotAndSource are a snapshot, as a copy, and what it is made from; nil
// where they are not.
func (s *Server) snapshotAndSource(id string) (snap, source *snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if found := s.st.Snapshots[id]; found != nil {
		c := *found
		snap, source = &c, s.st.Snapshots[found.Source]
	}
	return snap, source
}

func (s *Server) makeCopy(snap, source *snapshot) error {
	if source == nil {
		return snapshotNotFound(snap.Source)
	}
	if snap.Sealed != nil {
		key, err := s.seal(snap.Creator, snap.ID, *snap.Sealed, source.Sealed)
		if err != nil {
			return err
		}
		snap.Sealed = &key
	}
	return makeImage(s.snapshotPath(snap.ID), s.snapshotPath(source.ID), snap.Size)
}

func (s *Server) serveDeleteSnapshot(r *request) (reply, error) {
	if err := s.DeleteSnapshot(r.text("SnapshotId")); err != nil {
		return nil, err
	}
	return &done{Return: true}, nil
}

// DeleteSnapshot removes a snapshot and its image at once.
func (s *Server) DeleteSnapshot(id string) error {
	s.images.Lock()
	defer s.images.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.snapshot(id); err != nil {
		return err
	}
	delete(s.st.Snapshots, id)
	if err := s.save(); err != nil {
		return err
	}
	if err := os.Remove(s.snapshotPath(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove image: %w", err)
	}
	return nil
}

type describeSnapshotsReply struct {
	meta
	Snapshots set[snapshotItem] `xml:"snapshotSet"`
	NextToken string            `xml:"nextToken,omitempty"`
}

func (s *Server) describeSnapshots(r *request) (reply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	chosen, next, err := choose(r.params, selection[*snapshot]{
		all: s.st.Snapshots, ids: r.list("SnapshotId"), get: s.snapshot, attr: s.snapshotAttributes,
	})
	if err != nil {
		return nil, err
	}
	out := &describeSnapshotsReply{NextToken: next}
	owners := r.list("Owner")
	for i, owner := range owners {
		if owner == "self" {
			owners[i] = s.opts.Account
		}
	}
	for _, snap := range chosen {
		if len(owners) > 0 && !slices.Contains(owners, s.owner(snap)) {
			continue
		}
		out.Snapshots.Items = append(out.Snapshots.Items, snap.item(s.owner(snap)))
	}
	return out, nil
}

func (s *Server) snapshotAttributes(snap *snapshot) attributes {
	item := snap.item(s.owner(snap))
	return attributes{
		"description": {snap.Description},
		"encrypted":   {strconv.FormatBool(item.Encrypted)},
		"owner-id":    {item.OwnerID},
		"progress":    {item.Progress},
		"snapshot-id": {snap.ID},
		"start-time":  {item.StartTime},
		"status":      {snap.State},
		"volume-id":   {snap.Volume},
		"volume-size": {strconv.Itoa(snap.Size)},
	}.withTags(snap.Tags)
}
