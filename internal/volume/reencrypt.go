// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
)

// A reencryption gives the data a new volume key, while the database runs. The
// agent prepares and ends it; the work is cryptsetup's, in a unit of its own. The
// order, and what a crash after each line leaves:
//
//	claim: ordered                               nothing else
//	image with both volume keys, tried           the same, and an image
//	claim: the header is being written           the same
//	header with both onto the device             both keys, nothing under the new one; or a torn header,
//	                                             which the image completes
//	read back, judged, both MACs proved
//	claim: begun, image removed                  from here on the device alone says how far it is
//	the unit: cryptsetup reencrypt               some of the data under the new key: it opens with both, and goes on;
//	  …                                          killed in a hot zone, see unwedge
//	the unit ends: the old key is gone           the new key opens the volume; a token without a keyslot is left
//	that token taken out, backup
//	claim: no intent                             done
//
// There is no way back once there are two keys: forward is the only direction in
// which a hot zone can be recovered at any moment.

// ReencryptStage is how far a reencryption is, as far as the claim has to know.
type ReencryptStage string

// The stages.
const (
	ReencryptNone    ReencryptStage = ""
	ReencryptOrdered ReencryptStage = "ordered" // nothing of it is on the device
	ReencryptHeader  ReencryptStage = "header"  // the image may be on the device, or a part of it
	ReencryptBegun   ReencryptStage = "begun"   // the device alone says how far it is; no image is written any more
)

// Reencryption is the intent to give the data a new volume key. The zero value is none.
type Reencryption struct {
	Stage      ReencryptStage `json:"stage"`
	Generation int            `json:"generation,omitempty"` // of the token that the volume will have; 0 until that is known
	Rate       int            `json:"rate,omitempty"`       // MiB a second; 0 is the default
	Paused     bool           `json:"paused,omitempty"`
}

func (r Reencryption) wanted() bool { return r.Stage != ReencryptNone }

// onDevice reports that there may be two volume keys in the header.
func (r Reencryption) onDevice() bool { return r.Stage == ReencryptHeader || r.Stage == ReencryptBegun }

// adopted reports that it goes on by an operator's word alone: this host did not begin
// it, and has not opened the volume with it yet.
func (r Reencryption) adopted() bool { return r.Stage == ReencryptBegun && r.Generation == 0 }

func (r Reencryption) validate() error {
	switch r.Stage {
	case ReencryptNone:
		if r != (Reencryption{}) {
			return errors.New("the reencryption is incomplete")
		}
	case ReencryptOrdered, ReencryptHeader, ReencryptBegun:
	default:
		return fmt.Errorf("the reencryption is at %q, which is not known to this agent", r.Stage)
	}
	if r.Rate < 0 || r.Rate > MaxRate {
		return fmt.Errorf("the reencryption has the rate %d", r.Rate)
	}
	return nil
}

// The pace. While a hot zone is moved from one key to the other, I/O to it waits;
// it is small enough that this takes about a tenth of a second each for reading
// and for writing it at the rate that is allowed.
const (
	DefaultRate = 32 // MiB a second read, and as many written: about half of what gp3 has by default
	MaxRate     = 4096

	minHotzone = 64 << 10
	maxHotzone = 8 << 20
)

func (r Reencryption) bytesPerSecond() int64 {
	if r.Rate == 0 {
		return DefaultRate << 20
	}
	return int64(r.Rate) << 20
}

func (r Reencryption) hotzone() int64 {
	const sector = 4096
	return min(max(r.bytesPerSecond()/10/sector*sector, minHotzone), maxHotzone)
}

// reencrypting is what a worker remembers of a reencryption.
type reencrypting struct {
	failing failing
	runs    bool // its unit, when the pass began
	looked  time.Time
	done    int64
	total   int64
	read    time.Time
	reading chan progressed // a read of the device that has not ended yet
	began   bool            // the unit, by this process, and nothing else happened since
	from    int64           // done, then
	rate    int             // with which it was started, then
}

