// SPDX-License-Identifier: Apache-2.0

package ec2

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strconv"
)

// provision makes a volume usable. An unusable key takes the volume away again
// without a word, or leaves it in state error: EBS does either.
func (s *Server) provision(_ context.Context, id string) {
	v := s.view(id)
	if v == nil || v.State != creating {
		return
	}
	key, err := s.sealVolume(v)
	if err != nil {
		s.opts.Log.Info("volume is not made: its key is not usable", "volume", id, "error", err)
		s.giveUp(id)
		return
	}
	s.images.Lock()
	defer s.images.Unlock()
	from := ""
	if v.Snapshot != "" {
		from = s.snapshotPath(v.Snapshot)
	}
	result := available
	if err := makeImage(s.volumePath(id), from, v.Size); err != nil {
		s.opts.Log.Error("volume has no image", "volume", id, "error", err)
		result = failed
	}
	s.update(id, func(v *volume) { v.State, v.Sealed = result, key })
}

// sealVolume is nil for a volume that is not encrypted.
func (s *Server) sealVolume(v *volume) (*sealed, error) {
	if v.Sealed == nil {
		return nil, nil
	}
	s.mu.Lock()
	var from *sealed
	foreign := false
	if snap := s.st.Snapshots[v.Snapshot]; snap != nil {
		from, foreign = snap.Sealed, s.owner(snap) != s.opts.Account
	}
	s.mu.Unlock()
	if foreign && from != nil && from.Key != v.Sealed.Key {
		return nil, refuse("InvalidParameter", "a snapshot of another account is moved to another key by a copy only")
	}
	key, err := s.seal(v.Creator, v.ID, *v.Sealed, from)
	return &key, err
}

// erase ends a volume that is being deleted.
func (s *Server) erase(_ context.Context, id string) {
	s.images.Lock()
	defer s.images.Unlock()
	s.forget(id)
	if err := os.Remove(s.volumePath(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.opts.Log.Error("image not removed", "volume", id, "error", err)
	}
}

func (s *Server) giveUp(id string) {
	s.update(id, func(v *volume) {
		if v.State = failed; !s.st.KeepFailed {
			delete(s.st.Volumes, id)
		}
	})
}

func (s *Server) forget(id string) {
	s.update(id, func(*volume) { delete(s.st.Volumes, id) })
}

func (s *Server) serveDeleteVolume(r *request) (reply, error) {
	if err := s.DeleteVolume(r.text("VolumeId")); err != nil {
		return nil, err
	}
	return &done{Return: true}, nil
}

// DeleteVolume begins the deletion of a volume that nothing is attached to.
func (s *Server) DeleteVolume(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.volume(id)
	if err != nil {
		return err
	}
	switch v.State {
	case available, failed:
	case deleting:
		return volumeNotFound(id)
	case inUse:
		return refuse("VolumeInUse", "Volume %s is currently attached to %s", id, v.Attachments[0].Instance)
	default:
		return refuse("IncorrectState", "The volume '%s' is '%s'", id, v.State)
	}
	v.State = deleting
	if err := s.save(); err != nil {
		return err
	}
	s.kick(id)
	return nil
}

type describeVolumesReply struct {
	meta
	Volumes   set[volumeItem] `xml:"volumeSet"`
	NextToken string          `xml:"nextToken,omitempty"`
}

func (s *Server) describeVolumes(r *request) (reply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	chosen, next, err := choose(r.params, selection[*volume]{
		all: s.st.Volumes, ids: r.list("VolumeId"), get: s.volume, attr: (*volume).attributes,
	})
	if err != nil {
		return nil, err
	}
	out := &describeVolumesReply{NextToken: next}
	for _, v := range chosen {
		out.Volumes.Items = append(out.Volumes.Items, v.item())
	}
	return out, nil
}

func (v *volume) attributes() attributes {
	a := attributes{
		"availability-zone":    {v.Zone},
		"create-time":          {stamp(v.Created)},
		"encrypted":            {strconv.FormatBool(v.Sealed != nil)},
		"multi-attach-enabled": {strconv.FormatBool(v.MultiAttach)},
		"size":                 {strconv.Itoa(v.Size)},
		"snapshot-id":          {v.Snapshot},
		"status":               {v.State},
		"volume-id":            {v.ID},
		"volume-type":          {v.Type},

		"attachment.device":                nil,
		"attachment.instance-id":           nil,
		"attachment.status":                nil,
		"attachment.attach-time":           nil,
		"attachment.delete-on-termination": nil,
	}
	for _, at := range v.Attachments {
		a["attachment.device"] = append(a["attachment.device"], at.Device)
		a["attachment.instance-id"] = append(a["attachment.instance-id"], at.Instance)
		a["attachment.status"] = append(a["attachment.status"], at.State)
		a["attachment.attach-time"] = append(a["attachment.attach-time"], stamp(at.Since))
		a["attachment.delete-on-termination"] = append(a["attachment.delete-on-termination"], "false")
	}
	return a.withTags(v.Tags)
}
