// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/volseal/volseal/internal/fault"
)

// observed is one pass's view of the world: the facts that decide, and what
// the steps need to act.
type observed struct {
	spec     Spec
	claim    Claim
	volumeID string
	device   Device
	header   HeaderFact
	cloud    CloudVolume
	mapping  Mapping
	pending  Mapping
	mount    MountFact
	facts    Facts
	complete bool // everything on this host was seen
}

// observe looks at everything on this host. EC2 is asked apart (askCloud), and
// only when its answer can change what happens.
func (w *worker) observe(ctx context.Context) (observed, error) {
	o, err := w.recall()
	if err != nil {
		return o, err
	}
	for _, look := range []func(context.Context, *observed) error{
		w.lookMapping, w.lookMount, w.lookDevice, w.lookHeader,
	} {
		if err := look(ctx, &o); err != nil {
			return o, err
		}
	}
	o.facts.Mapping = o.mappingState()
	o.facts.Proved = w.proof != nil && w.ports.Keyring.Valid(w.proof)
	if !o.facts.open() && o.facts.Mount == MountNone {
		w.rebuild = false // all is closed: from here on it is an ordinary opening
		o.facts.Rebuild = false
	}
	o.complete = true
	return o, nil
}

// recall is what configuration and claim say.
func (w *worker) recall() (observed, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.claimErr != nil { // perhaps somebody mended it
		w.claim, w.claimErr = w.ports.Claims.Load(w.spec.Name)
	}
	o := observed{spec: w.spec, claim: w.claim, volumeID: w.spec.VolumeID}
	if w.claimErr != nil {
		o.facts.Wish = WishMounted
		return o, w.claimErr
	}
	if o.volumeID == "" {
		o.volumeID = w.claim.VolumeID
	}
	o.facts = Facts{
		Wish: w.claim.Wish, Rebuild: w.rebuild, InitWanted: w.init, MayAttach: w.spec.Attach,
		Quarantined: w.claim.Quarantine != nil, Stage: w.claim.Stage,
	}
	if o.volumeID == "" {
		return o, &fault.Error{
			Class: fault.Misconfigured, Reason: "no-volume-id",
			Cause: "No EBS volume is known for this name.",
			Hint:  "Set volume_id in the volume's configuration and reload.",
		}
	}
	return o, nil
}

func (w *worker) lookMapping(ctx context.Context, o *observed) (err error) {
	if o.mapping, err = w.ports.Crypt.Mapping(ctx, o.spec.Mapping()); err != nil {
		return err
	}
	o.pending, err = w.ports.Crypt.Mapping(ctx, o.spec.Pending())
	o.facts.Pending = o.pending.Present
	return err
}

func (w *worker) lookMount(ctx context.Context, o *observed) (err error) {
	o.mount, err = w.ports.Mounts.Find(ctx, o.mapping, o.spec.Mountpoint)
	switch {
	case err != nil:
		return err
	case o.mount.Mounted:
		o.facts.Mount = MountHere
	case len(o.mount.Others) > 0:
		o.facts.Mount = MountElsewhere
	case o.mount.Occupied:
		o.facts.Mount = MountForeign
	}
	return nil
}

func (w *worker) lookDevice(ctx context.Context, o *observed) (err error) {
	o.device, err = w.ports.Devices.Find(ctx, o.volumeID)
	if errors.Is(err, ErrNoDevice) {
		return nil
	}
	o.facts.Device = err == nil
	return err
}

// lookHeader is skipped where the header cannot change what happens next.
func (w *worker) lookHeader(ctx context.Context, o *observed) (err error) {
	if !o.facts.Device || o.mapping.Present || o.facts.Wish != WishMounted || o.facts.Quarantined {
		return nil
	}
	o.header, err = w.ports.Crypt.Look(ctx, o.device)
	o.facts.Header = o.header.State
	return err
}

// mappingState trusts a mapping by what lies beneath it, never by its name.
func (o *observed) mappingState() MappingState {
	m := o.mapping
	switch {
	case !m.Present:
		return MapAbsent
	case m.Suspended, o.claim.LUKSUUID == "", m.UUID != o.claim.LUKSUUID:
		return MapUnsound
	case o.facts.Device && !slices.Equal(m.Backing, []Backing{{o.device.Major, o.device.Minor}}):
		return MapUnsound
	}
	return MapSound
}

// needsCloud reports whether EC2's word can change what happens.
func (f Facts) needsCloud(released bool) bool {
	if f.Quarantined && f.Wish == WishMounted {
		return false
	}
	switch f.Wish {
	case WishMounted:
		p := f.phase()
		return !f.open() && p != Mounted && p != Quarantined
	case WishDetached:
		return !f.open() && f.Mount == MountNone && (f.Device || !released)
	}
	return false
}

// askCloud asks EC2 about the volume and refuses what must not be opened.
// Where configuration leaves nothing for EC2 to say, the device speaks for itself.
func (w *worker) askCloud(ctx context.Context, o *observed) error {
	if !o.spec.Attach && !o.spec.RequireEBSEncryption {
		o.facts.Cloud = CloudAttaching
		if o.facts.Device {
			o.facts.Cloud = CloudAttached
		}
		return nil
	}
	v, err := w.ports.Cloud.Volume(ctx, o.volumeID)
	if err != nil {
		return err
	}
	o.cloud = v
	o.facts.Cloud = cloudState(v, time.Now())
	if o.facts.Wish != WishMounted {
		return nil
	}
	return admissible(o.spec, v)
}

func cloudState(v CloudVolume, now time.Time) CloudState {
	switch v.Attachment {
	case "attached", "busy":
		return CloudAttached
	case "attaching":
		if !v.Since.IsZero() && now.Sub(v.Since) > stuckAfter {
			return CloudStuck
		}
		return CloudAttaching
	case "detaching":
		return CloudDetaching
	}
	switch {
	case v.Elsewhere != "":
		return CloudElsewhere
	case v.State == "available":
		return CloudDetached
	case v.State == "in-use":
		return CloudDetaching // attached to nobody, yet not free: on its way
	}
	return CloudUnusable
}

// admissible refuses a volume that EC2 describes as one we must not open.
func admissible(s Spec, v CloudVolume) error {
	switch {
	case s.RequireEBSEncryption && !v.Encrypted:
		return &fault.Error{
			Class: fault.Misconfigured, Reason: "ebs-unencrypted",
			Cause: fmt.Sprintf("EC2 reports that %s is not encrypted at the EBS layer.", v.ID),
			Hint:  "Create the volume anew with encryption under the CMK. Or set require_ebs_encryption: false, if the envelope layer alone is acceptable.",
		}
	case v.MultiAttach:
		return &fault.Error{
			Class: fault.Misconfigured, Reason: "multi-attach",
			Cause: fmt.Sprintf("EC2 allows %s to be attached to several instances at once.", v.ID),
			Hint:  "Turn Multi-Attach off for the volume: two hosts that write one ext4 or xfs destroy it.",
		}
	}
	return nil
}
