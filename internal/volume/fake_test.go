// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
)

const (
	testARN = "arn:aws:kms:us-east-1:111111111111:key/aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
	testVol = "vol-0123456789abcdef0"
)

var errKilled = errors.New("killed here")

// world is one host with one volume, its EC2 and its KMS, behind all ports at
// once. It keeps what a real one would keep over an agent's death.
type world struct {
	mu       sync.Mutex
	attached bool
	elsewhere,
	unencrypted bool
	cloudErr error
	asks     int    // of EC2
	header   []byte // nil blank; otherwise the image last written
	torn     bool
	strange  bool // sound in itself, and refused for what it says
	half     bool // torn between two sound headers: the magic is there
	slotBroken,
	hang bool // reads of the disk
	renumbered bool // the volume was detached, and came back as another device
	readErr    error
	freezes    int
	tries      int
	images     map[string]*image
	fs         string // file system inside; "" none
	data       string // what the database wrote
	pending    bool
	mapped     bool
	uuid       string // of the mapping
	mounted    bool
	readOnly   bool
	suspended,
	wiped bool
	orphaned   bool // the device was taken from under the mapping; another one there does not mend that
	held       bool // by somebody else
	stopping   bool
	tables     int // how often the live table was read for its cipher
	tableErr   error
	ecryptfs   []Ecryptfs
	keyARN     string // of the EBS layer
	asked      time.Time
	lag        time.Duration // until EC2 shows what it was asked
	mountErr   error
	stopErr    error
	suspendErr error
	kms        fakeKMS
	calls      []string
	kill       int  // die at the n-th change from now; 0 never
	after      bool // the change is made before dying
	killed     bool
	traced     bool     // note every call that matters to a rotation in trace
	trace      []string // and, with dies, die at that one, before it does anything
	dies       int
	died       func()        // called in the moment of dying
	ec2        fakeEC2       // volumes and snapshots, where a test has any made
	published  func()        // called when the mapping appears
	judged     func()        // called when an image is judged
	restored   func()        // called when an image was written onto the device
	slow       time.Duration // how long publishing takes

	work          fakeWork
	suspendedZone bool // writers wait for a job that was killed
}

type image struct {
	uuid   string
	tokens []envelope.Token

	key        string // the volume key, or the older of two
	unfinished *unfinishedImage
	stale      bool // a token without a keyslot is left in it
}

var testMeaning = []byte(`{"uuid":"of the test"}`)

// change records a call that changes the world, and dies where told to.
func (w *world) change(what string, apply func()) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.touched(what); err != nil || w.killed {
		return errKilled
	}
	w.calls = append(w.calls, what)
	if w.kill > 0 {
		if w.kill--; w.kill == 0 {
			w.killed = true
			if w.after {
				apply()
			}
			if w.died != nil {
				w.died()
			}
			return errKilled
		}
	}
	apply()
	return nil
}

// touch is a call of a port that changes nothing. It returns an error in a world
// whose agent is dead.
func (w *world) touch(what string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.touched(what)
}

// touched is called with w.mu held.
func (w *world) touched(what string) error {
	if !w.traced {
		return nil
	}
	w.trace = append(w.trace, what)
	if w.killed = w.killed || len(w.trace) == w.dies; w.killed {
		return errKilled
	}
	return nil
}

func (w *world) did(what string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, c := range w.calls {
		if c == what {
			n++
		}
	}
	return n
}

// deeds are all changes so far.
func (w *world) deeds() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.calls)
}

// is asks about the world as it is now.
func (w *world) is(what func() bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return what()
}

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *world) Volume(_ context.Context, id string) (CloudVolume, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asks++
	if w.cloudErr != nil {
		return CloudVolume{}, w.cloudErr
	}
	if !w.asked.IsZero() && time.Since(w.asked) < w.lag {
		return CloudVolume{ID: id, State: "available", Encrypted: true, KeyARN: w.keyARN}, nil
	}
	v := CloudVolume{ID: id, State: "available", Encrypted: !w.unencrypted, KeyARN: w.keyARN}
	if w.ec2.volumes != nil {
		made, err := w.ec2.volume(id)
		if err != nil || made.State != "available" {
			return made, err
		}
		v = made
	}
	switch {
	case w.elsewhere:
		v.State, v.Elsewhere = "in-use", "i-0fedcba9876543210"
	case w.attached:
		v.State, v.Attachment = "in-use", "attached"
	}
	return v, nil
}

