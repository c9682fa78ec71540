// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
)

// fleet is one host with many volumes, each in a world of its own, and one KMS.
type fleet struct {
	worlds []*world
	specs  []Spec
	kms    fleetKMS
}

func newFleet(t *testing.T, volumes, databases int) *fleet {
	f := &fleet{kms: fleetKMS{keys: map[string]byte{}}}
	for i := range volumes {
		s := testSpec(t)
		database := fmt.Sprintf("db-%d", i%databases)
		ec, err := envelope.NewContext(database, nil)
		if err != nil {
			t.Fatal(err)
		}
		s.Name, s.Database, s.Context = fmt.Sprintf("v%d", i), database, ec
		s.VolumeID, s.Mountpoint = fmt.Sprintf("vol-%017d", i), "/srv/"+s.Name
		f.specs = append(f.specs, s)
		f.worlds = append(f.worlds, newWorld())
	}
	return f
}

func (f *fleet) number(text, prefix string) int {
	var n int
	text = strings.TrimSuffix(text, ".pending")
	if _, err := fmt.Sscanf(strings.TrimPrefix(text, prefix), "%d", &n); err != nil {
		panic(err)
	}
	return n
}

func (f *fleet) byID(id string) *world      { return f.worlds[f.number(id, "vol-")] }
func (f *fleet) byDevice(d Device) *world   { return f.worlds[d.Minor] }
func (f *fleet) byMount(path string) mounts { return mounts{f.worlds[f.number(path, "/srv/v")]} }

// byMapping also tells how the mapping is called in its own world.
func (f *fleet) byMapping(name string) (*world, string) {
	n := f.number(name, "volseal-v")
	return f.worlds[n], strings.Replace(name, fmt.Sprintf("v%d", n), "orders", 1)
}

func (f *fleet) Volume(ctx context.Context, id string) (CloudVolume, error) {
	return f.byID(id).Volume(ctx, id)
}
func (f *fleet) Attach(ctx context.Context, id string) error { return f.byID(id).Attach(ctx, id) }
func (f *fleet) Detach(ctx context.Context, id string) error { return f.byID(id).Detach(ctx, id) }

func (f *fleet) Find(ctx context.Context, id string) (Device, error) {
	d, err := f.byID(id).Find(ctx, id)
	d.Minor = uint32(f.number(id, "vol-"))
	return d, err
}

func (f *fleet) Look(ctx context.Context, d Device) (HeaderFact, error) {
	return f.byDevice(d).Look(ctx, d)
}

func (f *fleet) Freeze(ctx context.Context, d Device, name string) (*Header, error) {
	return f.byDevice(d).Freeze(ctx, d, name)
}
func (f *fleet) Discard(*Header) {}

func (f *fleet) Fingerprint(ctx context.Context, d Device) (Fingerprint, error) {
	return f.byDevice(d).Fingerprint(ctx, d)
}

func (f *fleet) Try(ctx context.Context, h *Header, slot int, p *envelope.Secret) error {
	return f.worlds[0].Try(ctx, h, slot, p)
}

func (f *fleet) Save(ctx context.Context, d Device, path string) error {
	return f.byDevice(d).Save(ctx, d, path)
}

func (f *fleet) Judge(d Device, path string) (*Header, error) { return f.byDevice(d).Judge(d, path) }

func (f *fleet) Print(path string) (Fingerprint, error) {
	return f.worlds[f.number(filepath.Base(filepath.Dir(path)), "v")].Print(path)
}

func (f *fleet) Copies(ctx context.Context, d Device) (HeaderCopies, error) {
	return f.byDevice(d).Copies(ctx, d)
}

func (f *fleet) AddKeyslot(ctx context.Context, d Device, path string, keep envelope.Token, present, added *envelope.Secret, seal func(int, []byte) (envelope.Token, error)) error {
	return f.byDevice(d).AddKeyslot(ctx, d, path, keep, present, added, seal)
}

func (f *fleet) Retoken(ctx context.Context, d Device, path string, tokens []envelope.Token) error {
	return f.byDevice(d).Retoken(ctx, d, path, tokens)
}

func (f *fleet) Restore(ctx context.Context, d Device, path, mapping string, still func(context.Context) error) error {
	return f.byDevice(d).Restore(ctx, d, path, mapping, still)
}

func (f *fleet) InUse(ctx context.Context, d Device) (bool, error) {
	return f.byDevice(d).InUse(ctx, d)
}

func (f *fleet) Mapping(ctx context.Context, name string) (Mapping, error) {
	w, own := f.byMapping(name)
	m, err := w.Mapping(ctx, own)
	if m.Present {
		m.Backing[0].Minor = uint32(f.number(name, "volseal-v"))
	}
	return m, err
}

func (f *fleet) Open(ctx context.Context, d Device, h *Header, slot int, pending string, p *envelope.Secret) error {
	return f.byDevice(d).Open(ctx, d, h, slot, pending, p)
}

func (f *fleet) Suspend(ctx context.Context, name string) error {
	w, own := f.byMapping(name)
	return w.Suspend(ctx, own)
}

func (f *fleet) Cipher(ctx context.Context, name string) (string, error) {
	w, own := f.byMapping(name)
	return w.Cipher(ctx, own)
}

func (f *fleet) Wiped(ctx context.Context, name string) (bool, error) {
	w, own := f.byMapping(name)
	return w.Wiped(ctx, own)
}

func (f *fleet) Resume(ctx context.Context, d Device, h *Header, slot int, name string, p *envelope.Secret) error {
	return f.byDevice(d).Resume(ctx, d, h, slot, name, p)
}

