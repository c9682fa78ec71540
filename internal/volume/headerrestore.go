// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/volseal/volseal/internal/fault"
)

// HeaderOrder says which image to put back, and what about it is accepted, as it
// came over the socket.
type HeaderOrder struct {
	From          string `json:"from,omitempty"`           // a file in the volume's directory of headers
	Generation    int    `json:"generation,omitempty"`     // else the newest backup of this one; 0: of the claim's
	AcceptOlder   bool   `json:"accept_older,omitempty"`   // though it brings back keys that were replaced
	AcceptForeign bool   `json:"accept_foreign,omitempty"` // though this host knows another UUID, or none
}

// HeaderRestored is what a restoration did.
type HeaderRestored struct {
	Volume     string `json:"volume"`
	Path       string `json:"path"` // of the image
	Generation int    `json:"generation"`
	UUID       string `json:"uuid"`
	Written    bool   `json:"written"`    // false: the device had it already
	Replaced   string `json:"replaced"`   // path of what was there before; "" if nothing was written
	Quarantine string `json:"quarantine"` // the reason of one that stands, having another cause; "" if none
}

// The order in which a header is put back, and what a crash after each line leaves:
//
//	judge the image, prove, try the keyslot   nothing
//	set aside what is on the device           a file more
//	write, flush, read back                   a header that is refused, never a blank one: said again, it is completed
//	judge the device, try the keyslot         the header, and perhaps a quarantine still
//	claim: UUID, generation, no quarantine    an ordinary sealed, or mounted, volume
//
// No intent is recorded: whoever says it again completes it, and until then the
// volume is as closed as before.

// RestoreHeader puts a header image onto the device. Errors: ErrNoSuchVolume,
// *ConflictError, *fault.Error. Whatever it returns, nothing was lost.
func (r *Reconciler) RestoreHeader(ctx context.Context, name string, order HeaderOrder) (HeaderRestored, error) {
	return ask(ctx, r, name, func(ctx context.Context, w *worker, o observed) (HeaderRestored, error) {
		if err := w.reachable(ctx, o); err != nil {
			return HeaderRestored{}, err
		}
		if err := restorable(o); err != nil {
			return HeaderRestored{}, err
		}
		w.ports.Keyring.ForgetRefusals(o.spec.KeyARN)
		// A write that was begun is ended: neither an agent that stops nor an operator
		// who leaves cuts it short.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), openLimit)
		defer cancel()
		done, err := w.restoreHeader(ctx, o, order)
		w.look()
		return done, err
	})
}

// restorable is which volumes may have their header written. One that is open may:
// dm-crypt read the header when it was opened and does not look at it again. What
// is open must then be this host's volume and the only thing on the device; that
// the image has the same UUID is seen to apart. Not so where init has not finished:
// it goes on by itself, and to restore then would hide that no data are there.
func restorable(o observed) error {
	f := o.facts
	switch {
	case o.claim.Reencrypt.onDevice():
		return reencryptConflict(o.spec.Name)
	case f.Pending:
		return &ConflictError{Message: "The volume is just being opened.", Hint: "Try again in a moment."}
	case f.Stage == StageHeader, f.Stage == StageFilesystem, f.Making == MakingBlank:
		return &ConflictError{
			Message: "The volume's init has not finished, and goes on by itself.",
			Hint:    "See volseal explain " + o.spec.Name + " for what keeps it.",
		}
	case o.moved():
		return misconfigured("volume-changed", fmt.Sprintf("The configuration names %s; this host's headers of %s are of %s.", o.volumeID, o.spec.Name, o.claim.VolumeID),
			"Put the old volume_id back and reload. If the change is meant, move the claim away from /var/lib/volseal/claims first.")
	case slices.Contains([]MappingState{MapUnsound, MapLost, MapStranded, MapWedged}, f.Mapping):
		return integrity("mapping-unsound", "What is open as "+o.spec.Mapping()+" is not this volume on this device.",
			"Close it first: volseal lock "+o.spec.Name+". Save what its database can still read before.")
	}
	return nil
}

func (w *worker) restoreHeader(ctx context.Context, o observed, order HeaderOrder) (HeaderRestored, error) {
	path, err := w.imageOf(o, order)
	if err != nil {
		return HeaderRestored{}, err
	}
	image, err := w.ports.Archive.Judge(o.device, path)
	if err != nil {
		return HeaderRestored{}, ofImage(path, err)
	}
	if err := o.mayTake(image, order); err != nil {
		return HeaderRestored{}, err
	}
	o = o.accepting(order)
	c, err := w.vouch(ctx, o, image)
	if err != nil {
		return HeaderRestored{}, ofImage(path, err)
	}
	if err := w.mayReplace(ctx, o, image, order); err != nil {
		return HeaderRestored{}, err
	}
	done := HeaderRestored{Volume: o.spec.Name, Path: path, Generation: c.Token.Generation, UUID: image.UUID}
	if err := w.replaceHeader(ctx, o, path, &done); err != nil {
		return done, err
	}
	if err := w.verifyWritten(ctx, o, c); err != nil {
		return done, err
	}
	return done, w.claimRestored(o, image, c, &done)
}

