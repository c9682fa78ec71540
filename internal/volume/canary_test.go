// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/volseal/volseal/internal/fault"
)

// inMounted runs a test on a mounted volume that would survive a reboot.
func inMounted(t *testing.T, test func(t *testing.T, w *world, h *host, dir string)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := formatted(t, dir)
		h := startHost(t, w, dir)
		defer h.stop()
		h.await("sound", func(s Status) bool { return s.Phase == Mounted && s.WouldSurviveReboot })
		w.set(func() { w.calls = nil })
		test(t, w, h, dir)
	})
}

func aged(w *world, generation int) *image {
	img := *w.images[string(w.header)]
	img.tokens = slices.Clone(img.tokens)
	img.tokens[0].Generation = generation
	return &img
}

// Each reason why the next boot would not mount is told while the volume is
// mounted, and none of them touches it, nor leaves anything behind once mended.
func TestWouldNotSurvive(t *testing.T) {
	claimed := func(t *testing.T, dir string, text string) (restore func()) {
		t.Helper()
		claims, err := NewClaims(dir)
		if err != nil {
			t.Fatal(err)
		}
		before, err := os.ReadFile(claims.path("orders"))
		if err == nil {
			err = writeDurably(claims.path("orders"), []byte(text))
		}
		if err != nil {
			t.Fatal(err)
		}
		return func() { _ = writeDurably(claims.path("orders"), before) }
	}
	for name, c := range map[string]struct {
		harm func(*testing.T, *world, string) (mend func())
		want fault.Class
		why  string
	}{
		"key disabled": {func(_ *testing.T, w *world, _ string) func() {
			w.kms.answer(&fault.Error{Class: fault.Revoked, Reason: "DisabledException", Cause: "disabled"})
			return func() { w.kms.answer(nil) }
		}, fault.Revoked, "DisabledException"},
		"KMS away": {func(_ *testing.T, w *world, _ string) func() {
			w.kms.answer(&fault.Error{Class: fault.Unreachable, Reason: "timeout", Cause: "no answer"})
			return func() { w.kms.answer(nil) }
		}, fault.Unreachable, "timeout"},
		"header damaged": {func(_ *testing.T, w *world, _ string) func() {
			w.set(func() { w.torn = true })
			return func() { w.set(func() { w.torn = false }) }
		}, fault.Integrity, "magic"},
		"header wiped": {func(_ *testing.T, w *world, _ string) func() {
			header := w.header
			w.set(func() { w.header = nil })
			return func() { w.set(func() { w.header = header }) }
		}, fault.Integrity, "magic"},
		"keyslot damaged": {func(_ *testing.T, w *world, _ string) func() {
			w.set(func() { w.slotBroken = true })
			return func() { w.set(func() { w.slotBroken = false }) }
		}, fault.Integrity, "keyslot-passphrase"},
		"header rolled back": {func(_ *testing.T, w *world, _ string) func() {
			header := w.header
			w.set(func() { w.images["old"], w.header = aged(w, 0), []byte("old") })
			return func() { w.set(func() { w.header = header }) }
		}, fault.Integrity, "token-generation"},
		"header edited": {func(_ *testing.T, w *world, _ string) func() {
			header := w.header
			img := aged(w, 2)
			w.set(func() { w.images["edited"], w.header = img, []byte("edited") })
			return func() { w.set(func() { w.header = header }) }
		}, fault.Integrity, "mac"},
		"another volume's header": {func(_ *testing.T, w *world, _ string) func() {
			header := w.header
			img := aged(w, 1)
			img.uuid = "11111111-2222-4333-8444-555555555555"
			w.set(func() { w.images["other"], w.header = img, []byte("other") })
			return func() { w.set(func() { w.header = header }) }
		}, fault.Integrity, "uuid"},
		"disk does not read": {func(_ *testing.T, w *world, _ string) func() {
			w.set(func() {
				w.readErr = &fault.Error{Class: fault.Unknown, Reason: "io", Cause: "The device failed to read."}
			})
			return func() { w.set(func() { w.readErr = nil }) }
		}, fault.Unknown, "io"},
		"claim unreadable": {func(t *testing.T, _ *world, dir string) func() {
			return claimed(t, dir, "{")
		}, fault.Misconfigured, "claim-unreadable"},
		"claim of another volume": {func(t *testing.T, _ *world, dir string) func() {
			return claimed(t, dir, `{"version":1,"name":"orders","volume_id":"vol-0fedcba9876543210","luks_uuid":"x","stage":"ready","wish":"mounted"}`)
		}, fault.Misconfigured, "claim-changed"},
		"EC2 forbidden": {func(_ *testing.T, w *world, _ string) func() {
			w.set(func() {
				w.cloudErr = &fault.Error{Class: fault.Misconfigured, Reason: "UnauthorizedOperation", Cause: "not allowed"}
			})
			return func() { w.set(func() { w.cloudErr = nil }) }
		}, fault.Misconfigured, "UnauthorizedOperation"},
		"unencrypted beneath": {func(_ *testing.T, w *world, _ string) func() {
			w.set(func() { w.unencrypted = true })
			return func() { w.set(func() { w.unencrypted = false }) }
		}, fault.Misconfigured, "ebs-unencrypted"},
		"attached elsewhere, says EC2": {func(_ *testing.T, w *world, _ string) func() {
			w.set(func() { w.elsewhere = true })
			return func() { w.set(func() { w.elsewhere = false }) }
		}, fault.Misconfigured, "attached-elsewhere"},
	} {
		t.Run(name, func(t *testing.T) {
			inMounted(t, func(t *testing.T, w *world, h *host, dir string) {
				began := time.Now()
				mend := c.harm(t, w, dir)
				s := h.await("told", func(s Status) bool { return s.Class != fault.None })
				if s.Class != c.want || s.Reason != c.why || s.WouldSurviveReboot || s.Phase != Mounted || s.FailedStep != "Check volume" {
					t.Errorf("status %+v", s)
				}
				if took := time.Since(began); took > 12*time.Minute {
					t.Errorf("told after %s", took)
				}
				time.Sleep(time.Hour)
				mend()
				mended := time.Now()
				h.await("sound again", func(s Status) bool { return s.Phase == Mounted && s.WouldSurviveReboot && s.Class == fault.None })
				if took := time.Since(mended); took > time.Minute {
					t.Errorf("mended after %s", took)
				}
				if len(w.deeds()) != 0 {
					t.Errorf("touched a mounted volume: %v", w.deeds())
				}
			})
		})
	}
}