func (f *fleet) Abandon(ctx context.Context, name string) error {
	w, own := f.byMapping(name)
	return w.Abandon(ctx, own)
}

func (f *fleet) Publish(ctx context.Context, pending, mapping string) error {
	w, _ := f.byMapping(mapping)
	return w.Publish(ctx, pending, mapping)
}

func (f *fleet) Close(ctx context.Context, name string) error {
	w, own := f.byMapping(name)
	return w.Close(ctx, own)
}

func (f *fleet) CheckBlank(ctx context.Context, d Device, path string, progress func(int64, int64)) error {
	return f.byDevice(d).CheckBlank(ctx, d, path, progress)
}

func (f *fleet) BuildHeader(ctx context.Context, path, uuid string, d Device, p *envelope.Secret, seal func(int, []byte) (envelope.Token, error)) error {
	return f.byDevice(d).BuildHeader(ctx, path, uuid, d, p, seal)
}

func (f *fleet) WriteHeader(ctx context.Context, d Device, path string) error {
	return f.byDevice(d).WriteHeader(ctx, d, path)
}

func (f *fleet) MakeFilesystem(ctx context.Context, mapping, fs string) error {
	w, _ := f.byMapping(mapping)
	return w.MakeFilesystem(ctx, mapping, fs)
}

// fleetMounts has the names that clash.
type fleetMounts struct{ *fleet }

func (f fleetMounts) Find(ctx context.Context, m Mapping, path string) (MountFact, error) {
	return f.byMount(path).Find(ctx, m, path)
}
func (f fleetMounts) Stopping(context.Context) (bool, error) { return false, nil }

func (f fleetMounts) Start(ctx context.Context, path string) error {
	return f.byMount(path).Start(ctx, path)
}

func (f fleetMounts) Stop(ctx context.Context, path string) error {
	return f.byMount(path).Stop(ctx, path)
}

// fleetKMS wraps under a context, and counts.
type fleetKMS struct {
	mu       sync.Mutex
	keys     map[string]byte // the data key's bytes, by context and wrapped form
	decrypts int
}

func (k *fleetKMS) GenerateDataKey(_ context.Context, _ string, ec envelope.Context) (*envelope.Secret, []byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := byte(len(k.keys) + 1)
	wrapped := fmt.Appendf(nil, "wrapped key %d", n)
	k.keys[string(ec.Canonical())+string(wrapped)] = n
	s, err := envelope.SecretFrom(fill(n))
	return s, wrapped, err
}

func (*fleetKMS) ReEncrypt(context.Context, string, string, envelope.Context, []byte) ([]byte, error) {
	panic("a reboot wraps nothing anew")
}

func (k *fleetKMS) Decrypt(_ context.Context, _ string, ec envelope.Context, wrapped []byte) (*envelope.Secret, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.decrypts++
	n, known := k.keys[string(ec.Canonical())+string(wrapped)]
	if !known {
		return nil, &fault.Error{Class: fault.Integrity, Reason: "InvalidCiphertextException", Cause: "Another context."}
	}
	return envelope.SecretFrom(fill(n))
}

func fill(n byte) []byte {
	b := make([]byte, 32)
	for i := range b {
		b[i] = n
	}
	return b
}

// boot runs an agent until every volume is mounted and proved; init says that
// they are to be formatted.
func (f *fleet) boot(t *testing.T, dir string, init bool) (decrypts int) {
	t.Helper()
	claims, err := NewClaims(dir)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	ring := envelope.NewKeyring(&f.kms, envelope.Options{Clock: func() time.Duration { return time.Since(begin) }})
	defer ring.Flush()
	r := NewReconciler(Ports{
		Cloud: f, Devices: f, Crypt: f, Formatter: f, Archive: f, Mounts: fleetMounts{f}, Keyring: ring,
		Claims: claims, Keys: NewKeyBook(), Recorder: &recorder{}, Log: slog.New(slog.DiscardHandler),
	})
	f.kms.decrypts = 0
	r.Apply(f.specs, time.Minute)
	ctx, end := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	defer func() { end(); <-done }()
	for _, s := range f.specs {
		if !init {
			break
		}
		if _, err := r.Do(s.Name, Order{Verb: VerbInit}); err != nil {
			t.Fatal(err)
		}
	}
	for !ready(r) {
		_, changed := r.Changes()
		if ready(r) {
			break
		}
		select {
		case <-changed:
		case <-time.After(time.Minute):
			t.Fatalf("not all mounted: %+v", r.Snapshot())
		}
	}
	return f.kms.decrypts
}

func ready(r *Reconciler) bool {
	for _, v := range r.Snapshot().Volumes {
		if v.Phase != Mounted || !v.WouldSurviveReboot {
			return false
		}
	}
	return true
}

// The volumes of one database share a data key and one proof; two databases
// never do. A boot costs as many Decrypts as there are wrapped keys.
func TestDecryptsAtBoot(t *testing.T) {
	for _, databases := range []int{1, 4, 16} {
		t.Run(fmt.Sprintf("sixteen volumes of %d databases", databases), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				f := newFleet(t, 16, databases)
				f.boot(t, dir, true)
				for _, w := range f.worlds {
					w.set(func() { w.mounted, w.mapped, w.attached = false, false, false })
				}
				if n := f.boot(t, dir, false); n != databases {
					t.Errorf("%d Decrypts of %d wrapped keys, want %d", n, len(f.kms.keys), databases)
				}
			})
		})
	}
}
