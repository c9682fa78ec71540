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
	wiped    bool // it is suspended, and its key is gone from the kernel
	mount    MountFact
	facts    Facts
	runs     bool // the unit of its reencryption, before anything else was looked at
	complete bool // everything on this host was seen
	seq      uint64
}

// observe looks at everything on this host but the header (lookHeader), which
// costs a read of the device. EC2 is asked apart (askCloud), and only when its
// answer can change what happens.
func (w *worker) observe(ctx context.Context) (observed, error) {
	o, err := w.recall()
	if err != nil {
		return o, err
	}
	for _, look := range []func(context.Context, *observed) error{
		w.lookJob, w.lookMapping, w.lookMount, w.lookPending, w.lookDevice, w.lookHolders,
	} {
		if err := look(ctx, &o); err != nil {
			return o, err
		}
	}
	o.facts.Mapping = o.mappingState()
	if err := w.lookStopping(ctx, &o); err != nil {
		return o, err
	}
	if o.moved() && o.mapping.Present {
		return o, misconfigured("volume-changed", fmt.Sprintf("The configuration names %s, but %s is open under this name.", o.volumeID, o.claim.VolumeID),
			"Put the old volume_id back and reload. To change volumes, lock this one first.")
	}
	o.facts.Due, o.facts.Rewrap = w.due(o), w.rewrapDue(o)
	if o.facts.Mapping == MapSound {
		w.lookProgress(ctx, &o)
		o.facts.Reencrypt = w.reencryptState(o)
	}
	o.facts.Opened = w.proof != nil
	o.facts.Proved = w.proof != nil && w.ports.Keyring.Valid(w.proof)
	if !o.facts.open() && o.facts.Mount == MountNone {
		w.rebuild = false // all is closed: from here on it is an ordinary opening
		o.facts.Rebuild = false
	}
	w.lookCipher(ctx, o.spec.Mapping(), o.mapping)
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
	o := observed{spec: w.claim.pinned(w.spec), claim: w.claim, volumeID: w.spec.VolumeID}
	if w.claimErr != nil {
		o.facts.Wish = WishMounted
		return o, w.claimErr
	}
	if o.volumeID == "" {
		o.volumeID = w.claim.VolumeID
	}
	o.facts = Facts{
		Wish: w.claim.Wish, Rebuild: w.rebuild, InitWanted: w.init, MayAttach: w.spec.Attach,
		Quarantined: w.claim.Quarantine != nil, Stage: w.claim.Stage, Making: w.claim.making(),
	}
	if w.rival != "" {
		return o, misconfigured("volume-shared", fmt.Sprintf("%s is also the volume of %q.", o.volumeID, w.rival),
			"Give each volume of the configuration an EBS volume of its own.")
	}
	if w.spec.VolumeID != "" && w.claim.Making != nil && w.spec.VolumeID != w.claim.VolumeID {
		return o, misconfigured("volume-ordered", "The configuration names "+w.spec.VolumeID+", but a volume was ordered for this name that is not in use yet.",
			"Take volume_id out and reload. To call the order off, run then: volseal release "+w.spec.Name)
	}
	if o.volumeID == "" && w.claim.Making == nil {
		return o, misconfigured("no-volume-id", "No EBS volume is known for this name.",
			"Have one made, as root: volseal create "+w.spec.Name+" --size GIB. Or set volume_id in the volume's configuration and reload.")
	}
	return o, nil
}

func (w *worker) lookMapping(ctx context.Context, o *observed) (err error) {
	o.mapping, err = w.ports.Crypt.Mapping(ctx, o.spec.Mapping())
	// A suspension by a reencryption lasts a moment, or mappingState tells.
	if err == nil && o.mapping.Suspended && !o.runs {
		err = w.lookSuspended(ctx, o)
	}
	return err
}

// lookPending is skipped for a mounted volume, the usual case by far: nothing of
// an opening can be left there, and to see that a name is absent takes a look at
// every mapping of the host.
func (w *worker) lookPending(ctx context.Context, o *observed) error {
	if o.facts.Mount == MountHere && o.mapping.Present {
		return nil
	}
	m, err := w.ports.Crypt.Mapping(ctx, o.spec.Pending())
	o.facts.Pending = m.Present
	return err
}

// lookSuspended tells a volume that we froze from one that is suspended for a
// moment, as by a resize: nothing is decided in that moment.
func (w *worker) lookSuspended(ctx context.Context, o *observed) (err error) {
	if o.wiped, err = w.ports.Crypt.Wiped(ctx, o.spec.Mapping()); err != nil {
		return err
	}
	if o.wiped || o.claim.freezing() || len(o.mapping.Backing) == 0 || o.claim.Reencrypt.Stage == ReencryptBegun {
		return nil
	}
	return unknown("mapping-suspended", "The mapping "+o.spec.Mapping()+" is suspended.",
		"If it stays so, look at dmsetup info "+o.spec.Mapping()+" for whoever suspended it.")
}

// lookStopping asks only where it changes what happens.
func (w *worker) lookStopping(ctx context.Context, o *observed) (err error) {
	if o.facts.suspended() || o.facts.Mapping == MapLost {
		o.facts.Stopping, err = w.ports.Mounts.Stopping(ctx)
	}
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
	if o.volumeID == "" { // ordered; EC2 has named none yet
		return nil
	}
	o.device, err = w.ports.Devices.Find(ctx, o.volumeID)
	if errors.Is(err, ErrNoDevice) {
		return nil
	}
	o.facts.Device = err == nil
	return err
}

