// SPDX-License-Identifier: Apache-2.0

package ec2

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/volseal/volseal/test/lab/aws"
)

type attachmentReply struct {
	meta
	attachmentItem
}

func (s *Server) serveAttachVolume(r *request) (reply, error) {
	a, err := s.attach(r.caller, r.text("VolumeId"), r.text("InstanceId"), r.text("Device"))
	if err != nil {
		return nil, err
	}
	return &attachmentReply{attachmentItem: a}, nil
}

// attach begins to attach a volume to an instance, as the principal p. An empty
// device takes the first name that is free.
func (s *Server) attach(p aws.Principal, volumeID, instanceID, device string) (attachmentItem, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.volume(volumeID)
	if err != nil {
		return attachmentItem{}, err
	}
	i, err := s.instance(instanceID)
	if err != nil {
		return attachmentItem{}, err
	}
	if device == "" {
		device = s.freeDevice(instanceID)
	}
	if err := s.mayAttach(v, i, device); err != nil {
		return attachmentItem{}, err
	}
	if err := s.unseal(p, v); err != nil {
		return attachmentItem{}, err
	}
	a := attachment{Instance: instanceID, Device: device, State: attaching, Since: s.opts.Now().UTC()}
	v.Attachments = append(v.Attachments, a)
	v.State = inUse
	if err := s.save(); err != nil {
		return attachmentItem{}, err
	}
	s.kick(volumeID)
	return a.item(volumeID), nil
}

// mayAttach checks all but the key. The lock is held.
func (s *Server) mayAttach(v *volume, i *instance, device string) error {
	switch {
	case !isDevice(device):
		return invalid("Value (%s) for parameter device is invalid. %s is not a valid EBS device name.", device, device)
	case v.on(i.ID) != nil, v.State == inUse && !v.MultiAttach:
		return refuse("VolumeInUse", "%s is already attached to an instance", v.ID)
	case v.State != available && v.State != inUse:
		return refuse("IncorrectState", "%s is not 'available'.", v.ID)
	case v.Zone != i.Zone:
		return refuse("InvalidVolume.ZoneMismatch", "The volume '%s' is not in the same availability zone as instance '%s'", v.ID, i.ID)
	}
	taken := s.devices(i.ID)
	if len(taken) >= s.opts.AttachLimit {
		return refuse("AttachmentLimitExceeded", "Attachment limit exceeded for instance %s: at most %d volumes", i.ID, s.opts.AttachLimit)
	}
	if slices.Contains(taken, device) {
		return invalid("Invalid value '%s' for unixDevice. Attachment point %s is already in use", device, device)
	}
	return nil
}

func isDevice(name string) bool {
	ok, err := regexp.MatchString(`^(/dev/)?(sd[a-z][1-9]?[0-5]?|xvd[a-z]{1,2})$`, name)
	return err == nil && ok
}

// devices are the names taken on an instance; the root disk's always is.
func (s *Server) devices(instanceID string) []string {
	var taken []string
	for _, v := range s.st.Volumes {
		if a := v.on(instanceID); a != nil {
			taken = append(taken, a.Device)
		}
	}
	return taken
}

func (s *Server) freeDevice(instanceID string) string {
	taken := s.devices(instanceID)
	for _, letter := range "fghijklmnopqrstuvwxyzbcde" {
		if name := "/dev/sd" + string(letter); !slices.Contains(taken, name) {
			return name
		}
	}
	return "/dev/xvdba"
}

func (s *Server) serveDetachVolume(r *request) (reply, error) {
	force, err := r.flag("Force")
	if err != nil {
		return nil, err
	}
	a, err := s.detach(r.text("VolumeId"), r.text("InstanceId"), r.text("Device"), force)
	if err != nil {
		return nil, err
	}
	return &attachmentReply{attachmentItem: a}, nil
}

// detach begins to detach a volume. Instance and device may be empty where they
// go without saying. Force does not ask whether the guest uses the volume.
func (s *Server) detach(volumeID, instanceID, device string, force bool) (attachmentItem, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.volume(volumeID)
	if err != nil {
		return attachmentItem{}, err
	}
	a, err := s.attachmentOf(v, instanceID, device)
	if err != nil {
		return attachmentItem{}, err
	}
	if a.State == attaching && v.Stick == attaching {
		v.Stick = "" // detaching and trying again is the known cure
	}
	if a.State != busy || force {
		a.State = detaching
	}
	a.Force = a.Force || force
	answer := a.item(volumeID)
	if err := s.save(); err != nil {
		return attachmentItem{}, err
	}
	s.kick(volumeID)
	return answer, nil
}

// attachmentOf finds the attachment that a detach means. The lock is held.
func (s *Server) attachmentOf(v *volume, instanceID, device string) (*attachment, error) {
	if v.State != inUse {
		return nil, refuse("IncorrectState", "Volume '%s' is in the '%s' state.", v.ID, v.State)
	}
	if instanceID == "" {
		if len(v.Attachments) > 1 {
			return nil, refuse("MissingParameter", "The request must contain the parameter InstanceId for a Multi-Attach volume")
		}
		instanceID = v.Attachments[0].Instance
	}
	if _, err := s.instance(instanceID); err != nil {
		return nil, err
	}
	a := v.on(instanceID)
	if a == nil || device != "" && strings.TrimPrefix(device, "/dev/") != strings.TrimPrefix(a.Device, "/dev/") {
		return nil, refuse("InvalidAttachment.NotFound", "The volume '%s' is not attached to instance '%s' as device '%s'", v.ID, instanceID, device)
	}
	return a, nil
}

// plugTo is the step from attaching to attached.
func (s *Server) plugTo(instanceID string) step {
	return func(ctx context.Context, id string) {
		if instanceID == OurInstance {
			if err := s.opts.Plugger.Plug(ctx, id, s.volumePath(id)); err != nil {
				s.opts.Log.Warn("volume stays attaching: the machine did not take it", "volume", id, "error", err)
				return
			}
		}
		s.update(id, func(v *volume) {
			a := v.on(instanceID)
			a.Plugged = true
			if a.State == attaching { // and nobody has asked for a detach meanwhile
				a.State = attached
			}
		})
	}
}

// unplugFrom is the step from detaching or busy to gone, or to busy.
func (s *Server) unplugFrom(instanceID string) step {
	return func(ctx context.Context, id string) {
		a := s.view(id).on(instanceID)
		if instanceID == OurInstance && a.Plugged {
			if !a.Force && s.guestUses(ctx, id) {
				s.update(id, func(v *volume) {
					if a := v.on(instanceID); !a.Force { // not forced meanwhile
						a.State = busy
					}
				})
				return
			}
			if err := s.opts.Plugger.Unplug(ctx, id); err != nil {
				s.opts.Log.Warn("volume stays detaching: the machine did not give it up", "volume", id, "error", err)
				return
			}
		}
		s.update(id, func(v *volume) {
			v.Attachments = slices.DeleteFunc(v.Attachments, func(a attachment) bool { return a.Instance == instanceID })
			if len(v.Attachments) == 0 {
				v.State = available
			}
			if v.Stick == detaching {
				v.Stick = ""
			}
		})
		s.release(id)
	}
}

func (s *Server) guestUses(ctx context.Context, id string) bool {
	used, err := s.opts.Plugger.InUse(ctx, id)
	if err != nil {
		s.opts.Log.Warn("cannot tell whether the guest uses a volume", "volume", id, "error", err)
	}
	return used || err != nil
}