func (w *world) Attach(context.Context, string) error {
	return w.change("attach", func() { w.attached, w.asked = true, time.Now() })
}

func (w *world) Detach(context.Context, string) error {
	return w.change("detach", func() { w.attached = false })
}

func (w *world) Find(context.Context, string) (Device, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.attached || time.Since(w.asked) < w.lag {
		return Device{}, ErrNoDevice
	}
	if w.renumbered {
		return Device{Path: "/dev/nvme2n1", Major: 259, Minor: 2, Bytes: 1 << 30}, nil
	}
	return Device{Path: "/dev/nvme1n1", Major: 259, Minor: 1, Bytes: 1 << 30}, nil
}

func (w *world) Look(context.Context, Device) (HeaderFact, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.torn && !w.half:
		return HeaderFact{State: HeaderForeign, What: "damaged header"}, nil
	case w.header == nil:
		return HeaderFact{State: HeaderBlank}, nil
	}
	return HeaderFact{State: HeaderLUKS2}, nil
}

func (w *world) Freeze(context.Context, Device, string) (*Header, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.freezes++
	if err := w.touched("freeze"); err != nil {
		return nil, err
	}
	if w.header == nil || w.torn || w.strange {
		return nil, &fault.Error{Class: fault.Integrity, Reason: "magic", Cause: "no header"}
	}
	img := w.images[string(w.header)]
	if img.unfinished != nil {
		return nil, &fault.Error{Class: fault.Integrity, Reason: ReasonUnfinished, Cause: "an unfinished reencryption"}
	}
	h := img.frozen()
	h.Sum = w.print(string(w.header), w.slotBroken)
	return h, nil
}

func (i *image) frozen() *Header {
	h := &Header{UUID: i.uuid, Key: "key" + i.key}
	if i.unfinished != nil {
		h.Key, h.Unfinished = "", &Unfinished{Done: i.unfinished.done, Total: workTotal, Generation: i.tokens[1].Generation, Key: "key" + i.key + "+"}
	}
	for _, t := range i.tokens {
		slot, err := strconv.Atoi(t.Keyslots[0])
		if err != nil {
			panic(err)
		}
		h.Candidates = append(h.Candidates, Candidate{Token: t, Keyslot: slot, Meaning: testMeaning})
	}
	return h
}

func (w *world) Discard(*Header) {}

func (w *world) Fingerprint(ctx context.Context, _ Device) (Fingerprint, error) {
	w.mu.Lock()
	readErr, hang, mark := w.readErr, w.hang, w.print(string(w.header), w.torn || w.slotBroken)
	w.mu.Unlock()
	if hang {
		<-ctx.Done()
	}
	return mark, readErr
}

// print is called with w.mu held.
func (w *world) print(key string, damaged bool) Fingerprint {
	return sha256.Sum256(fmt.Append(nil, damaged, w.images[key]))
}

func (w *world) Try(_ context.Context, h *Header, _ int, p *envelope.Secret) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tries++
	if err := w.touched("try"); err != nil {
		return err
	}
	if len(p.Bytes()) != 32 || w.slotBroken && h.Path == "" { // an image is not the disk
		return &fault.Error{Class: fault.Integrity, Reason: "keyslot-passphrase", Cause: "The keyslot does not open."}
	}
	return nil
}

func (w *world) Mapping(_ context.Context, name string) (Mapping, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := Mapping{Present: true, Major: 253, UUID: w.uuid, Backing: []Backing{{259, 1}}}
	m.Suspended = w.suspended
	m.Layered = w.work.layered && name == "volseal-orders"
	if w.orphaned = w.orphaned || !w.attached; w.orphaned {
		m.Backing = nil
	}
	if name == "volseal-orders" && w.mapped || name == "volseal-orders.pending" && w.pending {
		return m, nil
	}
	return Mapping{}, nil
}

