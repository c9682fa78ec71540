// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
)

// Ports are everything a worker needs of the world.
type Ports struct {
	Cloud     Cloud
	Maker     Maker
	Devices   Devices
	Crypt     Crypt
	Formatter Formatter
	Archive   Archive
	Mounts    Mounts

	Reencryptor Reencryptor
	Jobs        Jobs
	Keyring     *envelope.Keyring
	Claims      *Claims
	Keys        *KeyBook
	Recorder    Recorder
	Log         *slog.Logger
}

// worker keeps one volume. Its goroutine alone acts on the volume; operators
// and events leave a note and ring the bell.
type worker struct {
	ports Ports
	log   *slog.Logger
	bell  chan struct{} // capacity one: many rings are one pass
	jobs  chan job      // capacity zero: only a worker that is free takes one
	told  func()        // called after the status changed
	moved func()        // called after the volume was moved to another CMK

	saving sync.Mutex // one change of the claim at a time; held over the disk, never taken under mu

	mu       sync.Mutex // guards the rest of this block; never held over I/O
	spec     Spec
	rival    string // another volume of the configuration with the same EBS volume, or ""
	claim    Claim
	claimErr error
	notes    notes
	status   Status
	doubt    error              // why the next boot would not have this configuration; nil if it would
	probe    time.Duration      // how often a mounted volume's key is proved
	callOff  context.CancelFunc // of a blank check that an operator may call off

	// The rest belongs to the goroutine.
	proof     *envelope.Proof // of a mapping this process opened, until it is mounted
	proved    envelope.Token  // what it proves
	rebuild   bool
	init      bool
	failing   failing
	rotating  failing // of a re-wrap under a mounted volume: it stands in nobody's way
	work      reencrypting
	pause     pause
	awaiting  time.Time // since when EC2 or the kernel has been waited for
	attaching time.Time // since when EC2 has said "attaching", by our own clock
	missing   time.Time // since when EC2 has not known the volume that it named to us
	released  bool      // EC2 has confirmed the detachment
	canary    canary
	condemned time.Time // when a revoked answer last completed what the policy waits for
	cloudSaw  time.Time // when EC2 last said all that a mounted volume needs
	lastProof time.Time
	cloudTold toldByCloud
	cipher    liveCipher
	tried     []tried     // the newest last
	backedUp  Fingerprint // of a header that there is a backup of
	backupDue time.Time   // when a backup that failed is tried again
}

// notes are what operators asked for since the last pass.
type notes struct {
	fresh   bool // anything at all: a pause before a retry ends
	exam    bool // an edit, or what is like one: what was said of the next boot was said of something else
	verb    bool // an operator's verb: it replaces the one before
	rebuild bool
	init    bool
	rotate  bool // an operator's word about the keys: it concerns nothing else
}

func newWorker(spec Spec, probe time.Duration, p Ports, told, moved func()) *worker {
	w := &worker{
		ports: p,
		log:   p.Log.With("volume", spec.Name),
		bell:  make(chan struct{}, 1),
		jobs:  make(chan job),
		told:  told,
		moved: moved,
		spec:  spec,
		probe: probe,
	}
	w.claim, w.claimErr = p.Claims.Load(spec.Name)
	w.status = Status{Name: spec.Name, Phase: Detached, Wish: WishMounted, Who: []fault.Owner{}, Layers: []Layer{}}
	if w.claimErr == nil {
		w.status.Wish, w.status.Rotation = w.claim.Wish, rotationOf(w.claim, w.spec, failing{}, reencrypting{})
	}
	w.describe(&w.status, spec, w.claim)
	return w
}

// ring wakes the worker; it never blocks.
func (w *worker) ring() {
	select {
	case w.bell <- struct{}{}:
	default:
	}
}

// run passes until ctx ends. Ending leaves the volume exactly as it is.
func (w *worker) run(ctx context.Context) {
	defer w.leave(ctx)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
		case <-w.bell:
		case <-timer.C:
		case j := <-w.jobs:
			if ctx.Err() == nil { // else the volume is not ours to work on any more
				w.serve(ctx, j)
				continue // the rest goes on; what needs a pass has rung the bell
			}
		}
		if ctx.Err() != nil {
			return
		}
		timer.Reset(w.passes(ctx))
	}
}

