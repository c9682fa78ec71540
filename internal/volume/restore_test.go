// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"strings"
	"testing"
	"time"

	"github.com/volseal/volseal/internal/fault"
)

func ownSnapshot(t *testing.T) *world     { return snapshotted(t, true) }
func foreignSnapshot(t *testing.T) *world { return snapshotted(t, false) }

// A volume from our own snapshot is made at once, under the configured CMK, and
// opened as it is.
func TestRestoreFromOurSnapshot(t *testing.T) {
	inMaking(t, ownSnapshot, func(t *testing.T, w *world, h *host, dir string) {
		w.set(func() { w.ec2.snapshots[testSnap].State, w.ec2.snapshots[testSnap].Progress = "pending", "42%" })
		h.order(restoreOne)
		h.await("waiting", func(s Status) bool { return s.Progress == "waiting for "+testSnap+": 42%" })
		w.set(func() { w.ec2.snapshots[testSnap].State = "completed" })
		h.await("named", func(s Status) bool { return s.VolumeID != "" && s.Progress == "creating a volume from "+testSnap })
		s := h.await("Mounted", mounted)
		v := w.ec2.volumes[s.VolumeID]
		if v.Snapshot != testSnap || v.SizeGiB != 10 || v.KeyARN != testARN || w.did("copy-snapshot") != 0 {
			t.Errorf("made %+v", v)
		}
		if w.did("mkfs") != 0 || w.did("build") != 0 || w.data != "rows" || loadClaim(t, dir).Making != nil {
			t.Errorf("did %v, data %q", w.deeds(), w.data)
		}
	})
}

// One of another account under another CMK is copied first.
func TestRestoreCopiesAForeignSnapshot(t *testing.T) {
	inMaking(t, foreignSnapshot, func(t *testing.T, w *world, h *host, _ string) {
		h.order(restoreOne)
		s := h.await("Mounted", mounted)
		v := w.ec2.volumes[s.VolumeID]
		if c := w.ec2.snapshots[v.Snapshot]; v.Snapshot == testSnap || c == nil || c.KeyARN != testARN || w.did("copy-snapshot") != 1 {
			t.Errorf("made %+v", v)
		}
	})
}

// Under another CMK than the configured one both layers move: EBS makes the
// volume under it, and the header is wrapped anew before the first opening.
func TestRestoreUnderAnotherKey(t *testing.T) {
	inMaking(t, ownSnapshot, func(t *testing.T, w *world, h *host, dir string) {
		h.order(Order{Verb: VerbRestore, Snapshot: testSnap, KeyARN: otherARN})
		s := h.await("Mounted", mounted)
		if v := w.ec2.volumes[s.VolumeID]; v.KeyARN != otherARN || v.Snapshot != testSnap {
			t.Errorf("made %+v", v)
		}
		if s.KeyARN != otherARN || s.Notice == "" || s.Generation != 2 || w.data != "rows" {
			t.Errorf("status %+v, data %q", s, w.data)
		}
		if c := loadClaim(t, dir); c.Making != nil || c.Rewrap.wanted() || c.Pin != (Pin{From: testARN, To: otherARN}) {
			t.Errorf("claim %+v", c)
		}
	})
}

// An order that is called off takes what it wished of the header along.
func TestRestoreUnderAnotherKeyCalledOff(t *testing.T) {
	inMaking(t, ownSnapshot, func(t *testing.T, w *world, h *host, dir string) {
		w.set(func() { w.ec2.snapshots[testSnap].State = "pending" })
		h.order(Order{Verb: VerbRestore, Snapshot: testSnap, KeyARN: otherARN})
		h.await("waiting", func(s Status) bool { return strings.HasPrefix(s.Progress, "waiting for") })
		h.do(VerbRelease)
		h.await("called off", func(s Status) bool { return s.Satisfied() && s.Reason == "no-volume-id" })
		if c := loadClaim(t, dir); c.Making != nil || c.Rewrap.wanted() {
			t.Errorf("claim %+v", c)
		}
	})
}