type progressed struct {
	is  *Unfinished
	err error
}

// lookJob asks systemd before anything of the kernel is looked at: devices that a
// running job has made and one that has just ended takes away must never pass for
// what a killed one left behind.
func (w *worker) lookJob(ctx context.Context, o *observed) (err error) {
	if o.claim.Reencrypt.Stage != ReencryptBegun {
		w.work.runs = false
		return nil
	}
	if !w.work.runs || time.Since(w.work.looked) >= workFresh {
		w.work.runs, err = w.ports.Jobs.Running(ctx, o.spec.Name)
		w.work.looked = time.Now()
	}
	o.runs = w.work.runs
	return err
}

// workFresh is how long it may be taken for granted that a unit which ran runs: each
// of its zones makes events that ring the bell.
const workFresh = time.Second

// lookProgress reads how far it is. Not to know that is no failure.
func (w *worker) lookProgress(ctx context.Context, o *observed) {
	if o.claim.Reencrypt.Stage != ReencryptBegun || !o.facts.Device || w.work.runs && time.Since(w.work.read) < workFresh {
		return
	}
	w.work.read = time.Now()
	if w.work.reading == nil {
		ch, dev := make(chan progressed, 1), o.device
		w.work.reading = ch
		go func() {
			is, err := w.ports.Reencryptor.Progress(ctx, dev)
			ch <- progressed{is, err}
		}()
	}
	patience := time.NewTimer(readPatience)
	defer patience.Stop()
	select {
	case p := <-w.work.reading:
		w.work.reading = nil
		switch {
		case p.err != nil:
			w.log.Debug("progress not read", "error", p.err)
		case p.is != nil:
			w.work.done, w.work.total = p.is.Done, p.is.Total
			if w.work.began && w.work.done != w.work.from {
				w.work.failing = failing{}
			}
		default:
			w.work.done = w.work.total // it has ended
		}
	case <-ctx.Done():
	case <-patience.C:
	}
}

// reencryptState is what is to be done about a reencryption in this pass.
func (w *worker) reencryptState(o observed) ReencryptState {
	r := o.claim.Reencrypt
	switch {
	case !r.wanted() || o.claim.Rewrap.wanted() && r.Stage == ReencryptOrdered:
		return ReencryptIdle
	case w.work.runs && (r.Paused || w.work.began && w.work.rate != r.Rate):
		return ReencryptHalting
	case w.work.runs:
		return ReencryptRuns
	case r.Paused, time.Now().Before(w.work.failing.retry):
		return ReencryptWaits
	}
	return ReencryptDue
}

// reencrypt does what is left of a reencryption, but for the work itself.
func (w *worker) reencrypt(ctx context.Context, o observed) error {
	ctx, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	if err := w.stalled(o); err != nil {
		return err
	}
	h, err := w.freeze(ctx, o)
	if err != nil {
		return err
	}
	defer w.ports.Crypt.Discard(h)
	c, err := w.choose(o, h)
	if err != nil {
		return w.rejected(o, err)
	}
	proof, err := w.prove(ctx, o.spec, c.Token)
	if err != nil {
		return err
	}
	defer proof.Release()
	return w.withPassphrase(o, c, proof, func(p *envelope.Secret) error {
		switch {
		case h.Unfinished != nil && o.claim.Reencrypt.Stage == ReencryptBegun:
			return w.startJob(ctx, o, h, p)
		case h.Unfinished != nil:
			return w.reencryptionBegun(ctx, o, h, c, p)
		case o.claim.Reencrypt.Stage == ReencryptBegun:
			return w.endReencryption(ctx, o, h, c)
		}
		return w.putReencryption(ctx, o, c, proof, p)
	})
}