// leave takes back a mapping that this process opened and that was not seen
// mounted: once nobody watches, a start of the mount unit would mount it with
// nobody asked. If it is mounted by now, it is busy and stays.
func (w *worker) leave(ctx context.Context) {
	if w.proof == nil {
		return
	}
	w.dropProof()
	w.mu.Lock()
	s := w.spec
	w.mu.Unlock()
	w.closeNow(ctx, s.Pending())
	w.closeNow(ctx, s.Mapping())
}

// passesInARow bounds the steps taken without a pause; the longest honest way
// (unmount, close, detach, attach, format, open, mount) is shorter.
const passesInARow = 16

// passes makes pass after pass while they get on, and returns how long to rest.
func (w *worker) passes(ctx context.Context) time.Duration {
	for range passesInARow {
		rest, again := w.pass(ctx)
		if !again || ctx.Err() != nil {
			return rest
		}
	}
	w.log.Warn("pausing: too many steps in a row")
	return retryCeiling
}

// pass observes, decides and takes one step. It returns how long to rest, or
// that the next pass should follow at once.
func (w *worker) pass(ctx context.Context) (rest time.Duration, again bool) {
	seq, fresh := w.takeNotes()
	w.settlePin()
	o, err := w.observe(ctx)
	if !fresh && w.pause.lasts(o) {
		return o.rest(time.Until(w.pause.until)), false
	}
	o.seq = seq
	w.forgetExams(o)
	if err == nil {
		err = w.lookHeader(ctx, &o)
	}
	step := StepNone
	if err == nil && o.facts.needsCloud(w.released) {
		err = w.askCloud(ctx, &o)
	}
	if err == nil {
		step = next(o.facts)
		err = o.excuse(w.take(ctx, step, o))
	}
	if ctx.Err() != nil {
		return 0, false // stopping: an error now says nothing about the volume
	}
	rest, again = w.settle(o, step, err)
	w.pause = pause{}
	if err != nil || rest == awaitPoll {
		w.pause = pauseFor(rest, o)
	}
	w.publish(o, seq)
	w.ports.Recorder.Reconciled(o.spec.Name)
	return o.rest(rest), again
}

// frozenLook is how often a suspended volume is looked at. No event tells that
// the host begins to shut down, and that must not wait for suspended I/O.
const frozenLook = 5 * time.Second

// workLook is how often a reencryption is looked at: for how far it is, and
// whether it was killed.
const workLook = 5 * time.Second

func (o observed) rest(d time.Duration) time.Duration {
	if o.facts.suspended() {
		return min(d, frozenLook)
	}
	return d
}

// takeNotes takes up what operators asked for. A new wish forgets old failures:
// what is shown from here on is news about it.
func (w *worker) takeNotes() (seq uint64, fresh bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.notes
	w.notes = notes{}
	if n.verb {
		w.rebuild, w.init = n.rebuild, n.init
		w.ports.Keyring.ForgetRefusals(w.claim.pinned(w.spec).KeyARN) // an operator wants KMS's answer of now
	}
	if n.fresh {
		w.failing, w.awaiting, w.released = failing{}, time.Time{}, false
	}
	if n.fresh || n.rotate {
		w.rotating, w.work.failing = failing{}, failing{}
	}
	if n.exam { // a wish for what is so already waits for none
		w.canary.passed, w.cloudSaw = false, time.Time{}
	}
	return w.status.WishSeq, n.fresh || n.rotate
}

// take takes one step and tells the recorder and the journal.
func (w *worker) take(ctx context.Context, step Step, o observed) error {
	w.tellMaking(step, o)
	switch step {
	case StepNone:
		return w.idle(ctx, o)
	case StepAwait:
		return w.await(o)
	}
	if o.facts.Due != DueNothing && step != StepHalt {
		w.condemned = time.Time{} // spent: should the step fail, KMS is asked again first
	}
	started := time.Now()
	err := w.dispatch(ctx, step, o)
	if ctx.Err() != nil {
		return err
	}
	took := time.Since(started)
	w.ports.Recorder.Step(o.spec.Name, step, fault.ClassOf(err), took)
	if err == nil {
		w.log.Info("step done", "step", string(step), "took", took.Round(time.Millisecond).String())
	}
	return err
}