// An opening has asked all that an exam asks: it is not asked again before the
// probe interval, which would hold up the status of a host that boots.
func TestOpeningIsTheFirstExam(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := formatted(t, dir)
		before := w.kms.count()
		h := startHost(t, w, dir)
		defer h.stop()
		h.await("sound", func(s Status) bool { return s.Phase == Mounted && s.WouldSurviveReboot })
		time.Sleep(30 * time.Second)
		synctest.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		if n := w.kms.count() - before; n != 1 || w.tries != 0 {
			t.Errorf("%d calls of KMS, %d keyslots tried; want the one call of the opening", n, w.tries)
		}
	})
}

// What is told of the next boot is told within two intervals where the key or
// the disk says so.
func TestCanaryIsTimely(t *testing.T) {
	inMounted(t, func(t *testing.T, w *world, h *host, _ string) {
		began := time.Now()
		w.set(func() { w.slotBroken = true })
		h.await("told", func(s Status) bool { return !s.WouldSurviveReboot })
		if took := time.Since(began); took > 2*time.Minute {
			t.Errorf("took %s", took)
		}
	})
}

// A reload that failed leaves a configuration on the disk that no boot would use.
func TestInvalidConfigurationIsToldAsUnsafe(t *testing.T) {
	inMounted(t, func(t *testing.T, w *world, h *host, _ string) {
		h.r.Doubt(&fault.Error{Class: fault.Misconfigured, Reason: "config-invalid", Cause: "invalid"})
		h.await("told", func(s Status) bool {
			return s.Reason == "config-invalid" && !s.WouldSurviveReboot && s.Phase == Mounted
		})
		h.r.Apply([]Spec{testSpec(t)}, time.Minute)
		h.await("sound again", func(s Status) bool { return s.WouldSurviveReboot && s.Class == fault.None })
		if len(w.deeds()) != 0 {
			t.Errorf("touched a mounted volume: %v", w.deeds())
		}
	})
}

