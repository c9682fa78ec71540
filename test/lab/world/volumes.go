// SPDX-License-Identifier: Apache-2.0

package world

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/volseal/volseal/test/lab/aws"
	"github.com/volseal/volseal/test/lab/ec2"
	"github.com/volseal/volseal/test/lab/world/control"
)

// settle bounds how long a control waits for what it began.
const settle = 60 * time.Second

func volumeOut(v ec2.Volume) control.Volume {
	out := control.Volume{
		ID: v.ID, State: v.State, SizeGiB: v.SizeGiB, KeyARN: v.KeyARN, MultiAttach: v.MultiAttach, Stick: v.Stick, Tags: v.Tags,
		Attachments: []control.Attachment{},
	}
	for _, a := range v.Attachments {
		out.Attachments = append(out.Attachments, control.Attachment(a))
	}
	return out
}

// settled answers with the volume as it came to rest, or as it is with noWait.
func (w *World) settled(ctx context.Context, id string, noWait bool) (control.Volume, error) {
	if noWait {
		v, err := w.EC2.Volume(id)
		return volumeOut(v), err
	}
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	v, err := w.EC2.WaitVolume(ctx, id)
	return volumeOut(v), err
}

func (w *World) createVolume(ctx context.Context, c call[control.CreateVolume]) (control.Volume, error) {
	spec := ec2.VolumeSpec{
		Size: c.in.SizeGiB, Snapshot: c.in.Snapshot, Zone: cmp.Or(c.in.Zone, Zone), Key: c.in.Key,
		// A snapshot without a key named keeps its encryption, or its lack.
		Encrypted: c.in.Key != "" || !c.in.Unencrypted && c.in.Snapshot == "",
	}
	if c.in.Unencrypted && c.in.Key != "" {
		return control.Volume{}, refuse(http.StatusBadRequest, "BadRequest", "an unencrypted volume has no key")
	}
	id, err := w.EC2.CreateVolume(operator(), spec)
	if err != nil {
		return control.Volume{}, err
	}
	v, err := w.settled(ctx, id, c.in.NoWait)
	var gone *aws.Error
	if errors.As(err, &gone) && gone.Code == "InvalidVolume.NotFound" {
		return v, refuse(http.StatusConflict, gone.Code, "%s was created and vanished: its key is not usable", id)
	}
	return v, err
}

func (w *World) listVolumes(context.Context, call[none]) ([]control.Volume, error) {
	out := []control.Volume{}
	for _, v := range w.EC2.Volumes() {
		out = append(out, volumeOut(v))
	}
	return out, nil
}

func (w *World) showVolume(_ context.Context, c call[none]) (control.Volume, error) {
	v, err := w.EC2.Volume(c.path("id"))
	return volumeOut(v), err
}

func (w *World) volumeImage(_ context.Context, c call[none]) (control.Image, error) {
	path, err := w.EC2.ImagePath(c.path("id"))
	return control.Image{Path: path}, err
}

func (w *World) attachVolume(ctx context.Context, c call[control.Move]) (control.Volume, error) {
	id := c.path("id")
	if err := w.EC2.Attach(operator(), id, cmp.Or(c.in.Instance, Instance)); err != nil {
		return control.Volume{}, err
	}
	return w.settled(ctx, id, c.in.NoWait)
}

func (w *World) detachVolume(force bool) func(context.Context, call[control.Move]) (control.Volume, error) {
	return func(ctx context.Context, c call[control.Move]) (control.Volume, error) {
		id := c.path("id")
		if err := w.EC2.Detach(id, c.in.Instance, force); err != nil {
			return control.Volume{}, err
		}
		return w.settled(ctx, id, c.in.NoWait)
	}
}

func (w *World) deleteVolume(_ context.Context, c call[none]) (none, error) {
	return none{}, w.EC2.DeleteVolume(c.path("id"))
}

func (w *World) stickVolume(_ context.Context, c call[control.Stick]) (none, error) {
	return none{}, w.EC2.Stick(c.path("id"), c.in.Transition)
}

func (w *World) setMultiAttach(_ context.Context, c call[control.MultiAttach]) (none, error) {
	return none{}, w.EC2.SetMultiAttach(c.path("id"), c.in.Enabled)
}

// writeVolume takes the bytes as they are: PUT …/data?offset=N.
func (w *World) writeVolume(rw http.ResponseWriter, r *http.Request) {
	offset, err := number(r, "offset")
	if err != nil {
		fail(rw, err)
		return
	}
	content, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, maxBody))
	if err != nil {
		fail(rw, refuse(http.StatusRequestEntityTooLarge, "BadRequest", "read content: %v", err))
		return
	}
	if err := w.EC2.WriteImage(r.PathValue("id"), offset, content); err != nil {
		fail(rw, err)
		return
	}
	write(rw, http.StatusOK, none{})
}

// readVolume answers with the bytes as they are: GET …/data?offset=N&length=N.
func (w *World) readVolume(rw http.ResponseWriter, r *http.Request) {
	offset, err := number(r, "offset")
	if err != nil {
		fail(rw, err)
		return
	}
	length, err := number(r, "length")
	if err != nil {
		fail(rw, err)
		return
	}
	content, err := w.EC2.ReadImage(r.PathValue("id"), offset, length)
	if err != nil {
		fail(rw, err)
		return
	}
	rw.Header().Set("Content-Type", "application/octet-stream")
	_, _ = rw.Write(content) // a caller who has gone is nobody's error
}

func number(r *http.Request, name string) (int64, error) {
	n, err := strconv.ParseInt(r.URL.Query().Get(name), 10, 64)
	if err != nil {
		return 0, refuse(http.StatusBadRequest, "BadRequest", "%s: %v", name, err)
	}
	return n, nil
}

func snapshotOut(s ec2.Snapshot) control.Snapshot { return control.Snapshot(s) }

func (w *World) createSnapshot(ctx context.Context, c call[control.CreateSnapshot]) (control.Snapshot, error) {
	id, err := w.EC2.CreateSnapshot(w.ctx, operator(), c.in.Volume)
	if err != nil {
		return control.Snapshot{}, err
	}
	return w.finished(ctx, id)
}

func (w *World) copySnapshot(ctx context.Context, c call[control.CopySnapshot]) (control.Snapshot, error) {
	id, err := w.EC2.CopySnapshot(operator(), c.path("id"), c.in.Key)
	if err != nil {
		return control.Snapshot{}, err
	}
	return w.finished(ctx, id)
}

// finished answers with a snapshot that is completed. One in error is an error
// here, for a script to stop at; EC2 itself only shows the state.
func (w *World) finished(ctx context.Context, id string) (control.Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	snap, err := w.EC2.WaitSnapshot(ctx, id)
	if err == nil && snap.State != "completed" {
		err = refuse(http.StatusConflict, "SnapshotError", "%s ended in state %s: %s", id, snap.State, snap.Message)
	}
	return snapshotOut(snap), err
}

func (w *World) showSnapshot(_ context.Context, c call[none]) (control.Snapshot, error) {
	snap, err := w.EC2.Snapshot(c.path("id"))
	return snapshotOut(snap), err
}

func (w *World) deleteSnapshot(_ context.Context, c call[none]) (none, error) {
	return none{}, w.EC2.DeleteSnapshot(c.path("id"))
}
