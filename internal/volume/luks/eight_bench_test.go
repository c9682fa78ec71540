// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/volume"
)

// slow is what each answer of KMS and of EC2 takes below.
const slow = 2 * time.Second

func wait(ctx context.Context) error {
	select {
	case <-time.After(slow):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// slowKMS answers late, and any number of requests at a time.
type slowKMS struct{ *rememberingKMS }

func (k slowKMS) Decrypt(ctx context.Context, arn string, ec envelope.Context, wrapped []byte) (*envelope.Secret, error) {
	if err := wait(ctx); err != nil {
		return nil, err
	}
	return k.rememberingKMS.Decrypt(ctx, arn, ec, wrapped)
}

// host is one of several volumes, each a file of its own: see onFile.
type host struct {
	*onFile // of nobody: its booleans are not asked
	volumes map[string]*hostVolume
}

type hostVolume struct {
	onFile
	name     string
	attached bool
}

// of finds the volume by its name, its id, its mapping or its mount point.
func (h *host) of(what string) *hostVolume {
	what = strings.TrimSuffix(what[strings.LastIndexAny(what, "/-")+1:], ".pending")
	return h.volumes[what]
}

func (h *host) Volume(ctx context.Context, id string) (c volume.CloudVolume, err error) {
	if err := wait(ctx); err != nil {
		return c, err
	}
	c = volume.CloudVolume{State: "available", Encrypted: true}
	v := h.of(id)
	v.locked(func() {
		if v.attached {
			c.State, c.Attachment = "in-use", "attached"
		}
	})
	return c, nil
}

func (h *host) Attach(ctx context.Context, id string) error {
	v := h.of(id)
	defer v.locked(func() { v.attached = true })
	return wait(ctx)
}

func (h *host) Detach(_ context.Context, id string) error {
	v := h.of(id)
	v.locked(func() { v.attached = false })
	return nil
}

func (h *host) Find(_ context.Context, id string) (dev volume.Device, err error) {
	v := h.of(id)
	err = volume.ErrNoDevice
	v.locked(func() {
		if v.attached {
			dev, err = v.dev, nil
		}
	})
	return dev, err
}

func (h *host) Mapping(ctx context.Context, name string) (volume.Mapping, error) {
	return h.of(name).Mapping(ctx, strings.Replace(name, h.of(name).name, "orders", 1))
}

func (h *host) Open(ctx context.Context, dev volume.Device, header *volume.Header, slot int, name string, p *envelope.Secret) error {
	return h.of(name).Open(ctx, dev, header, slot, name, p)
}

func (h *host) Publish(ctx context.Context, from, to string) error {
	return h.of(to).Publish(ctx, from, to)
}
func (h *host) Close(ctx context.Context, name string) error { return h.of(name).Close(ctx, name) }

type hostMounts struct{ h *host }

func (m hostMounts) Find(ctx context.Context, _ volume.Mapping, at string) (volume.MountFact, error) {
	return onFileMounts{&m.h.of(at).onFile}.Find(ctx, volume.Mapping{}, at)
}
func (m hostMounts) Stopping(context.Context) (bool, error) { return false, nil }
func (m hostMounts) Start(ctx context.Context, at string) error {
	return onFileMounts{&m.h.of(at).onFile}.Start(ctx, at)
}

func (m hostMounts) Stop(ctx context.Context, at string) error {
	return onFileMounts{&m.h.of(at).onFile}.Stop(ctx, at)
}

// BenchmarkEightVolumes is how long eight volumes take from detached to mounted,
// beside one, with 2 s on each answer of KMS and EC2: they wait side by side. Each has
// a data key of its own. Headers, keyslots and cryptsetup are real; the disks are
// files. The lab has the same with disks, on an emulated machine on which the
// processor is what they wait for.
func BenchmarkEightVolumes(b *testing.B) {
	needCryptsetup(b)
	l := newLUKS(b)
	h := &host{onFile: &onFile{LUKS: l}, volumes: map[string]*hostVolume{}}
	var names []string
	for i := range 8 {
		name := fmt.Sprintf("v%d", i)
		names = append(names, name)
		h.volumes[name] = &hostVolume{name: name, attached: true, onFile: onFile{LUKS: l, dev: blankDisk(b)}}
	}
	r := h.agent(b, names)
	all(b, r, names, volume.VerbInit, isMounted)
	for b.Loop() {
		one, eight := h.comesUp(b, r, names[:1]), h.comesUp(b, r, names)
		b.ReportMetric(one.Seconds(), "s-one")
		b.ReportMetric(eight.Seconds(), "s-eight")
		b.ReportMetric(eight.Seconds()/one.Seconds(), "ratio")
	}
}

func (h *host) comesUp(b *testing.B, r *volume.Reconciler, names []string) time.Duration {
	b.Helper()
	all(b, r, names, volume.VerbRelease, func(s volume.Status) bool { return s.Phase == volume.Detached && s.Satisfied() })
	begin := time.Now()
	all(b, r, names, volume.VerbReattach, isMounted)
	return time.Since(begin)
}

// all has each of the volumes do the same, and waits until the last one has.
func all(b *testing.B, r *volume.Reconciler, names []string, v volume.Verb, ok func(volume.Status) bool) {
	b.Helper()
	for _, name := range names {
		if _, err := r.Do(name, volume.Order{Verb: v}); err != nil {
			b.Fatal(err)
		}
	}
	for _, name := range names {
		awaitVolume(b, r, name, string(v), ok)
	}
}

func (h *host) agent(b *testing.B, names []string) *volume.Reconciler {
	b.Helper()
	claims, err := volume.NewClaims(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	var specs []volume.Spec
	for _, name := range names {
		ec, err := envelope.NewContext("db-"+name, nil)
		if err != nil {
			b.Fatal(err)
		}
		specs = append(specs, volume.Spec{
			Name: name, Database: "db-" + name, VolumeID: "vol-" + name, KeyARN: testARN, Mountpoint: "/srv/" + name,
			Filesystem: "ext4", Context: ec, Attach: true, RequireEBSEncryption: true,
		})
	}
	ring := envelope.NewKeyring(slowKMS{newRememberingKMS()}, envelope.Options{})
	r := volume.NewReconciler(volume.Ports{
		Cloud: h, Devices: h, Crypt: h, Formatter: h, Archive: h, Reencryptor: h, Mounts: hostMounts{h}, Keyring: ring,
		Claims: claims, Keys: volume.NewKeyBook(), Recorder: h, Log: slog.New(slog.DiscardHandler),
	})
	r.Apply(specs, time.Minute)
	ctx, end := context.WithCancel(b.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	b.Cleanup(func() { end(); <-done; ring.Flush() })
	return r
}