// An idle host asks little: a Decrypt and a read an interval, EC2 every tenth,
// and no process at all.
func TestIdleCanaryIsCheap(t *testing.T) {
	inMounted(t, func(t *testing.T, w *world, _ *host, _ string) {
		synctest.Wait()
		decrypts := w.kms.count()
		var before, after [3]int
		count := func(n *[3]int) { w.set(func() { *n = [3]int{w.asks, w.freezes, w.tries} }) }
		count(&before)
		time.Sleep(100 * time.Minute)
		synctest.Wait()
		if n := w.kms.count() - decrypts; n < 85 || n > 115 {
			t.Errorf("%d Decrypts in 100 intervals", n)
		}
		count(&after)
		if n := after[0] - before[0]; n < 8 || n > 12 {
			t.Errorf("EC2 was asked %d times in 100 intervals", n)
		}
		if after[1] != before[1] || after[2] != before[2] {
			t.Errorf("headers frozen and keyslots tried: %v, before %v, though nothing changed", after[1:], before[1:])
		}
	})
}

// A disk that hangs keeps nobody waiting, and is read by one reader at most.
func TestHangingDiskIsTold(t *testing.T) {
	inMounted(t, func(t *testing.T, w *world, h *host, _ string) {
		w.set(func() { w.hang = true })
		h.await("told", func(s Status) bool { return s.Reason == "device-slow" && !s.WouldSurviveReboot })
		if _, err := h.r.VerifyHeader(t.Context(), "orders"); fault.ReasonOf(err) != "device-slow" {
			t.Errorf("verify: %v", err) // a job would hang with the disk, and the worker with it
		}
		h.do(VerbLock)
		h.await("locked", func(s Status) bool { return s.Satisfied() && s.Phase == Sealed })
	})
}

// A volume that an operator is taking away is not one that the next boot mounts.
func TestLockIsToldAtOnce(t *testing.T) {
	inMounted(t, func(t *testing.T, _ *world, h *host, _ string) {
		h.do(VerbLock)
		if s := h.status(); s.WouldSurviveReboot {
			t.Errorf("status %+v", s)
		}
	})
}

// An edit that comes while an exam is under way is not passed by that exam, nor
// forgotten because an operator spoke before the next one: the CMK that it names has
// opened nothing, and whoever reads that it would deletes the other one.
func TestEditDuringAnExam(t *testing.T) {
	for name, then := range map[string]func(*host){
		"an edit":            func(*host) {},
		"an edit and a wish": func(h *host) { h.do(VerbUnlock) },
	} {
		t.Run(name, func(t *testing.T) {
			inMounted(t, func(t *testing.T, w *world, h *host, _ string) {
				w.kms.mu.Lock()
				w.kms.delay = 5 * time.Second
				w.kms.mu.Unlock()
				for n := w.kms.count(); w.kms.count() == n; {
					time.Sleep(time.Second)
				}
				spec := testSpec(t)
				spec.KeyARN = newARN
				h.r.Apply([]Spec{spec}, time.Minute)
				then(h)
				h.rec.mu.Lock()
				h.rec.passed = func() {
					if s := h.status(); s.WouldSurviveReboot {
						t.Errorf("after a pass: %+v", s)
					}
				}
				h.rec.mu.Unlock()
				time.Sleep(10 * time.Second)
				if s := h.status(); s.Class != fault.Misconfigured || s.WouldSurviveReboot {
					t.Errorf("at last: %+v", s)
				}
			})
		})
	}
}

// A header that is damaged while mounted is refused and quarantined by the next
// opening, by which time the database is down anyway.
func TestDamagedHeaderIsQuarantinedByTheNextBoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := formatted(t, dir)
		h := startHost(t, w, dir)
		h.await("sound", func(s Status) bool { return s.WouldSurviveReboot })
		w.set(func() { w.torn = true })
		h.await("told", func(s Status) bool { return s.Class == fault.Integrity && s.Phase == Mounted })
		h.stop()
		claims, err := NewClaims(dir)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := claims.Load("orders"); err != nil || c.Quarantine != nil {
			t.Errorf("claim %+v, %v", c, err)
		}
		w.set(func() { w.mounted, w.mapped = false, false })
		h = startHost(t, w, dir)
		defer h.stop()
		h.await("Quarantined", func(s Status) bool { return s.Phase == Quarantined })
	})
}