// imageOf finds the image. Without a word about it: the newest of the generation
// that this host knows, or of any if it knows none.
func (w *worker) imageOf(o observed, order HeaderOrder) (string, error) {
	generation := order.Generation
	if generation == 0 {
		generation = o.claim.Generation
	}
	if generation == 0 {
		backups, err := w.ports.Claims.Backups(o.spec.Name)
		if err != nil {
			return "", err
		}
		for _, b := range backups {
			generation = max(generation, b.Generation)
		}
	}
	return w.ports.Claims.Find(o.spec.Name, order.From, generation)
}

// mayTake refuses another volume's header, and an older one of this volume,
// unless the operator said so in as many words. No word lets another volume's
// header onto the device of one that is open.
func (o observed) mayTake(image *Header, order HeaderOrder) error {
	known := cmp.Or(o.claim.LUKSUUID, o.mapping.UUID) // what is open tells as well
	if o.mapping.Present && o.mapping.UUID != image.UUID {
		return integrity("uuid", "The image is another volume's header than that of what is open.",
			"Name an image of this volume. To restore another one, lock the volume first.")
	}
	if err := o.expectsKey(image); err != nil && image.UUID == known && !order.AcceptForeign {
		return err
	}
	if image.UUID != known && !order.AcceptForeign {
		cause := "The image is another volume's header: its UUID is not the one that this host recorded."
		if known == "" {
			cause = "This host has no record of the volume, so nothing says that the image belongs to it."
		}
		return integrity("uuid", cause, "With another header nothing on the volume can be read. If you are sure, say it: --accept-foreign.")
	}
	if newest := image.newest(); newest < o.claim.Generation && image.UUID == known && !order.AcceptOlder {
		return integrity("token-generation", fmt.Sprintf("The image is of generation %d; this host has seen generation %d.", newest, o.claim.Generation),
			"An older header brings back a data key that was replaced. If that is meant, say it: --accept-older.")
	}
	return nil
}

// mayReplace refuses an image with another volume key than that of a sound header on
// the device, with which nothing could be read; and one that is older than a sound header on the device: a
// host that has not opened it yet does not know what another did to it. What is not
// sound says nothing; anybody could have written it.
func (w *worker) mayReplace(ctx context.Context, o observed, image *Header, order HeaderOrder) error {
	if err := w.sparesReencryption(ctx, o); err != nil {
		return err
	}
	h, err := w.ports.Crypt.Freeze(ctx, o.device, o.spec.Name)
	if err != nil {
		return exceptBlame(err)
	}
	defer w.ports.Crypt.Discard(h)
	c, err := w.vouch(ctx, o, h)
	switch {
	case err != nil:
		return exceptBlame(err)
	case order.AcceptForeign && (h.UUID != image.UUID || h.Key == image.Key || c.Token.Generation <= image.newest()):
		return nil
	case h.Key != image.Key:
		return otherVolumeKey(o.spec.Name)
	case order.AcceptOlder || c.Token.Generation <= image.newest():
		return nil
	}
	return integrity("token-generation", fmt.Sprintf("The device holds a sound header of generation %d; the image is of generation %d.", c.Token.Generation, image.newest()),
		"The header on the device needs no mending. If the older one is meant, say it: --accept-older.")
}

// sparesReencryption refuses to write over a sound header from the middle of a
// reencryption, which this host need not know of: nothing else tells by which key to
// read what. No word accepts that.
func (w *worker) sparesReencryption(ctx context.Context, o observed) error {
	h, err := w.ports.Reencryptor.FreezeAny(ctx, o.device, o.spec.Name)
	if err != nil {
		return exceptBlame(err)
	}
	defer w.ports.Crypt.Discard(h)
	if h.Unfinished == nil {
		return nil
	}
	if _, err := w.vouch(ctx, o, h); err != nil {
		return exceptBlame(err)
	}
	return &ConflictError{
		Message: "The device holds a reencryption that has not finished, and this host does not know of: with any other header the data is garbage.",
		Hint:    "Have it go on here: volseal unlock " + o.spec.Name + ", and once that is refused, volseal rotate " + o.spec.Name + " --reencrypt.",
	}
}

// exceptBlame leaves out what only says that a header is not as it should be.
func exceptBlame(err error) error {
	if slices.Contains([]fault.Class{fault.Integrity, fault.Misconfigured, fault.Revoked}, fault.ClassOf(err)) {
		return nil
	}
	return err
}

