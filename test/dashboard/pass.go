// SPDX-License-Identifier: Apache-2.0

package dashboard

import (
	"time"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// cacheTTL is how long a data key is kept after its proof.
const cacheTTL = 5 * time.Minute

// pass is what an agent does between two scrapes.
func (h *host) pass(w *world, at time.Duration) {
	h.now = at
	if fresh := h.fresh; h.down || h.stuck || fresh {
		h.fresh = false
		return // Prometheus sees an agent's counters at 0 first
	}
	h.waits = fault.None
	for _, d := range h.disks {
		switch {
		case d.Phase == volume.Quarantined || d.Wish == volume.WishSealed:
		case d.Phase == volume.Mounted:
			h.probe(w, d)
		default:
			h.open(w, d)
		}
	}
	for database, proved := range h.held {
		if at-proved > cacheTTL {
			h.forget(database, "expired")
		}
	}
	h.lag = h.around(15 * time.Second)
	h.m.Reconciled("")
}

// probe is the canary of a mounted volume, and its policy.
func (h *host) probe(w *world, d *disk) {
	if h.prove(w, d); d.Class == fault.Revoked && d.freezes && h.now-d.revoked >= grace {
		h.step(d, volume.StepFreeze, fault.None, time.Second)
		d.Phase, d.Mapping = volume.Sealed, "volseal-"+d.Name
	}
}

// open takes a volume as far as it comes.
func (h *host) open(w *world, d *disk) {
	if d.Phase == volume.Detached {
		h.attach(d)
	}
	next := volume.StepOpen
	if d.Frozen() {
		next = volume.StepResume
	}
	if !h.prove(w, d) {
		h.refuse(d, next, 50*time.Millisecond)
		return
	}
	if d.tampered {
		d.Phase, d.Class = volume.Quarantined, fault.Integrity
		h.m.HeaderRejected(d.Name, "mac")
		h.refuse(d, next, 300*time.Millisecond)
		return
	}
	h.step(d, next, fault.None, 800*time.Millisecond)
	h.step(d, volume.StepMount, fault.None, 400*time.Millisecond)
	d.Phase, d.Mapping, d.WouldSurviveReboot = volume.Mounted, "volseal-"+d.Name, true
}

func (h *host) attach(d *disk) {
	h.m.EC2Request("DescribeVolumes", fault.None, 0)
	if h.rand.Float64() < 0.2 {
		h.m.EC2Request("AttachVolume", fault.Throttled, 0)
		h.step(d, volume.StepAttach, fault.Throttled, 300*time.Millisecond)
	}
	h.m.EC2Request("AttachVolume", fault.None, 0)
	h.step(d, volume.StepAttach, fault.None, 900*time.Millisecond)
	h.step(d, volume.StepAwait, fault.None, 4*time.Second)
	d.Phase = volume.Sealed
}

func (h *host) refuse(d *disk, s volume.Step, took time.Duration) {
	h.step(d, s, d.Class, took)
	h.m.MountRefused(d.Name, d.Class)
}

// prove has the volume's data key proved, and notes what came of it.
func (h *host) prove(w *world, d *disk) bool {
	class := h.ask(w, d)
	if class == fault.Revoked && d.Class != fault.Revoked {
		d.revoked = h.now
	}
	d.Class, d.WouldSurviveReboot = class, class == fault.None && d.Phase == volume.Mounted
	if class != fault.None {
		h.m.DecryptFailed(d.Name, class)
		return false
	}
	now := begin().Add(h.now)
	d.LastProof = &now
	return true
}

// ask calls KMS, unless a proof of this moment is at hand or the call is held back.
func (h *host) ask(w *world, d *disk) fault.Class {
	if proved, ok := h.held[d.database()]; ok && proved == h.now {
		h.m.CacheHit()
		return fault.None
	}
	h.m.CacheMiss()
	if h.waits != fault.None {
		h.m.CallHeld(h.waits)
		return h.waits
	}
	class := w.answer(h.name, d.customer, h.now, h.rand.Float64())
	h.m.KMSRequest("Decrypt", class, h.latency(class))
	if class == fault.None {
		h.held[d.database()] = h.now
		h.keys.Record(d.KeyARN, nil)
		return class
	}
	h.keys.Record(d.KeyARN, &fault.Error{Class: class})
	switch class {
	case fault.Revoked:
		h.forget(d.database(), "revoked")
	case fault.Unreachable, fault.Throttled:
		h.waits = class
	default:
	}
	return class
}

// latency of KMS: most answers are quick, some are not, and silence takes the timeout.
func (h *host) latency(class fault.Class) time.Duration {
	switch {
	case class == fault.Unreachable:
		return 5 * time.Second
	case h.rand.Float64() < 0.03:
		return h.around(400 * time.Millisecond)
	}
	return h.around(25 * time.Millisecond)
}
