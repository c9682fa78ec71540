// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/volseal/volseal/internal/envelope"
)

// Verb is what an operator may ask of a volume.
type Verb string

// The verbs.
const (
	VerbInit     Verb = "init"     // format a blank volume, once, then mount it
	VerbUnlock   Verb = "unlock"   // to Mounted
	VerbLock     Verb = "lock"     // to Sealed, and stay there
	VerbReattach Verb = "reattach" // from any state to Mounted, by a way that begins anew
	VerbRelease  Verb = "release"  // to Detached, and stay there

	// VerbAcceptHeader is reattach by one who put an older header back and knows
	// what that brings back: keys that a rotation had replaced.
	VerbAcceptHeader Verb = "accept-header"

	VerbCreate  Verb = "create"  // have EC2 make a volume, format it, then mount it
	VerbRestore Verb = "restore" // have EC2 make a volume from a snapshot, then mount it

	VerbRotate Verb = "rotate" // other keys under what is mounted; no wish for the volume: see Rotate
)

// Order is what an operator asks of a volume: a verb, and what that verb needs to
// know, as it came over the socket. Nothing of it is validated but by Validate.
type Order struct {
	Verb     Verb   `json:"-"`
	SizeGiB  int    `json:"size_gib,omitempty"` // create
	Snapshot string `json:"snapshot,omitempty"` // restore: snap-…
	KeyARN   string `json:"key_arn,omitempty"`  // restore: the CMK that disk and header move to; "" is the configured one
}

// Reconciler runs one worker a volume. Its methods may be called from anywhere.
type Reconciler struct {
	ports Ports
	woken chan struct{} // capacity one

	mu       sync.Mutex
	ctx      context.Context // nil until Run
	workers  map[string]*running
	wg       sync.WaitGroup
	revision uint64
	changed  chan struct{}
	leaving  map[string]<-chan struct{} // volumes that left the configuration, until their worker has ended
}

type running struct {
	*worker
	stop  context.CancelFunc
	ended chan struct{}   // closed when its goroutine has ended
	after <-chan struct{} // a predecessor of the same name, to be waited for; may be nil
}

// NewReconciler has no volumes until Apply.
func NewReconciler(p Ports) *Reconciler {
	return &Reconciler{
		ports: p, woken: make(chan struct{}, 1),
		workers: map[string]*running{}, leaving: map[string]<-chan struct{}{}, changed: make(chan struct{}),
	}
}

// Run works until ctx ends, and returns when every worker has stopped. All
// volumes stay as they are.
func (r *Reconciler) Run(ctx context.Context) {
	r.mu.Lock()
	r.ctx = ctx
	for _, w := range r.workers {
		r.start(w)
	}
	r.mu.Unlock()
	r.wakeUp(ctx)
	r.wg.Wait()
}

// start is called with r.mu held.
func (r *Reconciler) start(w *running) {
	if r.ctx == nil || r.ctx.Err() != nil {
		return
	}
	ctx, stop := context.WithCancel(r.ctx)
	w.stop = stop
	r.wg.Go(func() {
		defer close(w.ended)
		if w.after != nil {
			<-w.after // it stops at the end of its step
		}
		w.run(ctx)
	})
}

// Apply takes a configuration into use. Volumes that left it are no longer
// worked on, and stay as they are: an edit must not unmount a database.
func (r *Reconciler) Apply(specs []Spec, probe time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	wanted := map[string]bool{}
	var added []*running
	for _, s := range specs {
		wanted[s.Name] = true
		if w, ok := r.workers[s.Name]; ok {
			w.configure(s, probe)
			continue
		}
		w := &running{worker: newWorker(s, probe, r.ports, r.tell, r.keepKeys), ended: make(chan struct{}), after: r.leaving[s.Name]}
		r.workers[s.Name] = w
		added = append(added, w)
	}
	for name, w := range r.workers {
		if !wanted[name] {
			r.ports.Log.Warn("volume left the configuration; it stays as it is", "volume", name)
			if w.stop != nil {
				w.stop()
				r.leaving[name] = w.ended
			}
			delete(r.workers, name)
		}
	}
	r.tellRivals()
	for _, w := range added {
		r.start(w)
	}
	r.listKeys()
	r.bump()
}