func (w *world) Open(_ context.Context, _ Device, h *Header, _ int, _ string, p *envelope.Secret) error {
	if len(p.Bytes()) != 32 {
		return errors.New("no passphrase")
	}
	if w.is(func() bool { return w.slotBroken }) {
		return &fault.Error{Class: fault.Integrity, Reason: "keyslot-passphrase", Cause: "The keyslot does not open."}
	}
	if w.is(func() bool { return w.work.layered }) {
		return &fault.Error{Class: fault.Unknown, Reason: "busy", Cause: "The device is in use."}
	}
	return w.change("open", func() {
		w.pending, w.orphaned, w.uuid = true, false, h.UUID
		if !w.readable() {
			w.data = "garbage"
		}
	})
}

func (w *world) Suspend(context.Context, string) error {
	w.mu.Lock()
	err := w.suspendErr
	w.mu.Unlock()
	if err != nil {
		return err
	}
	if err := w.change("suspend", func() { w.suspended = true }); err != nil {
		return err
	}
	return w.change("wipe", func() { w.wiped = true })
}

func (w *world) Cipher(context.Context, string) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tables++
	if w.tableErr != nil {
		return "", w.tableErr
	}
	return "aes-xts-plain64", nil
}

func (w *world) Wiped(context.Context, string) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wiped, nil
}

func (w *world) Resume(_ context.Context, _ Device, h *Header, _ int, _ string, p *envelope.Secret) error {
	if len(p.Bytes()) != 32 || w.is(func() bool { return w.slotBroken }) {
		return &fault.Error{Class: fault.Integrity, Reason: "keyslot-passphrase", Cause: "The keyslot does not open."}
	}
	if err := w.change("give-key", func() { w.wiped = false }); err != nil {
		return err
	}
	return w.change("resume", func() { w.suspended = false })
}

func (w *world) Abandon(context.Context, string) error {
	return w.change("abandon", func() { w.suspended, w.wiped, w.orphaned = false, false, true })
}

func (w *world) Publish(context.Context, string, string) error {
	err := w.change("publish", func() { w.pending, w.mapped = false, true })
	w.mu.Lock()
	slow, published := w.slow, w.published
	w.mu.Unlock()
	time.Sleep(slow)
	if published != nil {
		published()
	}
	return err
}

func (w *world) Close(_ context.Context, name string) error {
	w.mu.Lock()
	present := name == "volseal-orders" && w.mapped || name == "volseal-orders.pending" && w.pending
	busy := present && w.mounted
	w.mu.Unlock()
	switch {
	case busy:
		return &fault.Error{Class: fault.Unknown, Reason: "busy", Cause: "in use"}
	case !present:
		return nil
	}
	return w.change("close", func() { w.mapped, w.pending, w.orphaned, w.suspended, w.wiped = false, false, false, false, false })
}

func (w *world) CheckBlank(_ context.Context, _ Device, path string, _ func(int64, int64)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	ours := path != "" && string(w.header) == path
	if (w.header != nil || w.torn) && !ours || w.data != "" {
		return &fault.Error{Class: fault.Integrity, Reason: "not-blank", Cause: "The device is not blank."}
	}
	return nil
}

func (w *world) BuildHeader(_ context.Context, path, uuid string, _ Device, _ *envelope.Secret, seal func(int, []byte) (envelope.Token, error)) error {
	t, err := seal(0, testMeaning)
	if err != nil {
		return err
	}
	return w.change("build", func() { w.images[path] = &image{uuid: uuid, tokens: []envelope.Token{t}} })
}

func (w *world) WriteHeader(_ context.Context, _ Device, path string) error {
	err := w.change("write-begin", func() { w.header, w.torn = []byte(path), true })
	if err != nil {
		return err
	}
	return w.change("write-end", func() { w.torn = false })
}

// An image file of these tests holds the name under which world knows its
// content; that is also what the device holds.

func (w *world) Save(_ context.Context, _ Device, path string) error {
	if err := w.touch("save"); err != nil {
		return err
	}
	w.mu.Lock()
	text := string(w.header)
	if w.torn || w.slotBroken {
		text = "damaged " + text
	}
	w.mu.Unlock()
	return os.WriteFile(path, []byte(text), 0o600)
}

func (w *world) imageAt(path string) (key string, img *image, err error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if img = w.images[string(raw)]; img == nil {
		return "", nil, &fault.Error{Class: fault.Integrity, Reason: "header-magic", Cause: "no header"}
	}
	return string(raw), img, nil
}

