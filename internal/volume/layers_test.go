// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/volseal/volseal/internal/fault"
)

// TestLayersAreThoseSeen: nothing is told of a layer that this pass did not see,
// whatever the configuration says ought to be there.
func TestLayersAreThoseSeen(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	yes, no := true, false
	here := Mapping{Present: true, Major: 253, Minor: 3, UUID: "u"}
	live := liveCipher{uuid: "u", major: 253, minor: 3, cipher: "aes-xts-plain64"}
	for name, c := range map[string]struct {
		o    observed
		told CloudVolume
		live liveCipher
		want []Layer
	}{
		"nothing": {want: []Layer{}},
		"EC2, of another volume than the configured one": {
			told: CloudVolume{ID: "vol-2", Encrypted: true}, want: []Layer{},
		},
		"unencrypted": {
			told: CloudVolume{ID: testVol}, want: []Layer{{Layer: LayerEBS, Encrypted: &no, Asked: &at}},
		},
		"all of them": {
			o: observed{mapping: here, mount: MountFact{
				Mounted: true, Filesystem: "ext4", Ecryptfs: []Ecryptfs{{Path: "/srv/pg", Lower: "/var/lib/postgresql/lower"}},
			}},
			told: CloudVolume{ID: testVol, Encrypted: true, KeyARN: testARN}, live: live,
			want: []Layer{
				{Layer: LayerEBS, Encrypted: &yes, KeyARN: testARN, Asked: &at},
				{Layer: LayerLUKS2, UUID: "u", Cipher: "aes-xts-plain64"},
				{Layer: LayerFilesystem, Type: "ext4"},
				{Layer: LayerEcryptfs, Path: "/srv/pg", Lower: "/var/lib/postgresql/lower"},
			},
		},
		"the cipher of an earlier mapping": {
			o: observed{mapping: Mapping{Present: true, Major: 253, Minor: 4, UUID: "u"}}, live: live,
			want: []Layer{{Layer: LayerLUKS2, UUID: "u"}},
		},
		"a mapping that is no LUKS2": {o: observed{mapping: Mapping{Present: true, Major: 253, Minor: 3}}, live: live, want: []Layer{}},
	} {
		t.Run(name, func(t *testing.T) {
			c.o.volumeID = testVol
			if diff := cmp.Diff(c.want, layers(c.o, toldByCloud{c.told, at}, c.live)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestLayersComeAndGo: the list follows the volume, and an idle one asks the
// kernel for its table no second time.
func TestLayersComeAndGo(t *testing.T) {
	inMounted(t, func(t *testing.T, w *world, h *host, _ string) {
		synctest.Wait()
		tables := 0
		w.set(func() { w.keyARN, tables = testARN+"f", w.tables })
		time.Sleep(15 * time.Minute) // EC2 has been asked since
		if got := kinds(h.status()); !cmp.Equal(got, []LayerKind{LayerEBS, LayerLUKS2, LayerFilesystem}) {
			t.Errorf("mounted: %v", got)
		}
		ebs, luks := h.status().Layers[0], h.status().Layers[1]
		if !*ebs.Encrypted || ebs.KeyARN != testARN+"f" || ebs.Asked == nil || luks.Cipher != "aes-xts-plain64" || luks.UUID != h.status().LUKSUUID {
			t.Errorf("%+v %+v", ebs, luks)
		}
		if w.tables != tables {
			t.Errorf("the table was read %d times while nothing changed", w.tables-tables)
		}
		w.set(func() { w.ecryptfs = []Ecryptfs{{"/var/lib/postgresql/a", "/var/lib/postgresql/a"}} })
		h.r.Wake()
		h.await("eCryptfs", func(s Status) bool { return len(s.Layers) == 4 && s.WouldSurviveReboot })
		h.do(VerbLock)
		h.await("locked", func(s Status) bool { return s.Satisfied() && cmp.Equal(kinds(s), []LayerKind{LayerEBS}) })
	})
}

// TestUnknownCipherIsNoFailure: the list is for people, and decides nothing.
func TestUnknownCipherIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := formatted(t, dir)
		w.tableErr = errors.New("no control node")
		h := startHost(t, w, dir)
		defer h.stop()
		s := h.await("Mounted", func(s Status) bool { return s.Phase == Mounted && s.WouldSurviveReboot })
		if len(s.Layers) != 3 || s.Layers[1].Cipher != "" || s.Class != fault.None {
			t.Errorf("status %+v", s)
		}
	})
}

// TestLockNamesTheEcryptfs: what keeps the volume mounted is said by name, and
// once it is gone the lock comes true by itself, at once.
func TestLockNamesTheEcryptfs(t *testing.T) {
	inMounted(t, func(t *testing.T, w *world, h *host, _ string) {
		w.set(func() {
			w.stopErr = &fault.Error{Class: fault.Unknown, Reason: "job-failed", Cause: "systemd could not stop it."}
			w.ecryptfs = []Ecryptfs{{"/srv/pg", "/var/lib/postgresql/lower"}}
		})
		h.do(VerbLock)
		s := h.await("busy", func(s Status) bool { return s.Reason == "busy" })
		if s.Phase != Mounted || s.Class != fault.Unknown || s.FailedStep != "Unmount volume" ||
			s.Error != "The volume cannot be unmounted while eCryptfs is mounted at /srv/pg." {
			t.Errorf("status %+v", s)
		}
		time.Sleep(10 * time.Minute) // the pauses are at their longest
		w.set(func() { w.stopErr, w.ecryptfs = nil, nil })
		ended := time.Now()
		h.r.Wake()
		h.await("locked", func(s Status) bool { return s.Satisfied() })
		if took := time.Since(ended); took > 0 {
			t.Errorf("took %s more", took)
		}
	})
}

func kinds(s Status) (all []LayerKind) {
	for _, l := range s.Layers {
		all = append(all, l.Layer)
	}
	return all
}
