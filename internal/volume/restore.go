// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/volseal/volseal/internal/fault"
)

// EC2's states of a snapshot that decide.
const (
	snapshotPending   = "pending"
	snapshotCompleted = "completed"
)

// createFrom looks at the snapshot, has it copied where that is needed, and then
// asks for the volume.
func (w *worker) createFrom(ctx context.Context, o observed, m *Making) error {
	if m.Copying != "" {
		return w.createFromCopy(ctx, o, m)
	}
	s, err := w.ports.Maker.Snapshot(ctx, m.Snapshot)
	if err == nil {
		err = serves(o.spec, s)
	}
	if err == nil && m.SizeGiB != s.SizeGiB {
		err = w.note(m, func(_ *Claim, n *Making) { n.SizeGiB = s.SizeGiB })
		m = w.making()
	}
	switch {
	case err != nil:
		return err
	case s.State != snapshotCompleted:
		w.progress(fmt.Sprintf("waiting for %s: %s", s.ID, progressOf(s)))
		return nil
	case s.Ours || s.KeyARN == m.key(o.spec):
		return w.ask(ctx, o, m)
	}
	return w.copySnapshot(ctx, o, m) // EC2 moves only our own snapshots to another CMK by itself
}

// serves refuses a snapshot of which no volume can or may be made.
func serves(s Spec, snap CloudSnapshot) error {
	switch {
	case snap.State != snapshotCompleted && snap.State != snapshotPending:
		return misconfigured("snapshot-state", fmt.Sprintf("EC2 reports %s in state %q. %s", snap.ID, snap.State, snap.Message),
			"Use another snapshot. One in the archive or in the recycle bin has to be restored there first.")
	case s.RequireEBSEncryption && !snap.Encrypted:
		return misconfigured("ebs-unencrypted", fmt.Sprintf("EC2 reports that %s is not encrypted at the EBS layer.", snap.ID),
			"It is not of a volume of this configuration. Or set require_ebs_encryption: false, if the envelope layer alone is acceptable.")
	}
	return nil
}

func progressOf(s CloudSnapshot) string {
	if s.Progress == "" {
		return s.State
	}
	return s.Progress
}

// copySnapshot asks for a copy. There is no client token for it: what is in the
// claim first, and the token in a tag, keep a kill from making two.
func (w *worker) copySnapshot(ctx context.Context, o observed, m *Making) error {
	key := m.key(o.spec)
	if err := w.tryKey(ctx, o.spec, key); err != nil {
		return mayBeUnshared(err, key)
	}
	if err := w.begin(m, func(n *Making) { n.Copying = key }); err != nil {
		return err
	}
	m = w.making()
	id, err := w.ports.Maker.CopySnapshot(ctx, NewCopy{
		Token: m.Token, Name: o.spec.Name, Database: o.spec.Database, KeyARN: key, Snapshot: m.Snapshot,
	})
	switch {
	case err == nil:
		w.missing = time.Time{}
		return w.note(m, func(_ *Claim, n *Making) { n.Copy = id })
	case refused(err):
		return errors.Join(err, w.note(m, func(_ *Claim, n *Making) { n.Copying = "" }))
	}
	return err
}

func (w *worker) createFromCopy(ctx context.Context, o observed, m *Making) error {
	if m.Copy == "" {
		return w.findCopy(ctx, m)
	}
	s, err := w.ports.Maker.Snapshot(ctx, m.Copy)
	switch {
	case unheardOf(err) && w.lagging():
		return nil
	case unheardOf(err):
		return w.copyFailed(ctx, o, m, "it has vanished")
	case err != nil:
		return err
	}
	w.missing = time.Time{}
	switch s.State {
	case snapshotPending:
		w.progress(fmt.Sprintf("copying %s under the CMK: %s", m.Snapshot, progressOf(s)))
		return nil
	case snapshotCompleted:
		return w.ask(ctx, o, m)
	}
	return w.copyFailed(ctx, o, m, fmt.Sprintf("it is in state %s. %s", s.State, s.Message))
}

// findCopy looks for a copy that was asked for and whose id nobody heard. If EC2
// shows none, it was not made, and is asked for again.
func (w *worker) findCopy(ctx context.Context, m *Making) error {
	id, err := w.ports.Maker.FindCopy(ctx, m.Token)
	switch {
	case err != nil:
		return err
	case id != "":
		return w.note(m, func(_ *Claim, n *Making) { n.Copy = id })
	case w.lagging():
		return nil
	}
	w.missing = time.Time{}
	return w.note(m, func(_ *Claim, n *Making) { n.Copying = "" })
}

// copyFailed says why, and gives the copy up. EC2 tells nobody of a copy that
// failed: it only shows.
func (w *worker) copyFailed(ctx context.Context, o observed, m *Making, what string) error {
	why := w.unusableByEC2(ctx, o.spec, m.Copying, &fault.Error{
		Reason: "copy-failed",
		Cause:  "EC2 could not copy " + m.Snapshot + " under the CMK: " + strings.TrimSpace(what),
		Hint:   " " + deleteHint([]string{m.Copy}),
	})
	if ctx.Err() != nil {
		return why
	}
	w.missing = time.Time{}
	return errors.Join(why, w.note(m, func(_ *Claim, n *Making) {
		*n = *n.anew()
		n.Broken, n.Copying, n.Copy = append(n.Broken, m.Copy), "", ""
	}))
}