func (w *world) Judge(_ Device, path string) (*Header, error) {
	if err := w.touch("judge"); err != nil {
		return nil, err
	}
	key, img, err := w.imageAt(path)
	if err != nil {
		return nil, err
	}
	if img.unfinished != nil {
		return nil, &fault.Error{Class: fault.Integrity, Reason: ReasonUnfinished, Cause: "an unfinished reencryption"}
	}
	h := img.frozen()
	w.mu.Lock()
	h.Path, h.Sum = path, w.print(key, false)
	judged := w.judged
	w.mu.Unlock()
	if judged != nil {
		judged()
	}
	return h, nil
}

func (w *world) Print(path string) (Fingerprint, error) {
	key, _, err := w.imageAt(path)
	if err != nil {
		return Fingerprint{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.print(key, false), nil
}

// Copies of a torn header: the secondary is sound, as a cut write leaves it.
func (w *world) Copies(context.Context, Device) (HeaderCopies, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	bad := HeaderCopy{Err: &fault.Error{Class: fault.Integrity, Reason: "header-checksum", Cause: "The checksum does not match."}}
	img := w.images[string(w.header)]
	if img == nil {
		return HeaderCopies{Primary: bad, Secondary: bad, Differ: bad.Err}, nil
	}
	good := HeaderCopy{Sequence: 4, UUID: img.uuid}
	if w.torn {
		return HeaderCopies{Primary: bad, Secondary: good, Differ: bad.Err}, nil
	}
	return HeaderCopies{Primary: good, Secondary: good}, nil
}

// AddKeyslot takes the first keyslot that is free.
func (w *world) AddKeyslot(_ context.Context, _ Device, path string, keep envelope.Token, present, added *envelope.Secret, seal func(int, []byte) (envelope.Token, error)) error {
	if len(present.Bytes()) != 32 || len(added.Bytes()) != 32 || present.Equal(added) {
		return errors.New("not two passphrases")
	}
	slot := 0
	if keep.Keyslots[0] == "0" {
		slot = 1
	}
	t, err := seal(slot, testMeaning)
	if err != nil {
		return err
	}
	return w.Retoken(context.Background(), Device{}, path, []envelope.Token{keep, t})
}

func (w *world) Retoken(_ context.Context, _ Device, path string, tokens []envelope.Token) error {
	return w.change("retoken", func() {
		key := fmt.Sprint(path, " ", len(w.calls))
		was := w.images[string(w.header)]
		w.images[key] = &image{uuid: was.uuid, tokens: slices.Clone(tokens), key: was.key}
		if err := writeDurably(path, []byte(key)); err != nil {
			panic(err)
		}
	})
}

func (w *world) Restore(ctx context.Context, _ Device, path, _ string, still func(context.Context) error) error {
	key, _, err := w.imageAt(path)
	if err == nil {
		err = still(ctx)
	}
	if err != nil {
		return err
	}
	if err := w.change("restore-begin", func() {
		w.half = w.images[string(w.header)] != nil && !w.torn
		w.header, w.torn = []byte(key), true
	}); err != nil {
		return err
	}
	return w.change("restore-end", func() {
		w.torn, w.slotBroken = false, false
		if w.restored != nil {
			w.restored()
		}
	})
}

func (w *world) MakeFilesystem(_ context.Context, _, fs string) error {
	return w.change("mkfs", func() { w.fs, w.data = fs, "" })
}

func (w *world) InUse(context.Context, Device) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.held || w.mapped || w.pending, nil
}

// mounts has the names that clash with the other ports.
type mounts struct{ w *world }

func (m mounts) Find(_ context.Context, mp Mapping, _ string) (MountFact, error) {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	f := MountFact{Mounted: m.w.mounted && mp.Present, ReadOnly: m.w.readOnly}
	if f.Mounted {
		f.Filesystem, f.Ecryptfs = m.w.fs, m.w.ecryptfs
	}
	return f, nil
}

func (m mounts) Stopping(context.Context) (bool, error) {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	return m.w.stopping, nil
}

func (m mounts) Start(context.Context, string) error {
	m.w.mu.Lock()
	err := m.w.mountErr
	if err == nil && (!m.w.mapped || m.w.fs == "") {
		err = errors.New("nothing to mount")
	}
	m.w.mu.Unlock()
	if err != nil {
		return err
	}
	return m.w.change("mount", func() {
		m.w.mounted = true
		if m.w.data == "" {
			m.w.data = "rows"
		}
	})
}

func (m mounts) Stop(context.Context, string) error {
	m.w.mu.Lock()
	err := m.w.stopErr
	if m.w.suspended || m.w.suspendedZone && !m.w.work.failed {
		err = errors.New("hangs for ever")
	}
	m.w.mu.Unlock()
	if err != nil {
		return err
	}
	return m.w.change("unmount", func() {
		m.w.endJob() // it is bound to the mount
		m.w.mounted, m.w.suspendedZone = false, false
	})
}

// fakeKMS wraps by remembering.
type fakeKMS struct {
	mu       sync.Mutex
	keys     map[string][]byte
	err      error
	delay    time.Duration
	decrypts int
	made     int // data keys

	reencrypts int
	rewrapErr  error
	twisted    bool            // ReEncrypt returns another key
	gone       map[string]bool // CMKs that refuse
	wrappedBy  map[string]string
}

func (k *fakeKMS) GenerateDataKey(context.Context, string, envelope.Context) (*envelope.Secret, []byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return nil, nil, k.err
	}
	wrapped := []byte("wrapped by the test")
	if k.made > 0 {
		wrapped = fmt.Appendf(wrapped, " as key %d", k.made)
	}
	plain := bytes.Repeat([]byte{byte(7 + k.made)}, 32)
	k.made++
	if k.keys == nil {
		k.keys = map[string][]byte{}
	}
	k.keys[string(wrapped)] = slices.Clone(plain)
	s, err := envelope.SecretFrom(plain)
	return s, wrapped, err
}

