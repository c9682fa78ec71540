// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/volseal/volseal/internal/fault"
)

func lost(s Status) bool {
	return s.Phase == Quarantined && s.Reason == "device-lost" && s.Class == fault.Unknown
}

// A disk that is torn away takes the database down in order, and nothing comes
// back by itself: not when the disk does, and not with another agent.
func TestLostDeviceIsQuarantinedAndReattached(t *testing.T) {
	for name, again := range map[string]bool{"and stays away": false, "and comes back at once": true} {
		t.Run(name, func(t *testing.T) {
			inMounted(t, func(t *testing.T, w *world, h *host, dir string) {
				w.set(func() { w.attached, w.orphaned = again, true })
				h.r.Wake()
				s := h.await("taken down", func(s Status) bool { return lost(s) && s.Mapping == "" })
				if s.Hint == "" || s.WouldSurviveReboot {
					t.Errorf("status %+v", s)
				}
				time.Sleep(time.Hour)
				w.set(func() { w.attached = true })
				h.r.Wake()
				time.Sleep(time.Hour)
				h.stop()
				h = startHost(t, w, dir)
				defer h.stop()
				time.Sleep(time.Hour)
				if want := []string{"unmount", "close"}; !slices.Equal(w.deeds(), want) || !lost(h.status()) {
					t.Errorf("did %v, want %v; %+v", w.deeds(), want, h.status())
				}
				if _, err := h.r.Do("orders", Order{Verb: VerbUnlock}); fault.ReasonOf(err) != "device-lost" || fault.ClassOf(err) != fault.Integrity {
					t.Errorf("unlock: %v", err)
				}
				h.do(VerbReattach)
				h.await("Mounted", func(s Status) bool { return s.Phase == Mounted && s.WouldSurviveReboot && s.Class == fault.None })
			})
		})
	}
}

// However often the agent dies on the way, the loss is not forgotten.
func TestLossSurvivesACrashAnywhere(t *testing.T) {
	for _, after := range []bool{false, true} {
		for n := 1; n <= 3; n++ {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				w := formatted(t, dir)
				h := startHost(t, w, dir)
				h.await("sound", func(s Status) bool { return s.WouldSurviveReboot })
				w.set(func() { w.calls, w.kill, w.after, w.attached = nil, n, after, false })
				h.r.Wake()
				time.Sleep(time.Minute)
				h.stop()
				w.set(func() { w.kill, w.killed, w.attached = 0, false, true })
				h = startHost(t, w, dir)
				defer h.stop()
				h.await("taken down", func(s Status) bool { return lost(s) && s.Mapping == "" })
				if w.did("mount") != 0 || w.is(func() bool { return w.mounted || w.mapped }) {
					t.Errorf("kill %d (after %v): did %v", n, after, w.deeds())
				}
			})
		}
	}
}

// A database that does not let go is asked again, and the cause stays in sight.
func TestLostDeviceIsBusy(t *testing.T) {
	inMounted(t, func(t *testing.T, w *world, h *host, _ string) {
		w.set(func() {
			w.attached, w.stopErr = false, &fault.Error{Class: fault.Unknown, Reason: "job-failed", Cause: "busy"}
		})
		h.r.Wake()
		h.await("quarantined", lost)
		time.Sleep(10 * time.Minute)
		if s := h.status(); !lost(s) || w.did("close") != 0 {
			t.Errorf("status %+v, did %v", s, w.deeds())
		}
		w.set(func() { w.stopErr = nil })
		h.await("taken down", func(s Status) bool { return lost(s) && s.Mapping == "" })
	})
}

// An operator who takes the volume down anyway needs no quarantine; nor does a
// mapping that nobody had mounted.
func TestLossWithoutQuarantine(t *testing.T) {
	inMounted(t, func(t *testing.T, w *world, h *host, _ string) {
		w.set(func() { w.attached = false })
		h.do(VerbLock)
		h.await("locked", func(s Status) bool { return s.Satisfied() && s.Class == fault.None && s.Mapping == "" })
		h.do(VerbUnlock)
		h.await("Mounted", func(s Status) bool { return s.Phase == Mounted && s.Class == fault.None })
	})
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := formatted(t, dir)
		w.mapped, w.orphaned = true, true
		h := startHost(t, w, dir)
		defer h.stop()
		h.await("Mounted", func(s Status) bool { return s.Phase == Mounted && s.Class == fault.None })
		if w.deeds()[0] != "close" {
			t.Errorf("did %v", w.deeds())
		}
	})
}

// A file system that made itself read-only is told and left alone, and the key
// is watched on.
func TestReadOnlyIsTold(t *testing.T) {
	inMounted(t, func(t *testing.T, w *world, h *host, _ string) {
		w.set(func() { w.readOnly = true })
		s := h.await("told", func(s Status) bool { return s.Class != fault.None })
		if s.Reason != "read-only" || s.Phase != Mounted || s.WouldSurviveReboot {
			t.Errorf("status %+v", s)
		}
		w.kms.answer(&fault.Error{Class: fault.Revoked, Reason: "DisabledException", Cause: "disabled"})
		h.await("revoked first", func(s Status) bool { return s.Class == fault.Revoked })
		if len(w.deeds()) != 0 {
			t.Errorf("did %v", w.deeds())
		}
		w.kms.answer(nil)
		spec := testSpec(t)
		spec.MountOptions = []string{"ro"}
		h.r.Apply([]Spec{spec}, time.Minute)
		h.await("as it should be", func(s Status) bool { return s.Class == fault.None && s.WouldSurviveReboot })
	})
}