// stalled tells of a unit that ended without having got any further.
func (w *worker) stalled(o observed) error {
	if !w.work.began || o.claim.Reencrypt.Stage != ReencryptBegun {
		return nil
	}
	w.work.began = false
	if w.work.done != w.work.from {
		return nil
	}
	return unknown("reencryption-failed", "The unit that reencrypts the volume has ended and got no further.",
		"Read what cryptsetup says: journalctl -b -u volseal-reencrypt-"+o.spec.Name+".service. It is tried again.")
}

// putReencryption puts a header with both volume keys onto the device.
func (w *worker) putReencryption(ctx context.Context, o observed, c Candidate, proof *envelope.Proof, p *envelope.Secret) error {
	if _, err := w.ports.Reencryptor.ReencryptCommand(ctx, o.spec.Mapping(), minHotzone); err != nil {
		return err // a cryptsetup that must not do it
	}
	if _, err := w.ports.Claims.Draft(o.spec.Name); err != nil { // makes the directory
		return err
	}
	path := w.ports.Claims.Image(o.spec.Name, intendedImage)
	same, mac, err := proof.Derive(c.Token.Salt) // now: to build the image may take longer than the proof is good for
	if err != nil {
		return err
	}
	same.Destroy()
	defer mac.Destroy()
	seal := func(keyslot int, meaning []byte) (envelope.Token, error) {
		t := c.Token
		t.Keyslots, t.Generation, t.MAC = []string{strconv.Itoa(keyslot)}, t.Generation+1, nil
		return t, t.Seal(mac, meaning)
	}
	if err := w.ports.Reencryptor.BeginReencryption(ctx, o.device, path, c.Token, p, seal); err != nil {
		return err
	}
	h, err := w.judgeIntended(o, path)
	if err != nil {
		return err
	}
	as := o
	as.claim.Reencrypt.Stage, as.claim.Reencrypt.Generation = ReencryptHeader, c.Token.Generation+1
	if _, err := w.vouch(ctx, as, h); err != nil {
		return err
	}
	recorded := false
	err = w.update(func(cl *Claim) { // under w.mu
		if cl.Reencrypt.wanted() && !cl.Rewrap.wanted() { // else an operator spoke meanwhile
			recorded = true
			cl.Reencrypt.Stage, cl.Reencrypt.Generation = ReencryptHeader, c.Token.Generation+1
		}
	})
	if err != nil || !recorded {
		return err
	}
	return w.writeImage(ctx, o, path)
}

// reencryptionBegun is the point after which no image is written any more: what is
// on the device was read back from it, and its MACs and both keyslots tried.
func (w *worker) reencryptionBegun(ctx context.Context, o observed, h *Header, c Candidate, p *envelope.Secret) error {
	if err := w.ports.Crypt.Try(ctx, h, c.Keyslot, p); err != nil {
		return err
	}
	path := w.ports.Claims.Image(o.spec.Name, intendedImage)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return archiveFault(err)
	}
	return w.update(func(cl *Claim) { cl.Reencrypt.Stage, cl.Reencrypt.Generation = ReencryptBegun, h.Unfinished.Generation })
}

// startJob has systemd start the work.
func (w *worker) startJob(ctx context.Context, o observed, h *Header, p *envelope.Secret) error {
	r := o.claim.Reencrypt
	command, err := w.ports.Reencryptor.ReencryptCommand(ctx, o.spec.Mapping(), r.hotzone())
	if err != nil {
		return err
	}
	if err := w.ports.Reencryptor.CloseLayers(ctx, o.spec.Mapping(), h.UUID); err != nil {
		return err
	}
	err = w.ports.Jobs.Run(ctx, Job{
		Name: o.spec.Name, Command: command, Stdin: p,
		Mountpoint: o.spec.Mountpoint, Device: o.device.Path, Rate: r.bytesPerSecond(),
	})
	if err != nil {
		return err
	}
	w.work.began, w.work.from, w.work.rate = true, h.Unfinished.Done, r.Rate
	w.log.Info("reencryption at work", "done", h.Unfinished.Done, "total", h.Unfinished.Total, "rate_mib", r.bytesPerSecond()>>20)
	return nil
}