// ReEncrypt remembers by whom a key is wrapped now; Decrypt then insists on it.
func (k *fakeKMS) ReEncrypt(_ context.Context, _, toARN string, _ envelope.Context, wrapped []byte) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.reencrypts++
	if k.rewrapErr != nil {
		return nil, k.rewrapErr
	}
	rewrapped := fmt.Appendf(nil, "%s, again %d", wrapped, k.reencrypts)
	plain := slices.Clone(k.keys[string(wrapped)])
	if k.twisted {
		plain[0]++
	}
	k.keys[string(rewrapped)] = plain
	if k.wrappedBy == nil {
		k.wrappedBy = map[string]string{}
	}
	k.wrappedBy[string(rewrapped)] = toARN
	return rewrapped, nil
}

func (k *fakeKMS) Decrypt(ctx context.Context, arn string, _ envelope.Context, wrapped []byte) (*envelope.Secret, error) {
	k.mu.Lock()
	k.decrypts++
	err, delay, plain := k.err, k.delay, slices.Clone(k.keys[string(wrapped)])
	if by := k.wrappedBy[string(wrapped)]; by != "" && by != arn {
		plain = nil
	}
	if k.gone[arn] {
		err = &fault.Error{Class: fault.Revoked, Reason: "DisabledException", Cause: "The CMK is disabled."}
	}
	k.mu.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return nil, &fault.Error{Class: fault.Unreachable, Cause: "KMS did not answer.", Err: ctx.Err()}
		}
	}
	if err != nil {
		return nil, err
	}
	if plain == nil {
		return nil, &fault.Error{Class: fault.Integrity, Reason: "InvalidCiphertextException", Cause: "KMS does not know this wrapped key."}
	}
	return envelope.SecretFrom(plain)
}

// mortalKMS is the KMS as the agent of a world sees it.
type mortalKMS struct {
	*fakeKMS
	w *world
}

func (k mortalKMS) GenerateDataKey(ctx context.Context, arn string, ec envelope.Context) (*envelope.Secret, []byte, error) {
	if err := k.w.touch("generate"); err != nil {
		return nil, nil, err
	}
	return k.fakeKMS.GenerateDataKey(ctx, arn, ec)
}

func (k mortalKMS) ReEncrypt(ctx context.Context, from, to string, ec envelope.Context, wrapped []byte) ([]byte, error) {
	if err := k.w.touch("reencrypt"); err != nil {
		return nil, err
	}
	return k.fakeKMS.ReEncrypt(ctx, from, to, ec, wrapped)
}