// EC2 tells nobody that a copy failed.
func TestFailedCopyIsTold(t *testing.T) {
	inMaking(t, foreignSnapshot, func(t *testing.T, w *world, h *host, _ string) {
		w.set(func() { w.ec2.mute = true })
		h.order(restoreOne)
		s := h.await("failed", failed)
		if s.Reason != "copy-failed" || s.FailedStep != createTen || s.Class != fault.Misconfigured ||
			!strings.Contains(s.Error, "Given key ID is not accessible") || !strings.Contains(s.Hint, "delete-snapshot") {
			t.Errorf("status %+v", s)
		}
		time.Sleep(time.Hour)
		if n := w.did("copy-snapshot"); n != maxBroken || w.did("create-volume") != 0 {
			t.Errorf("%d copies", n)
		}
		w.set(func() {
			w.ec2.mute = false
			for id, s := range w.ec2.snapshots {
				if s.State == "error" {
					delete(w.ec2.snapshots, id)
				}
			}
		})
		h.await("Mounted", mounted)
	})
}

// What was restored holds data, whatever it looks like.
func TestRestoredVolumeIsNeverFormatted(t *testing.T) {
	for reason, arrange := range map[string]func(*world){
		"header-gone":    func(w *world) { w.header, w.data = nil, "" },
		"header-foreign": func(w *world) { w.torn = true },
	} {
		t.Run(reason, func(t *testing.T) {
			inMaking(t, ownSnapshot, func(t *testing.T, w *world, h *host, _ string) {
				w.set(func() { arrange(w) })
				h.order(restoreOne)
				h.await("Quarantined", func(s Status) bool { return s.Phase == Quarantined && s.Reason == reason })
				h.do(VerbReattach)
				h.await("Quarantined again", func(s Status) bool { return s.Phase == Quarantined && s.Answered == 2 })
				if _, err := h.r.Do("orders", Order{Verb: VerbInit}); err == nil {
					t.Error("init was accepted")
				}
				if w.did("build") != 0 || w.did("mkfs") != 0 {
					t.Errorf("did %v", w.deeds())
				}
			})
		})
	}
}

// Its header can be put back, as the refusal says. Not so onto a volume that is about
// to be formatted: that would hide that no data are there.
func TestRestoreHeaderOfAMadeVolume(t *testing.T) {
	inMaking(t, ownSnapshot, func(t *testing.T, w *world, h *host, dir string) {
		claims, err := NewClaims(dir)
		if err == nil {
			_, err = claims.Draft("orders")
		}
		if err == nil {
			err = writeDurably(claims.Image("orders", backupName(1, time.Now())), w.header)
		}
		if err != nil {
			t.Fatal(err)
		}
		w.set(func() { w.header = nil })
		h.order(restoreOne)
		h.await("Quarantined", func(s Status) bool { return s.Phase == Quarantined && s.Reason == "header-gone" })
		if done, err := h.r.RestoreHeader(t.Context(), "orders", HeaderOrder{AcceptForeign: true}); err != nil || done.Quarantine != "" {
			t.Errorf("%+v, %v", done, err)
		}
		h.await("Mounted", mounted)
	})
	blank := observed{facts: Facts{Device: true, Making: MakingBlank}}
	if _, refused := asConflict(restorable(blank)); !refused {
		t.Error("a header may go onto a volume that is about to be formatted")
	}
}

// A snapshot that cannot or may not be used makes nothing.
func TestRestoreRefusals(t *testing.T) {
	for reason, arrange := range map[string]func(*world){
		ReasonNoSnapshot:  func(w *world) { delete(w.ec2.snapshots, testSnap) },
		"snapshot-state":  func(w *world) { w.ec2.snapshots[testSnap].State = "error" },
		"ebs-unencrypted": func(w *world) { w.ec2.snapshots[testSnap].Encrypted = false },
	} {
		t.Run(reason, func(t *testing.T) {
			inMaking(t, ownSnapshot, func(t *testing.T, w *world, h *host, _ string) {
				w.set(func() { arrange(w) })
				h.order(restoreOne)
				s := h.await("refused", func(s Status) bool { return s.Reason == reason })
				if s.Class != fault.Misconfigured || !strings.HasPrefix(s.FailedStep, "Create") {
					t.Errorf("status %+v", s)
				}
				time.Sleep(time.Hour)
				if w.did("create-volume") != 0 {
					t.Errorf("did %v", w.deeds())
				}
			})
		})
	}
}
