// SPDX-License-Identifier: Apache-2.0

package ec2

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"

	"github.com/volseal/volseal/test/lab/aws"
)

const maxSize = 16384 // GiB

// VolumeSpec is a volume to create. Sizes are in GiB; a zero Size takes the
// snapshot's.
type VolumeSpec struct {
	Size        int
	Snapshot    string
	Zone        string
	Type        string // empty: gp3
	IOPS        int
	Encrypted   bool
	Key         string // ARN, key id or alias; needs Encrypted
	MultiAttach bool
	Tags        map[string]string
}

type createVolumeReply struct {
	meta
	volumeItem
}

func (s *Server) serveCreateVolume(r *request) (reply, error) {
	spec, err := r.volumeSpec()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	earlier, err := s.earlier(r)
	if err != nil {
		return nil, err
	}
	if earlier != nil {
		return &createVolumeReply{volumeItem: earlier.item()}, nil
	}
	v, err := s.addVolume(r.caller, spec)
	if err != nil {
		return nil, err
	}
	if r.Has("ClientToken") {
		s.st.Tokens[r.token()] = once{Request: r.digest(), Volume: v.clone()}
	}
	if err := s.save(); err != nil {
		return nil, err
	}
	s.kick(v.ID)
	return &createVolumeReply{volumeItem: v.item()}, nil
}

// earlier is what the same request under the same client token got; nil for a
// new one. The lock is held.
func (s *Server) earlier(r *request) (*volume, error) {
	if len(r.text("ClientToken")) > 64 {
		return nil, invalid("Invalid client token: at most 64 characters are allowed")
	}
	known, ok := s.st.Tokens[r.token()]
	if !ok || !r.Has("ClientToken") {
		return nil, nil
	}
	if known.Request != r.digest() {
		return nil, refuse("IdempotentParameterMismatch", "The client token has been used before with other parameters.")
	}
	return known.Volume, nil
}

// token is the client token, each account's apart.
func (r *request) token() string { return r.caller.Account + "/" + r.text("ClientToken") }

func (r *request) volumeSpec() (spec VolumeSpec, err error) {
	spec = VolumeSpec{
		Snapshot: r.text("SnapshotId"),
		Zone:     r.text("AvailabilityZone"),
		Type:     r.text("VolumeType"),
		Key:      r.text("KmsKeyId"),
	}
	if spec.Type == "" {
		spec.Type = "gp2"
	}
	var errs [5]error
	spec.Size, errs[0] = r.number("Size")
	spec.IOPS, errs[1] = r.number("Iops")
	spec.Encrypted, errs[2] = r.flag("Encrypted")
	spec.MultiAttach, errs[3] = r.flag("MultiAttachEnabled")
	spec.Tags, errs[4] = r.tagsFor("volume")
	for _, err := range errs {
		if err != nil {
			return spec, err
		}
	}
	if r.Has("Size") && spec.Size == 0 {
		return spec, invalid("Volume of 0GiB is too small; minimum is 1GiB.")
	}
	return spec, nil
}

// digest tells two requests under one client token apart.
func (p params) digest() string {
	rest := maps.Clone(p.Values)
	maps.DeleteFunc(rest, func(name string, _ []string) bool { return name == "ClientToken" })
	sum := sha256.Sum256([]byte(rest.Encode()))
	return hex.EncodeToString(sum[:])
}

// addVolume checks spec and records the volume as creating. Neither the key nor
// the image has been touched then. The lock is held.
func (s *Server) addVolume(p aws.Principal, spec VolumeSpec) (*volume, error) {
	v := &volume{
		ID:          newID("vol"),
		Size:        spec.Size,
		Zone:        spec.Zone,
		State:       creating,
		Type:        spec.Type,
		IOPS:        spec.IOPS,
		Created:     s.opts.Now().UTC(),
		Snapshot:    spec.Snapshot,
		MultiAttach: spec.MultiAttach,
		Creator:     p,
		Tags:        maps.Clone(spec.Tags),
	}
	if v.Tags == nil {
		v.Tags = map[string]string{}
	}
	if err := s.checkKind(v); err != nil {
		return nil, err
	}
	if err := s.checkSource(v, &spec); err != nil {
		return nil, err
	}
	if spec.Key != "" && !spec.Encrypted {
		return nil, refuse("InvalidParameterDependency", "The parameter KmsKeyId requires the parameter Encrypted to be set.")
	}
	if spec.Encrypted {
		key, err := s.keyARN(spec.Key)
		if err != nil {
			return nil, err
		}
		v.Sealed = &sealed{Key: key}
	}
	s.st.Volumes[v.ID] = v
	return v, nil
}

func (s *Server) checkKind(v *volume) error {
	if v.Type == "" {
		v.Type = "gp3"
	}
	provisioned := v.Type == "io1" || v.Type == "io2"
	switch {
	case !slices.Contains(s.zones(), v.Zone):
		return refuse("InvalidZone.NotFound", "The zone '%s' does not exist.", v.Zone)
	case !slices.Contains([]string{"gp2", "gp3", "io1", "io2", "st1", "sc1", "standard"}, v.Type):
		return invalid("Value (%s) for parameter volumeType is invalid.", v.Type)
	case provisioned && v.IOPS == 0:
		return refuse("MissingParameter", "The parameter iops must be specified for %s volumes.", v.Type)
	case v.MultiAttach && !provisioned:
		return refuse("InvalidParameterCombination", "Multi-Attach is only supported for io1 and io2 volumes.")
	}
	return nil
}

// checkSource takes size and encryption from the snapshot where there is one.
func (s *Server) checkSource(v *volume, spec *VolumeSpec) error {
	if spec.Snapshot == "" && v.Size == 0 {
		return refuse("MissingParameter", "The request must contain the parameter size or snapshotId")
	}
	if spec.Snapshot != "" {
		snap, err := s.snapshot(spec.Snapshot)
		if err != nil {
			return err
		}
		if snap.State != completed {
			return refuse("IncorrectState", "Snapshot is in invalid state - %s", snap.State)
		}
		if v.Size == 0 {
			v.Size = snap.Size
		}
		if v.Size < snap.Size {
			return invalid("Volume of %dGiB is smaller than snapshot '%s', expect size >= %dGiB", v.Size, snap.ID, snap.Size)
		}
		if snap.Sealed != nil && spec.Key == "" {
			spec.Encrypted, spec.Key = true, snap.Sealed.Key
		}
	}
	if v.Size > maxSize {
		return invalid("Volume of %dGiB is too large for volume type %s; maximum is %dGiB.", v.Size, v.Type, maxSize)
	}
	return nil
}
