// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// onFile is a host whose one volume is a file: headers, keyslots and cryptsetup
// are real; EC2, device-mapper and systemd are a few booleans.
type onFile struct {
	*LUKS
	dev volume.Device

	mu            sync.Mutex
	uuid          string
	pending, open bool
	mounted       bool
	tear          int // the n-th restoration from now is cut off after the secondary header
}

func (f *onFile) locked(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

func (f *onFile) Volume(context.Context, string) (volume.CloudVolume, error) {
	return volume.CloudVolume{State: "in-use", Encrypted: true, Attachment: "attached"}, nil
}

func (f *onFile) Attach(context.Context, string) error                 { return nil }
func (f *onFile) Detach(context.Context, string) error                 { return nil }
func (f *onFile) Find(context.Context, string) (volume.Device, error)  { return f.dev, nil }
func (f *onFile) InUse(context.Context, volume.Device) (bool, error)   { return false, nil }
func (f *onFile) MakeFilesystem(context.Context, string, string) error { return nil }
func (f *onFile) Publish(context.Context, string, string) error {
	f.locked(func() { f.pending, f.open = false, true })
	return nil
}

func (f *onFile) Close(context.Context, string) error {
	f.locked(func() { f.pending, f.open = false, false })
	return nil
}

func (f *onFile) Step(string, volume.Step, fault.Class, time.Duration) {}
func (f *onFile) DecryptFailed(string, fault.Class)                    {}
func (f *onFile) MountRefused(string, fault.Class)                     {}
func (f *onFile) HeaderRejected(string, string)                        {}
func (f *onFile) Reconciled(string)                                    {}

func (f *onFile) Mapping(_ context.Context, name string) (m volume.Mapping, _ error) {
	f.locked(func() {
		if name == "volseal-orders" && f.open || name == "volseal-orders.pending" && f.pending {
			m = volume.Mapping{Present: true, Major: 253, UUID: f.uuid, Backing: []volume.Backing{{}}}
		}
	})
	return m, nil
}

func (f *onFile) Open(ctx context.Context, _ volume.Device, h *volume.Header, slot int, _ string, p *envelope.Secret) error {
	if err := f.Try(ctx, h, slot, p); err != nil {
		return err
	}
	f.locked(func() { f.pending, f.uuid = true, h.UUID })
	return nil
}

func (f *onFile) Restore(ctx context.Context, dev volume.Device, path, _ string, still func(context.Context) error) error {
	torn := false
	f.locked(func() { f.tear--; torn = f.tear == 0 })
	if !torn {
		return f.LUKS.Restore(ctx, dev, path, "", still) // who holds a file, no sysfs tells
	}
	b, err := readMetadata(path)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(dev.Path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = file.WriteAt(b[areaBytes:], areaBytes)
	return errors.Join(err, errors.New("killed here"))
}

type onFileMounts struct{ f *onFile }

func (m onFileMounts) Find(context.Context, volume.Mapping, string) (fact volume.MountFact, _ error) {
	m.f.locked(func() { fact.Mounted = m.f.mounted })
	return fact, nil
}

func (m onFileMounts) Stopping(context.Context) (bool, error) { return false, nil }
func (m onFileMounts) Start(context.Context, string) error {
	m.f.locked(func() { m.f.mounted = true })
	return nil
}

func (m onFileMounts) Stop(context.Context, string) error {
	m.f.locked(func() { m.f.mounted = false })
	return nil
}

// rememberingKMS wraps by remembering, and unwraps for the CMK that wrapped.
type rememberingKMS struct {
	mu   sync.Mutex
	keys map[string]string // by wrapped key: the CMK
	data map[string]byte   // and what the data key is made of
}

func (k *rememberingKMS) wrap(arn string, data byte) []byte {
	wrapped := bytes.Repeat([]byte{byte(len(k.keys) + 1)}, 184)
	k.keys[string(wrapped)], k.data[string(wrapped)] = arn, data
	return wrapped
}

func newRememberingKMS() *rememberingKMS {
	return &rememberingKMS{keys: map[string]string{}, data: map[string]byte{}}
}

func (k *rememberingKMS) GenerateDataKey(_ context.Context, arn string, _ envelope.Context) (*envelope.Secret, []byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	data := byte(len(k.keys) + 1)
	s, err := envelope.SecretFrom(bytes.Repeat([]byte{data}, 32))
	return s, k.wrap(arn, data), err
}

func (k *rememberingKMS) ReEncrypt(_ context.Context, _, to string, _ envelope.Context, wrapped []byte) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.wrap(to, k.data[string(wrapped)]), nil
}

func (k *rememberingKMS) Decrypt(_ context.Context, arn string, _ envelope.Context, wrapped []byte) (*envelope.Secret, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys[string(wrapped)] != arn {
		return nil, &fault.Error{Class: fault.Integrity, Reason: "IncorrectKeyException", Cause: "Wrapped by another CMK."}
	}
	return envelope.SecretFrom(bytes.Repeat([]byte{k.data[string(wrapped)]}, 32))
}

// agent runs a reconciler on the file until stop.
func (f *onFile) agent(t testing.TB, dir string, kms envelope.KMS) (r *volume.Reconciler, stop func()) {
	t.Helper()
	claims, err := volume.NewClaims(dir)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := envelope.NewContext("db-7f3a", nil)
	if err != nil {
		t.Fatal(err)
	}
	ring := envelope.NewKeyring(kms, envelope.Options{})
	r = volume.NewReconciler(volume.Ports{
		Cloud: f, Devices: f, Crypt: f, Formatter: f, Archive: f, Reencryptor: f, Mounts: onFileMounts{f}, Keyring: ring,
		Claims: claims, Keys: volume.NewKeyBook(), Recorder: f, Log: slog.New(slog.DiscardHandler),
	})
	r.Apply([]volume.Spec{{
		Name: "orders", Database: "db-7f3a", VolumeID: "vol-0123456789abcdef0", KeyARN: testARN, Mountpoint: "/srv/orders",
		Filesystem: "ext4", Context: ec, Attach: true, RequireEBSEncryption: true,
	}}, time.Minute)
	ctx, end := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	return r, sync.OnceFunc(func() { end(); <-done; ring.Flush() })
}

func awaitStatus(t testing.TB, r *volume.Reconciler, what string, ok func(volume.Status) bool) volume.Status {
	t.Helper()
	return awaitVolume(t, r, "orders", what, ok)
}

func awaitVolume(t testing.TB, r *volume.Reconciler, name, what string, ok func(volume.Status) bool) volume.Status {
	t.Helper()
	limit := time.After(2 * time.Minute)
	for {
		_, changed := r.Changes()
		s, _ := r.Volume(name)
		if ok(s) {
			return s
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("never %s: %+v", what, s)
		}
	}
}

func order(t testing.TB, r *volume.Reconciler, v volume.Verb) {
	t.Helper()
	if _, err := r.Do("orders", volume.Order{Verb: v}); err != nil {
		t.Fatal(err)
	}
}

func isMounted(s volume.Status) bool { return s.Phase == volume.Mounted && s.Class == fault.None }

func wantVerified(t *testing.T, r *volume.Reconciler) {
	t.Helper()
	if report, err := r.VerifyHeader(t.Context(), "orders"); err != nil || !report.OK {
		t.Errorf("%+v, %v", report, err)
	}
}

// TestWorkerOnRealHeaders is the whole way through the domain and cryptsetup: init,
// a backup by itself, a destroyed header restored, and a move to another CMK that
// is cut off at each of its two writes.
func TestWorkerOnRealHeaders(t *testing.T) {
	t.Parallel()
	needCryptsetup(t)
	const other = "arn:aws:kms:us-east-1:222222222222:key/bbbbbbbb-bbbb-cccc-dddd-eeeeeeeeeeee"
	dir, kms := t.TempDir(), newRememberingKMS()
	f := &onFile{LUKS: newLUKS(t), dev: blankDisk(t)}
	r, stop := f.agent(t, dir, kms)
	defer func() { stop() }()
	order(t, r, volume.VerbInit)
	awaitStatus(t, r, "mounted", isMounted)
	wantVerified(t, r)

	order(t, r, volume.VerbLock)
	awaitStatus(t, r, "sealed", func(s volume.Status) bool { return s.Phase == volume.Sealed && s.Satisfied() })
	overwrite(t, f.dev, 0, random(headerBytes))
	if report, err := r.VerifyHeader(t.Context(), "orders"); err != nil || report.OK {
		t.Errorf("%+v, %v", report, err)
	}
	if done, err := r.RestoreHeader(t.Context(), "orders", volume.HeaderOrder{}); err != nil || !done.Written {
		t.Fatalf("%+v, %v", done, detail(err))
	}
	order(t, r, volume.VerbUnlock)
	awaitStatus(t, r, "mounted", isMounted)
	order(t, r, volume.VerbLock)
	awaitStatus(t, r, "sealed", func(s volume.Status) bool { return s.Phase == volume.Sealed && s.Satisfied() })

	for n, arn := range []string{other, testARN} { // and back again
		order(t, r, volume.VerbUnlock)
		awaitStatus(t, r, "mounted", isMounted)
		f.locked(func() { f.tear = n + 1 })
		if _, err := r.Rotate(t.Context(), "orders", volume.RotateOrder{KeyARN: arn}); err != nil {
			t.Fatal(err)
		}
		s := awaitStatus(t, r, "moved", func(s volume.Status) bool { return isMounted(s) && s.Rotation == nil })
		if s.KeyARN != arn || s.Generation != n+2 {
			t.Errorf("status %+v", s)
		}
		wantVerified(t, r)
		h := frozen(t, f.LUKS, f.dev)
		if len(h.Candidates) != 1 || h.Candidates[0].Token.KeyARN != arn {
			t.Errorf("tokens %+v", h.Candidates)
		}
		order(t, r, volume.VerbLock)
		awaitStatus(t, r, "sealed", func(s volume.Status) bool { return s.Phase == volume.Sealed && s.Satisfied() })
	}
	if got := slices.Sorted(maps.Values(kms.keys)); !slices.Equal(got, []string{testARN, testARN, other, other}) {
		t.Errorf("wrapped by %v: once at init, once for each move, and once to try a CMK that was never used", got)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "headers", "orders", "*intended*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestNewDataKeyOnRealHeaders: each of the two writes is cut off and completed, and
// then nothing of the old keyslot is left on the device: neither the passphrase from
// before opens anything, nor is its key material where it was. No backup changes when
// it is no more than another name of what the re-wrap makes, also not after a kill
// in which that was the draft's.
func TestNewDataKeyOnRealHeaders(t *testing.T) {
	t.Parallel()
	needCryptsetup(t)
	dir, kms := t.TempDir(), newRememberingKMS()
	f := &onFile{LUKS: newLUKS(t), dev: blankDisk(t)}
	r, stop := f.agent(t, dir, kms)
	defer stop()
	order(t, r, volume.VerbInit)
	awaitStatus(t, r, "mounted", isMounted)
	backups := map[string][32]byte{}
	for n := range 2 {
		before := frozen(t, f.LUKS, f.dev)
		slot := before.Candidates[0].Keyslot
		area := slotArea(t, f.dev, slot)
		f.locked(func() { f.tear = n + 1 })
		if _, err := r.Rotate(t.Context(), "orders", volume.RotateOrder{NewDataKey: true}); err != nil {
			t.Fatal(err)
		}
		s := awaitStatus(t, r, "renewed", func(s volume.Status) bool { return isMounted(s) && s.Rotation == nil })
		after := frozen(t, f.LUKS, f.dev)
		if len(after.Candidates) != 1 || after.Candidates[0].Keyslot == slot || s.Generation != n+2 || s.KeyARN != testARN || s.Notice != "" {
			t.Errorf("status %+v, header %+v", s, after.Candidates)
		}
		if same := matching(area, slotArea(t, f.dev, slot)); same > 2 {
			t.Errorf("%d blocks of the old keyslot are still there", same)
		}
		images, err := filepath.Glob(filepath.Join(dir, "headers", "orders", "g*.img"))
		if err != nil || len(images) != 1+2*(n+1) { // of init, and of each header that a rotation passes through
			t.Fatalf("%q, %v", images, err)
		}
		for _, path := range images {
			sum := sumOf(t, path)
			if before, known := backups[path]; known && before != sum {
				t.Errorf("%s is not what it was", path)
			}
			backups[path] = sum
		}
		if err := os.Link(images[len(images)-1], filepath.Join(dir, "headers", "orders", ".draft")); err != nil {
			t.Fatal(err)
		}
		wantVerified(t, r)
		order(t, r, volume.VerbLock)
		awaitStatus(t, r, "sealed", func(s volume.Status) bool { return s.Phase == volume.Sealed && s.Satisfied() })
		order(t, r, volume.VerbUnlock)
		awaitStatus(t, r, "mounted", isMounted)
	}
}

// slotArea is where a header built here has the key material of a keyslot.
func slotArea(t *testing.T, dev volume.Device, slot int) []byte {
	t.Helper()
	raw, err := os.ReadFile(dev.Path)
	if err != nil {
		t.Fatal(err)
	}
	at := metadataBytes + slot*258048
	return bytes.Clone(raw[at : at+258048])
}

func matching(a, b []byte) (blocks int) {
	for at := 0; at < len(a); at += 512 {
		if bytes.Equal(a[at:at+512], b[at:at+512]) {
			blocks++
		}
	}
	return blocks
}