// Refs are the CMKs and contexts that the volumes need. They are not always
// those of the configuration: see Pin.
func (r *Reconciler) Refs() []envelope.Ref {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.refs()
}

// refs is called with r.mu held.
func (r *Reconciler) refs() []envelope.Ref {
	var refs []envelope.Ref
	for _, w := range r.workers {
		w.mu.Lock()
		refs = append(refs, w.claim.refs(w.spec)...)
		w.mu.Unlock()
	}
	return refs
}

// keepKeys has the book of CMKs follow a volume that was moved to another one.
func (r *Reconciler) keepKeys() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listKeys()
}

// listKeys is called with r.mu held.
func (r *Reconciler) listKeys() {
	var arns []string
	for _, ref := range r.refs() {
		arns = append(arns, ref.KeyARN)
	}
	r.ports.Keys.Keep(arns)
}

// Doubt tells that the configuration on the disk cannot be used: what is mounted
// runs on, and the next boot would mount none of it. The next Apply ends the doubt.
func (r *Reconciler) Doubt(err error) {
	for _, w := range r.all() {
		w.mu.Lock()
		w.doubt, w.notes.fresh, w.notes.exam = err, true, true
		w.mu.Unlock()
		w.ring()
	}
}

// tellRivals finds volumes that name the same EBS volume, one of them through its
// claim: configuration alone cannot see that. The later name is refused. It is
// called with r.mu held.
func (r *Reconciler) tellRivals() {
	first := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(r.workers)) {
		w := r.workers[name]
		w.mu.Lock()
		id := w.spec.VolumeID
		if id == "" {
			id = w.claim.VolumeID
		}
		w.rival = first[id]
		w.mu.Unlock()
		if id != "" && first[id] == "" {
			first[id] = name
		}
	}
}

// KeysThatWorked are the CMKs of volumes that were initialised: should KMS say
// that it knows no such key, it is gone, and was not just mistyped.
func (r *Reconciler) KeysThatWorked() []string {
	var arns []string
	for _, w := range r.all() {
		w.mu.Lock()
		if w.claim.Stage != StageNone {
			arns = append(arns, w.claim.pinned(w.spec).KeyARN)
		}
		w.mu.Unlock()
	}
	return arns
}

// all is the workers of this moment.
func (r *Reconciler) all() []*running {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Values(r.workers))
}

// Wake has every worker look for itself: something on the host changed. It does
// not block.
func (r *Reconciler) Wake() {
	select {
	case r.woken <- struct{}{}:
	default:
	}
}

// wakePause is between two looks of everybody. When many volumes open at once,
// the host changes in every moment, and each change concerns one of them.
const wakePause = 100 * time.Millisecond

// wakeUp rings every worker after Wake, a burst of changes once.
func (r *Reconciler) wakeUp(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.woken:
		}
		for _, w := range r.all() {
			w.ring()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wakePause):
		}
	}
}

// Snapshot is the status of everything, in order of names.
func (r *Reconciler) Snapshot() Snapshot {
	workers := r.all()
	s := Snapshot{Volumes: make([]Status, 0, len(workers)), Keys: r.ports.Keys.List()}
	for _, w := range workers {
		s.Volumes = append(s.Volumes, w.snapshot())
	}
	sort.Slice(s.Volumes, func(i, j int) bool { return s.Volumes[i].Name < s.Volumes[j].Name })
	return s
}

// Volume is the status of one volume.
func (r *Reconciler) Volume(name string) (Status, bool) {
	w, ok := r.worker(name)
	if !ok {
		return Status{}, false
	}
	return w.snapshot(), true
}

func (r *Reconciler) worker(name string) (*running, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w, ok := r.workers[name]
	return w, ok
}

// Do records a wish, durably, and returns its number; see Status.Answered. The
// errors are ErrNoSuchVolume, *OrderError, *ConflictError and *fault.Error.
func (r *Reconciler) Do(name string, o Order) (seq uint64, err error) {
	w, ok := r.worker(name)
	if !ok {
		return 0, fmt.Errorf("%w: %q", ErrNoSuchVolume, name)
	}
	if err := o.Validate(); err != nil {
		return 0, err
	}
	seq, err = w.do(o)
	if err == nil {
		w.ring()
		r.tell()
	}
	return seq, err
}