// lookHolders matters only before a device is given back.
func (w *worker) lookHolders(ctx context.Context, o *observed) (err error) {
	if o.facts.Wish != WishDetached || !o.facts.Device || o.mapping.Present || o.facts.Pending {
		return nil
	}
	o.facts.Held, err = w.ports.Crypt.InUse(ctx, o.device)
	return err
}

// lookHeader is skipped where the header cannot change what happens next.
func (w *worker) lookHeader(ctx context.Context, o *observed) (err error) {
	if !o.facts.Device || o.mapping.Present || o.facts.Wish == WishDetached || o.facts.Quarantined {
		return nil
	}
	o.header, err = w.ports.Crypt.Look(ctx, o.device)
	o.facts.Header = o.header.State
	return err
}

// mappingState trusts a mapping by what lies beneath it, never by its name.
// Without a claim that is all there is to know; it only ever means to leave a
// mounted volume alone, since an unmounted mapping is not adopted.
func (o *observed) mappingState() MappingState {
	m := o.mapping
	switch {
	case !m.Present:
		return MapAbsent
	case m.UUID == "", o.claim.LUKSUUID != "" && m.UUID != o.claim.LUKSUUID:
		return MapUnsound
	case m.Layered && o.claim.Reencrypt.Stage != ReencryptBegun:
		return MapUnsound // nobody but us reencrypts it
	case o.wedged():
		return MapWedged
	case len(m.Backing) == 0 && m.Suspended:
		return MapStranded
	case len(m.Backing) == 0:
		return MapLost
	case o.facts.Device && !slices.Equal(m.Backing, []Backing{{o.device.Major, o.device.Minor}}):
		return MapUnsound
	case o.runs:
		return MapSound // whatever is suspended, for a moment
	case m.Suspended && o.wiped:
		return MapFrozen
	case m.Suspended:
		return MapHalted
	}
	return MapSound
}

// wedged reports that the mapping lies upon what a reencryption left that was
// killed, or is suspended as in the moment in which that begins or ends.
func (o *observed) wedged() bool {
	m := o.mapping
	return o.claim.Reencrypt.Stage == ReencryptBegun && !o.runs &&
		(m.Layered || m.Suspended && !o.wiped && !o.claim.freezing() && len(m.Backing) > 0)
}

// needsCloud reports whether EC2's word can change what happens.
func (f Facts) needsCloud(released bool) bool {
	if f.Quarantined && f.Wish == WishMounted || f.Making == MakingOrdered {
		return false
	}
	switch f.Wish {
	case WishMounted:
		p := f.phase()
		return !f.open() && p != Mounted && p != Quarantined
	case WishDetached:
		return !f.open() && f.Mount == MountNone && (f.Device || !released || f.Making != MakingNothing)
	}
	return false
}

// askCloud asks EC2 about the volume and refuses what must not be opened.
// Where configuration leaves nothing for EC2 to say, the device speaks for itself.
func (w *worker) askCloud(ctx context.Context, o *observed) error {
	if !o.spec.Attach && !o.spec.RequireEBSEncryption && o.facts.Making == MakingNothing {
		o.facts.Cloud = CloudAttaching
		if o.facts.Device {
			o.facts.Cloud = CloudAttached
		}
		return nil
	}
	v, err := w.ports.Cloud.Volume(ctx, o.volumeID)
	if o.facts.Making != MakingNothing && unheardOf(err) {
		o.facts.Cloud = w.missingState()
		return nil
	}
	if err != nil {
		return err
	}
	w.missing = time.Time{}
	o.cloud, w.cloudTold = v, toldByCloud{v, time.Now()}
	o.facts.Cloud = w.cloudState(v)
	if o.facts.Wish != WishMounted {
		return nil
	}
	err = admissible(o.spec, v)
	if m := o.claim.Making; err == nil && m != nil {
		err = m.asOrdered(v)
	}
	if err == nil && o.facts.Cloud == CloudAttached {
		w.cloudSaw = time.Now()
	}
	return err
}

// cloudState counts how long EC2 has said "attaching" by our own clock: a host
// whose clock is ahead of EC2's would take back every attachment.
func (w *worker) cloudState(v CloudVolume) CloudState {
	if v.Attachment != "attaching" {
		w.attaching = time.Time{}
	}
	switch v.Attachment {
	case "attached":
		return CloudAttached
	case "attaching":
		if w.attaching.IsZero() {
			w.attaching = time.Now()
		}
		if time.Since(w.attaching) > stuckAfter {
			return CloudStuck
		}
		return CloudAttaching
	case "detaching", "busy":
		return CloudDetaching
	}
	switch {
	case v.Elsewhere != "":
		return CloudElsewhere
	case v.State == "available":
		return CloudDetached
	case v.State == "in-use":
		return CloudDetaching // attached to nobody, yet not free: on its way
	case v.State == "creating":
		return CloudCreating
	case v.State == "error":
		return CloudBroken
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

// moved reports whether configuration now names another EBS volume than the one
// that this host initialised or opened under this name.
func (o *observed) moved() bool {
	return o.claim.Stage == StageReady && o.claim.VolumeID != o.volumeID
}

// excuse turns blame on the disk into blame on the configuration where that was
// edited: putting the edit back must be enough, without anybody having to decide
// about a quarantine.
func (o *observed) excuse(err error) error {
	if !o.moved() || fault.ClassOf(err) != fault.Integrity {
		return err
	}
	return &fault.Error{
		Class: fault.Misconfigured, Reason: "volume-changed",
		Cause: fmt.Sprintf("%s, which the configuration now names instead of %s, cannot take its place: %s", o.volumeID, o.claim.VolumeID, err.Error()),
		Hint:  "Put the old volume_id back and reload. If the change is meant, stop the agent, move the claim away from /var/lib/volseal/claims, and start it.",
		Err:   err,
	}
}