// endReencryption cleans up behind a reencryption that has finished: the token that
// has lost its keyslot goes, and what opens the volume now is backed up.
func (w *worker) endReencryption(ctx context.Context, o observed, h *Header, c Candidate) error {
	if err := w.ports.Reencryptor.CloseLayers(ctx, o.spec.Mapping(), h.UUID); err != nil { // if one was held a moment too long
		return err
	}
	if err := w.leaveToken(ctx, o, c.Token); err != nil {
		return err
	}
	if _, err := w.backUp(ctx, o); err != nil {
		return err
	}
	err := w.update(func(cl *Claim) { cl.Reencrypt, cl.VolumeKey, cl.Generation = Reencryption{}, h.Key, c.Token.Generation })
	if err != nil {
		return err
	}
	w.work = reencrypting{}
	w.canary.token = nil                                        // it lost its keyslot
	w.canary.due = time.Time{}                                  // the next boot would find another header than the last exam did
	os.Remove(w.ports.Claims.Image(o.spec.Name, intendedImage)) // the backup is equal
	w.log.Warn("volume has a new volume key", "generation", c.Token.Generation)
	return nil
}

// judgeIntended judges the image that is to be written as the claim's stage lets it be.
func (w *worker) judgeIntended(o observed, path string) (*Header, error) {
	h, err := w.ports.Reencryptor.JudgeAny(o.device, path)
	if err == nil && (h.Unfinished == nil || h.Unfinished.Done != 0) {
		err = integrity("requirements", "The image is not that of a reencryption that is about to begin.", "It is made anew.")
	}
	return h, err
}

// halt has the work end, as it does whenever it is told to: after its hot zone.
func (w *worker) halt(ctx context.Context, o observed) error {
	w.work.began = false
	return w.ports.Jobs.Halt(ctx, o.spec.Name)
}

// unwedge takes down a volume whose reencryption was killed. I/O to the hot zone
// waits, for ever; and nobody but an opening can tell what is in it, and mend it.
// So all I/O is failed, as a disk that dies would; systemd stops the database and
// unmounts; and the next passes open the volume as after a power cut.
func (w *worker) unwedge(ctx context.Context, o observed) error {
	ctx, cancel := context.WithTimeout(ctx, unmountLimit)
	defer cancel()
	w.dropProof()
	w.work.began = false
	w.progress("taking down what a reencryption left that was killed")
	defer w.progress("")
	w.log.Error("the reencryption was killed: failing the volume's I/O, to open it anew", "mapping", o.spec.Mapping())
	if err := w.ports.Reencryptor.FailLayers(ctx, o.spec.Mapping(), o.mapping.UUID); err != nil {
		return err
	}
	if o.facts.Mount == MountHere {
		if err := w.ports.Mounts.Stop(ctx, o.spec.Mountpoint); err != nil {
			return err
		}
	}
	if err := w.ports.Crypt.Close(ctx, o.spec.Mapping()); err != nil {
		return err
	}
	return w.ports.Reencryptor.CloseLayers(ctx, o.spec.Mapping(), o.mapping.UUID)
}

// reencrypted notes how a step of it got on. Its failure is not the volume's.
func (w *worker) reencrypted(step Step, err error) {
	if err == nil {
		if !w.work.began { // a unit that was started has shown nothing yet
			w.work.failing = failing{}
		}
		return
	}
	f := &w.work.failing
	if class := fault.ClassOf(err); f.n == 0 || fault.ClassOf(f.err) != class {
		*f = failing{step: step, title: step.Title(), since: time.Now()}
		w.logFailure(step, err)
	}
	f.err, f.n = err, f.n+1
	f.retry = time.Now().Add(RetryAfter(fault.ClassOf(err), f.n))
}