// Changes returns the number of the latest change of any status, and a channel
// that is closed at the next one.
func (r *Reconciler) Changes() (revision uint64, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.revision, r.changed
}

func (r *Reconciler) tell() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bump()
}

func (r *Reconciler) bump() {
	r.revision++
	close(r.changed)
	r.changed = make(chan struct{})
}

// configure takes a changed Spec into use at the next pass.
func (w *worker) configure(s Spec, probe time.Duration) {
	w.mu.Lock()
	w.spec, w.probe, w.doubt = s, probe, nil
	before := w.status.KeyARN
	w.describe(&w.status, s, w.claim)
	if w.status.KeyARN != before {
		w.status.WouldSurviveReboot = false // it was said of another CMK
	}
	w.notes.fresh, w.notes.exam = true, true // an edit may mend what failed
	w.mu.Unlock()
	w.ring()
}

func (w *worker) snapshot() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status
}

// do checks that the order fits and records it: durably, and in one moment with
// what the next pass is to know of it.
func (w *worker) do(o Order) (seq uint64, err error) {
	w.saving.Lock()
	defer w.saving.Unlock()
	verb := o.Verb
	anew := verb == VerbReattach || verb == VerbAcceptHeader
	if anew {
		w.reread()
	}
	if err := w.fits(o); err != nil {
		return 0, err
	}
	change := func(c *Claim) {
		c.Wish = wishOf(verb)
		if anew {
			c.Quarantine = nil
		}
		if verb == VerbAcceptHeader {
			c.Generation = 0
		}
		if verb.makes() && c.Making == nil {
			c.Making, c.Rewrap = newMaking(o), o.rewrap(c.pinned(w.spec))
		}
	}
	err = w.updateAnd(change, func() {
		if w.callOff != nil {
			w.callOff()
		}
		w.notes = notes{fresh: true, verb: true, rebuild: anew, init: verb == VerbInit, exam: w.notes.exam || anew}
		w.status.WishSeq++
		w.status.Wish = wishOf(verb)
		w.status.WouldSurviveReboot = w.status.WouldSurviveReboot && w.status.Wish == WishMounted
		seq = w.status.WishSeq
	})
	if err == nil {
		w.log.Info("wish recorded", "verb", string(verb))
	}
	return seq, err
}

// reread takes up what an operator did to the claim's file; to move it away is
// how a replaced volume is accepted.
func (w *worker) reread() {
	claim, err := w.ports.Claims.Load(w.spec.Name) // a name never changes
	w.mu.Lock()
	defer w.mu.Unlock()
	w.claim, w.claimErr = claim, err
}

func wishOf(verb Verb) Wish {
	switch verb {
	case VerbLock:
		return WishSealed
	case VerbRelease:
		return WishDetached
	default:
		return WishMounted
	}
}

// fits refuses verbs that cannot come true, before anything is recorded.
func (w *worker) fits(o Order) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	q, verb := w.claim.Quarantine, o.Verb
	switch {
	case w.claimErr != nil:
		return w.claimErr
	case q != nil && (verb == VerbUnlock || verb == VerbInit || verb.makes()):
		return integrity(q.Reason, "The volume is quarantined: "+q.Cause, q.Hint) // whatever led to it
	case verb.makes():
		return w.fitsOrder(o)
	case verb == VerbInit && w.claim.making() == MakingRestored:
		return &ConflictError{
			Message: "The volume was made from " + w.claim.Making.Snapshot + ".",
			Hint:    "To open it, run: volseal unlock " + w.spec.Name + ". init never formats what may hold data.",
		}
	case verb == VerbInit && w.claim.Stage != StageNone:
		return &ConflictError{
			Message: "The volume was initialised before (" + w.claim.LUKSUUID + ").",
			Hint:    "To open it, run: volseal unlock " + w.spec.Name + ". init never formats what may hold data.",
		}
	case verb == VerbRelease && !w.spec.Attach && w.claim.Making == nil:
		return &ConflictError{
			Message: "attach is false for this volume: it is attached and detached by somebody else.",
			Hint:    "Run volseal lock " + w.spec.Name + ", then detach it where it was attached.",
		}
	}
	return nil
}

func asConflict(err error) (*ConflictError, bool) {
	var c *ConflictError
	ok := errors.As(err, &c)
	return c, ok
}