func (k mortalKMS) Decrypt(ctx context.Context, arn string, ec envelope.Context, wrapped []byte) (*envelope.Secret, error) {
	if err := k.w.touch("decrypt"); err != nil {
		return nil, err
	}
	return k.fakeKMS.Decrypt(ctx, arn, ec, wrapped)
}

func (k *fakeKMS) answer(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.err = err
}

func (k *fakeKMS) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.decrypts
}

func newWorld() *world { return &world{images: map[string]*image{}} }

// formatted is a world whose volume was initialised and used before.
func formatted(t *testing.T, dir string) *world {
	t.Helper()
	w := newWorld()
	h := startHost(t, w, dir)
	h.do(VerbInit)
	h.await("mounted after init", func(s Status) bool { return s.Phase == Mounted })
	h.stop()
	w.set(func() { w.mounted, w.mapped, w.attached, w.calls, w.tries = false, false, false, nil, 0 })
	return w
}

// host is an agent's reconciler in a world.
type host struct {
	t    *testing.T
	r    *Reconciler
	end  context.CancelFunc
	done chan struct{}
	rec  *recorder
}

func startHost(t *testing.T, w *world, dir string) *host {
	t.Helper()
	claims, err := NewClaims(dir)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	ring := envelope.NewKeyring(mortalKMS{&w.kms, w}, envelope.Options{Clock: func() time.Duration { return time.Since(begin) }})
	rec := &recorder{}
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("VOLSEAL_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	r := NewReconciler(Ports{
		Cloud: w, Maker: maker{w}, Devices: w, Crypt: w, Formatter: w, Archive: w, Mounts: mounts{w}, Keyring: ring,
		Reencryptor: w, Jobs: jobs{w},
		Claims: claims, Keys: NewKeyBook(), Recorder: rec, Log: log,
	})
	spec := testSpec(t)
	if w.ec2.volumes != nil {
		spec.VolumeID = ""
	}
	r.Apply([]Spec{spec}, time.Minute)
	ctx, end := context.WithCancel(t.Context())
	h := &host{t: t, r: r, end: end, done: make(chan struct{}), rec: rec}
	go func() { defer close(h.done); r.Run(ctx); ring.Flush() }()
	return h
}

func testSpec(t *testing.T) Spec {
	t.Helper()
	ec, err := envelope.NewContext("db-7f3a", nil)
	if err != nil {
		t.Fatal(err)
	}
	return Spec{
		Name: "orders", Database: "db-7f3a", VolumeID: testVol, KeyARN: testARN, Mountpoint: "/var/lib/postgresql",
		Filesystem: "ext4", Context: ec, Attach: true, RequireEBSEncryption: true,
	}
}

func (h *host) stop() {
	h.end()
	<-h.done
}

func (h *host) do(v Verb) {
	h.t.Helper()
	if _, err := h.r.Do("orders", Order{Verb: v}); err != nil {
		h.t.Fatalf("%s: %v", v, err)
	}
}

func (h *host) status() Status {
	s, _ := h.r.Volume("orders")
	return s
}

// await waits, in the bubble's time, until the status is as wanted.
func (h *host) await(what string, ok func(Status) bool) Status {
	h.t.Helper()
	limit := time.After(time.Hour)
	for {
		_, changed := h.r.Changes()
		if s := h.status(); ok(s) {
			return s
		}
		select {
		case <-changed:
		case <-limit:
			h.t.Fatalf("never %s: %+v", what, h.status())
		}
	}
}

type recorder struct {
	mu       sync.Mutex
	refused  []fault.Class
	failed   []fault.Class
	rejected []string
	passed   func() // called after each pass
}

func (r *recorder) Step(string, Step, fault.Class, time.Duration) {}
func (r *recorder) Reconciled(string) {
	r.mu.Lock()
	passed := r.passed
	r.mu.Unlock()
	if passed != nil {
		passed()
	}
}

func (r *recorder) DecryptFailed(_ string, c fault.Class) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = append(r.failed, c)
}

func (r *recorder) MountRefused(_ string, c fault.Class) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused = append(r.refused, c)
}

func (r *recorder) HeaderRejected(_, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rejected = append(r.rejected, reason)
}