func (w *worker) dispatch(ctx context.Context, step Step, o observed) error {
	switch step {
	case StepAttach:
		return w.ports.Cloud.Attach(ctx, o.volumeID)
	case StepTakeBack, StepDetach:
		return w.ports.Cloud.Detach(ctx, o.volumeID)
	case StepCreate:
		return w.create(ctx, o)
	case StepForget:
		return w.forget(ctx, o)
	case StepCallOff:
		return w.callOffOrder(ctx, o)
	case StepFormat:
		return w.format(ctx, o)
	case StepWriteHeader:
		return w.writeHeader(ctx, o)
	case StepRewrap:
		return w.rewrap(ctx, o)
	case StepReencrypt:
		return w.reencrypt(ctx, o)
	case StepHalt:
		return w.halt(ctx, o)
	case StepUnwedge:
		return w.unwedge(ctx, o)
	case StepOpen:
		return w.open(ctx, o)
	case StepRenew:
		return w.renew(ctx, o)
	case StepMount:
		return w.mount(ctx, o)
	case StepUnmount:
		return w.unmount(ctx, o)
	case StepClose:
		return w.closeAll(ctx, o)
	case StepFreeze:
		return w.suspend(ctx, o)
	case StepResume:
		return w.resume(ctx, o)
	case StepAbandon:
		return w.abandon(ctx, o)
	default:
		return refusal(o)
	}
}

// settle turns the outcome of a pass into what happens next.
func (w *worker) settle(o observed, step Step, err error) (rest time.Duration, again bool) {
	if step == StepRewrap && o.facts.Rewrap == RewrapDue {
		w.rewrapped(err)
		return 0, true // whatever came of it, the rest goes on
	}
	if step == StepReencrypt {
		w.reencrypted(step, err)
		return 0, true
	}
	if err != nil {
		w.fail(o, step, err)
		if examined(o, step) && w.due(o) != DueNothing {
			return 0, true // the policy acts on the answer of now
		}
		return time.Until(w.failing.retry), false
	}
	if w.failing.step == step || w.failing.step == StepForget && step == StepAttach {
		w.failing = failing{}
	}
	switch step {
	case StepAwait:
		return awaitPoll, false
	case StepNone:
		w.failing, w.awaiting = failing{}, time.Time{}
		w.rebuild, w.init = false, false
		return w.restWhenIdle(o), false
	}
	w.awaiting = time.Time{}
	if step == StepAttach || step == StepDetach || step == StepTakeBack || step == StepCreate {
		return awaitPoll, false // EC2 shows what it was asked only some time later
	}
	return 0, true
}

// idle is the pass in which nothing is to be done: a contradiction is named,
// and a mounted volume's key is proved from time to time.
func (w *worker) idle(ctx context.Context, o observed) error {
	if q := o.claim.Quarantine; q != nil {
		return nil // told already, and shown by status until an operator decides
	}
	if c := o.facts.contradiction(); c != "" {
		return contradictionError(c, o)
	}
	if o.facts.phase() == Mounted {
		w.dropProof()
		w.init = false
		if err := w.checkCanary(ctx, o); err != nil {
			return err
		}
		if !o.claim.Reencrypt.wanted() { // a header that changes all the time needs no backup
			w.keepBackup(ctx, o)
		}
		return filesystemError(o)
	}
	if o.facts.Wish == WishDetached && o.facts.Cloud == CloudDetached {
		w.released = true
	}
	return nil
}

// restWhenIdle is until the next event that no bell announces.
func (w *worker) restWhenIdle(o observed) time.Duration {
	if o.facts.phase() != Mounted {
		return resync
	}
	rest := min(resync, time.Until(w.canary.due))
	if w.rotating.n > 0 {
		rest = min(rest, time.Until(w.rotating.retry))
	}
	if w.work.failing.n > 0 {
		rest = min(rest, time.Until(w.work.failing.retry))
	}
	if o.facts.reencrypting() {
		rest = min(rest, workLook)
	}
	return max(rest, time.Second)
}

// await waits for EC2 or the kernel, and says so when that takes too long.
func (w *worker) await(o observed) error {
	if w.awaiting.IsZero() {
		w.awaiting = time.Now()
	}
	if time.Since(w.awaiting) < awaitPatience {
		return nil
	}
	return awaitError(o)
}
