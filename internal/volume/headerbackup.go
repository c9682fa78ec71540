// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"os"
	"strings"
	"time"

	"github.com/volseal/volseal/internal/envelope"
)

// HeaderBackup is what became of a header's backup.
type HeaderBackup struct {
	Volume string `json:"volume"`
	Backup
	Path    string   `json:"path"`
	Fresh   bool     `json:"fresh"`   // false: the newest one was equal already
	Removed []string `json:"removed"` // older ones, too many by now; never nil
}

// BackUpHeader keeps a copy of the header on the device, if it is sound. Errors:
// ErrNoSuchVolume, *ConflictError, *fault.Error.
func (r *Reconciler) BackUpHeader(ctx context.Context, name string) (HeaderBackup, error) {
	return ask(ctx, r, name, func(ctx context.Context, w *worker, o observed) (HeaderBackup, error) {
		if err := w.reachable(ctx, o); err != nil {
			return HeaderBackup{}, err
		}
		if o.claim.Reencrypt.onDevice() {
			return HeaderBackup{}, reencryptConflict(o.spec.Name)
		}
		w.ports.Keyring.ForgetRefusals(o.spec.KeyARN)
		return w.backUp(ctx, o)
	})
}

// reachable refuses where there is no device to look at, or one that does not
// answer: what a job reads or writes there could keep the worker for ever.
func (w *worker) reachable(ctx context.Context, o observed) error {
	if o.facts.Device {
		_, err := w.fingerprint(ctx, o)
		return err
	}
	return misconfigured("device-missing", "No device of "+o.volumeID+" is attached to this instance.",
		"Attach it: volseal reattach "+o.spec.Name+", or by hand where attach is false. Then try again.")
}

// backUp copies first and judges the copy: what is kept is what was found sound.
func (w *worker) backUp(ctx context.Context, o observed) (HeaderBackup, error) {
	return w.backUpBy(ctx, o, func(draft string) error { return w.ports.Archive.Save(ctx, o.device, draft) })
}

// backUpWritten backs up a header that has just been read. If it is the one that
// a re-wrap wrote, there is a file of it already.
func (w *worker) backUpWritten(ctx context.Context, o observed, h *Header) (HeaderBackup, error) {
	return w.backUpBy(ctx, o, func(draft string) error {
		image, err := w.ports.Archive.Judge(o.device, w.ports.Claims.Image(o.spec.Name, intendedImage))
		if err == nil && image.Sum == h.Sum && os.Link(image.Path, draft) == nil {
			return nil // no file there is ever written to again, only replaced
		}
		return w.ports.Archive.Save(ctx, o.device, draft)
	})
}

func (w *worker) backUpBy(ctx context.Context, o observed, save func(draft string) error) (HeaderBackup, error) {
	draft, err := w.ports.Claims.Draft(o.spec.Name)
	if err != nil {
		return HeaderBackup{}, err
	}
	defer os.Remove(draft) // gone already if it was kept
	if err := save(draft); err != nil {
		return HeaderBackup{}, err
	}
	h, err := w.ports.Archive.Judge(o.device, draft)
	if err != nil {
		return HeaderBackup{}, err
	}
	c, err := w.vouch(ctx, o, h)
	if err != nil {
		return HeaderBackup{}, err
	}
	b, fresh, removed, err := w.ports.Claims.Keep(o.spec.Name, draft, c.Token.Generation)
	if err != nil {
		return HeaderBackup{}, err
	}
	path := w.ports.Claims.Image(o.spec.Name, b.File)
	if fresh {
		w.log.Info("header backed up", "path", path, "removed", strings.Join(removed, " "))
	}
	return HeaderBackup{Volume: o.spec.Name, Backup: b, Path: path, Fresh: fresh, Removed: append([]string{}, removed...)}, nil
}

// vouch judges an image by everything by which an opening judges a device: the
// claim, the pinned CMK and context, a live proof, the MAC, and the keyslot. Like all
// that an operator only asks about, it is not counted as a refused header.
func (w *worker) vouch(ctx context.Context, o observed, h *Header) (Candidate, error) {
	if err := o.expects(h); err != nil {
		return Candidate{}, err
	}
	c, err := w.choose(o, h)
	if err != nil {
		return Candidate{}, err
	}
	proof, err := w.prove(ctx, o.spec, c.Token)
	if err != nil {
		return Candidate{}, err
	}
	defer proof.Release()
	return c, withKey(c, proof, func(p *envelope.Secret) error { return w.try(ctx, h, c, p) })
}

// keepBackup sees to it that there is a backup of the header that a mounted
// volume was accepted with, whoever changed it: init, a re-wrap, a restoration, or
// another host before this one. No failure of it is a reason not to mount.
func (w *worker) keepBackup(ctx context.Context, o observed) {
	if w.canary.token == nil || w.backedUp == w.canary.print || time.Now().Before(w.backupDue) {
		return
	}
	if !w.hasBackup(o) {
		if _, err := w.backUp(ctx, o); err != nil {
			w.backupDue = time.Now().Add(resync)
			w.log.Warn("header not backed up", "error", err, "detail", detail(err))
			return
		}
	}
	w.backedUp = w.canary.print
}

// hasBackup compares fingerprints: after a restart nothing is copied again.
func (w *worker) hasBackup(o observed) bool {
	backups, err := w.ports.Claims.Backups(o.spec.Name)
	if err != nil {
		return false
	}
	b, ok := newestOf(backups, w.canary.token.Generation)
	if !ok {
		return false
	}
	printed, err := w.ports.Archive.Print(w.ports.Claims.Image(o.spec.Name, b.File))
	return err == nil && printed == w.canary.print
}