// newest is the highest generation of its tokens.
func (h *Header) newest() int {
	newest := 0
	for _, c := range h.Candidates {
		newest = max(newest, c.Token.Generation)
	}
	return newest
}

// accepting is the volume as the operator's words let it be judged.
func (o observed) accepting(order HeaderOrder) observed {
	if order.AcceptOlder || order.AcceptForeign {
		o.claim.Generation = 0
	}
	if order.AcceptForeign {
		o.claim.LUKSUUID, o.claim.VolumeKey = "", ""
	}
	return o
}

// replaceHeader writes the image, once what is there is safe. What is there
// already is not written.
func (w *worker) replaceHeader(ctx context.Context, o observed, path string, done *HeaderRestored) error {
	draft, err := w.ports.Claims.Draft(o.spec.Name)
	if err != nil {
		return err
	}
	defer os.Remove(draft)
	if err := w.ports.Archive.Save(ctx, o.device, draft); err != nil {
		return err
	}
	same, err := sameFile(draft, path)
	if err != nil || same {
		return archiveFault(err)
	}
	file, err := w.ports.Claims.SetReplacedAside(o.spec.Name, draft)
	if err != nil {
		return err
	}
	done.Written, done.Replaced = true, w.ports.Claims.Image(o.spec.Name, file)
	w.log.Warn("writing a header onto the device", "image", path, "replaced", done.Replaced)
	return w.writeImage(ctx, o, path)
}

// writeImage writes an image onto the device, if that is the volume's still: to
// judge it and to ask KMS took a while, and whoever moves volumes about could have
// another one of this size under the same number by now.
func (w *worker) writeImage(ctx context.Context, o observed, path string) error {
	return w.ports.Archive.Restore(ctx, o.device, path, o.holder(), func(ctx context.Context) error {
		now, err := w.ports.Devices.Find(ctx, o.volumeID)
		if err == nil && now == o.device {
			return nil
		}
		return &fault.Error{
			Class: fault.Unknown, Reason: "device-changed",
			Cause: "The device " + o.device.Path + " is no longer that of " + o.volumeID + "; nothing was written to it.",
			Hint:  "Volumes are being attached or detached. Try again when they have settled.", Err: err,
		}
	})
}

// holder is the mapping that may hold the device while its header is written.
func (o observed) holder() string {
	if o.mapping.Present {
		return o.spec.Mapping()
	}
	return ""
}

// verifyWritten reads the device as an opening does.
func (w *worker) verifyWritten(ctx context.Context, o observed, want Candidate) error {
	h, err := w.ports.Crypt.Freeze(ctx, o.device, o.spec.Name)
	if err != nil {
		return err
	}
	defer w.ports.Crypt.Discard(h)
	c, err := w.vouch(ctx, o, h)
	if err == nil && c.Token.Generation != want.Token.Generation {
		err = integrity("read-back", "The device does not hold the header that was written to it.", "Something else writes to the device. Find it before anything is tried again.")
	}
	return err
}

func (w *worker) claimRestored(o observed, h *Header, c Candidate, done *HeaderRestored) error {
	return w.update(func(cl *Claim) {
		cl.VolumeID, cl.LUKSUUID, cl.Binding = o.volumeID, h.UUID, o.spec.Binding()
		cl.Generation, cl.Stage, cl.Making = c.Token.Generation, StageReady, nil
		if cl.VolumeKey != "" {
			cl.VolumeKey = h.Key
		}
		if cl.Quarantine.mendedByHeader() {
			cl.Quarantine = nil
		}
		if cl.Quarantine != nil {
			done.Quarantine = cl.Quarantine.Reason
		}
	})
}

// mendedByHeader: blame on the disk is blame on its header, but for what was
// found to be wrong with a mapping or a mount. Nil is nothing to mend.
func (q *Quarantine) mendedByHeader() bool {
	return q != nil && q.err().Class == fault.Integrity &&
		!slices.Contains([]string{"mapping-unsound", "device-hidden", "mount-without-mapping", "table", "key-changed", "filesystem-present"}, q.Reason)
}

// look has the next pass begin anew: with the ordinary opening, or, of what is
// mounted, with the exams.
func (w *worker) look() {
	w.mu.Lock()
	w.notes.fresh, w.notes.exam = true, true
	w.mu.Unlock()
	w.ring()
}

// ofImage makes plain that it is the image that is refused, and not the disk.
func ofImage(path string, err error) error {
	var e *fault.Error
	if !errors.As(err, &e) || e.Class != fault.Integrity && e.Class != fault.Misconfigured {
		return err
	}
	told := *e
	told.Cause = "The image " + filepath.Base(path) + " cannot be used: " + e.Cause
	told.Hint = "Nothing was written. " + e.Hint
	if e.Class == fault.Integrity {
		told.Hint = "Nothing was written. Try another backup: see ls -l " + filepath.Dir(path) + "."
	}
	return &told
}
