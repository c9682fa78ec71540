// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"errors"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
)

func TestOpensFromDetached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := formatted(t, dir)
		h := startHost(t, w, dir)
		defer h.stop()
		s := h.await("Mounted", func(s Status) bool { return s.Phase == Mounted && s.WouldSurviveReboot })
		want := []string{"attach", "open", "publish", "mount"}
		if !slices.Equal(w.calls, want) {
			t.Errorf("did %v, want %v", w.calls, want)
		}
		if s.Class != fault.None || s.LastProof == nil || s.LUKSUUID == "" || s.Generation != 1 {
			t.Errorf("status %+v", s)
		}
	})
}

// The promise of the product: without a live Decrypt nothing opens, whatever
// the reason, and everything opens by itself within 40 s of the mend.
func TestRefusesWithoutAProofAndRecovers(t *testing.T) {
	for _, class := range fault.Classes() {
		if class == fault.Integrity || class == fault.Misconfigured {
			continue // these wait for somebody, see below
		}
		t.Run(string(class), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				w := formatted(t, dir)
				w.kms.answer(&fault.Error{Class: class, Reason: "test", Cause: "The key cannot be used.", Hint: "Mend it."})
				h := startHost(t, w, dir)
				defer h.stop()
				s := h.await("refused", func(s Status) bool { return s.Class == class })
				if s.Phase != Sealed || s.FailedStep != "Unlock volume" || s.NextRetry == nil || s.Hint != "Mend it." {
					t.Errorf("status %+v", s)
				}
				time.Sleep(20 * time.Minute) // long enough for every pause to be at its longest
				if w.did("open") != 0 || w.did("mount") != 0 {
					t.Fatalf("opened without a proof: %v", w.calls)
				}
				w.kms.answer(nil)
				mended := time.Now()
				h.await("Mounted", func(s Status) bool { return s.Phase == Mounted })
				if took := time.Since(mended); took > 40*time.Second {
					t.Errorf("took %s to recover", took)
				}
			})
		})
	}
}

func TestIntegrityQuarantinesUntilReattach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := formatted(t, dir)
		w.kms.answer(&fault.Error{Class: fault.Integrity, Reason: "IncorrectKeyException", Cause: "Wrapped by another CMK."})
		h := startHost(t, w, dir)
		h.await("Quarantined", func(s Status) bool { return s.Phase == Quarantined && s.Class == fault.Integrity })
		h.stop()
		w.kms.answer(nil)
		calls := w.kms.count()
		h = startHost(t, w, dir)
		defer h.stop()
		time.Sleep(time.Hour)
		if s := h.status(); s.Phase != Quarantined || s.Error == "" || w.kms.count() != calls {
			t.Fatalf("a restart forgot the quarantine, or KMS was asked in it: %+v", s)
		}
		if _, err := h.r.Do("orders", Order{Verb: VerbUnlock}); fault.ClassOf(err) != fault.Integrity {
			t.Errorf("unlock in quarantine: %v", err)
		}
		h.do(VerbReattach)
		h.await("Mounted", func(s Status) bool { return s.Phase == Mounted && s.Class == fault.None })
	})
}

// An older header brings back keys that a rotation replaced. It opens only by
// the one word that says so, and that word holds once.
func TestOlderHeaderNeedsItsOwnWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := formatted(t, dir)
		claims, err := NewClaims(dir)
		if err != nil {
			t.Fatal(err)
		}
		seen := func(generation int) {
			c, err := claims.Load("orders")
			if err != nil {
				t.Fatal(err)
			}
			c.Generation = generation
			if err := claims.Save(c); err != nil {
				t.Fatal(err)
			}
		}
		seen(2)
		before := w.kms.count()
		h := startHost(t, w, dir)
		refused := func(s Status) bool { return s.Phase == Quarantined && s.Reason == "token-generation" }
		h.await("Quarantined", refused)
		h.do(VerbReattach)
		h.await("Quarantined again", func(s Status) bool { return refused(s) && s.Answered == 1 })
		if n := w.kms.count() - before; n != 0 {
			t.Errorf("KMS was asked about an older header: %d Decrypts", n)
		}
		h.do(VerbAcceptHeader)
		s := h.await("Mounted", func(s Status) bool { return s.Phase == Mounted })
		if s.Generation != 1 {
			t.Errorf("generation %d is remembered, want that of the header", s.Generation)
		}
		h.stop()
		w.set(func() { w.mounted, w.mapped = false, false })
		seen(2)
		h = startHost(t, w, dir)
		defer h.stop()
		h.await("Quarantined the next time", refused)
	})
}

// A restarted or upgraded agent must not disturb a database.
func TestAdoptsWhatIsMounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := formatted(t, dir)
		h := startHost(t, w, dir)
		h.await("Mounted", func(s Status) bool { return s.Phase == Mounted })
		h.stop()
		w.calls = nil
		h = startHost(t, w, dir)
		defer h.stop()
		h.await("Mounted", func(s Status) bool { return s.Phase == Mounted && s.WouldSurviveReboot })
		h.do(VerbReattach)
		h.await("answered", func(s Status) bool { return s.Answered == 1 })
		time.Sleep(time.Hour)
		if len(w.calls) != 0 {
			t.Errorf("touched a mounted volume: %v", w.calls)
		}
	})
}

// A mapping that stands open unmounted was proved by nobody who is still alive.
func TestClosesAnUnprovedMapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := formatted(t, dir)
		w.attached, w.mapped = true, true
		h := startHost(t, w, dir)
		h.await("Mounted", func(s Status) bool { return s.Phase == Mounted })
		h.stop()
		if want := []string{"close", "open", "publish", "mount"}; !slices.Equal(w.calls, want) {
			t.Errorf("did %v, want %v", w.calls, want)
		}
		w.mounted, w.calls = false, nil
		w.kms.answer(&fault.Error{Class: fault.Revoked, Cause: "disabled"})
		h = startHost(t, w, dir)
		defer h.stop()
		h.await("Sealed", func(s Status) bool { return s.Phase == Sealed && s.Class == fault.Revoked })
		if w.mapped {
			t.Error("the mapping stands open without a proof")
		}
	})
}

func TestFailedMountClosesTheMapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := formatted(t, dir)
		w.mountErr = &fault.Error{Class: fault.Unknown, Cause: "The mount unit failed."}
		h := startHost(t, w, dir)
		defer h.stop()
		h.await("failing", func(s Status) bool { return s.FailedStep == "Mount volume" })
		time.Sleep(5 * time.Minute)
		if n := w.did("open"); n > 40 || n < 10 {
			t.Errorf("%d openings in five minutes", n)
		}
		w.set(func() { w.mountErr = nil })
		h.await("Mounted", func(s Status) bool { return s.Phase == Mounted && s.Class == fault.None })
	})
}

func TestLockAndReleaseHoldOverRestarts(t *testing.T) {
	for _, c := range []struct {
		verb Verb
		want func(*world) bool
	}{
		{VerbLock, func(w *world) bool { return !w.mapped && w.attached }},
		{VerbRelease, func(w *world) bool { return !w.mapped && !w.attached }},
	} {
		t.Run(string(c.verb), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				w := formatted(t, dir)
				h := startHost(t, w, dir)
				h.await("Mounted", func(s Status) bool { return s.Phase == Mounted })
				h.do(c.verb)
				s := h.await("satisfied", func(s Status) bool { return s.Answered == 1 && s.Satisfied() })
				if c.verb == VerbLock && s.Phase != Sealed {
					t.Errorf("locked, and shown as %s", s.Phase)
				}
				h.stop()
				w.calls = nil
				h = startHost(t, w, dir)
				defer h.stop()
				time.Sleep(time.Hour)
				if !c.want(w) || len(w.calls) != 0 {
					t.Errorf("after a restart: %+v, did %v", h.status(), w.calls)
				}
				h.do(VerbReattach)
				h.await("Mounted", func(s Status) bool { return s.Phase == Mounted })
			})
		})
	}
}

// A crash anywhere in init, before or after any change to the world, ends in a
// volume that mounts once init is asked for again, and never in a second mkfs
// over data.
func TestInitSurvivesACrashAnywhere(t *testing.T) {
	for _, after := range []bool{false, true} {
		for n := 1; ; n++ {
			finished := false
			synctest.Test(t, func(t *testing.T) { finished = crashInit(t, n, after) })
			if finished {
				break
			}
			if n > 50 {
				t.Fatal("init has no end")
			}
		}
	}
}

// crashInit kills init at the n-th change; it reports whether there was none.
func crashInit(t *testing.T, n int, after bool) (finished bool) {
	dir := t.TempDir()
	w := newWorld()
	w.kill, w.after = n, after
	h := startHost(t, w, dir)
	h.do(VerbInit)
	h.await("killed or mounted", func(s Status) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.killed || s.Phase == Mounted
	})
	h.stop()
	if !w.killed {
		return true
	}
	w.killed, w.kill = false, 0
	h = startHost(t, w, dir)
	defer h.stop()
	s := h.await("mounted or waiting for init", func(s Status) bool {
		return s.Phase == Mounted || s.Reason == "not-initialised"
	})
	if s.Phase != Mounted {
		h.do(VerbInit)
		h.await("mounted", func(s Status) bool { return s.Phase == Mounted && s.Class == fault.None })
	}
	if _, err := h.r.Do("orders", Order{Verb: VerbInit}); err == nil {
		t.Error("init was accepted twice")
	}
	if w.data != "rows" {
		t.Errorf("kill %d (after %v): data %q; did %v", n, after, w.data, w.calls)
	}
	return false
}

func TestInitRefusesWhatIsNotBlank(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.data = "somebody else's, far behind the header area"
		h := startHost(t, w, t.TempDir())
		defer h.stop()
		h.do(VerbInit)
		s := h.await("refused", func(s Status) bool { return s.Class == fault.Integrity })
		if s.Reason != "not-blank" || s.FailedStep != "Format volume" || w.did("build") != 0 || w.header != nil {
			t.Errorf("status %+v, did %v", s, w.calls)
		}
	})
}

// A blank volume is never formatted without the word, even when it looks as if
// it should be: a damaged header looks blank too.
func TestBlankIsNotFormattedUnasked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := newWorld()
		h := startHost(t, w, dir)
		s := h.await("refused", func(s Status) bool { return s.Class != fault.None })
		if s.Class != fault.Misconfigured || s.Reason != "not-initialised" || s.Phase != Attached {
			t.Errorf("status %+v", s)
		}
		h.stop()
		w = formatted(t, dir)
		w.header = nil
		h = startHost(t, w, dir)
		defer h.stop()
		h.await("Quarantined", func(s Status) bool { return s.Phase == Quarantined && s.Reason == "header-gone" })
		if _, err := h.r.Do("orders", Order{Verb: VerbInit}); err == nil {
			t.Error("init of a volume whose header is gone was accepted")
		}
	})
}

func TestRefusals(t *testing.T) {
	for reason, arrange := range map[string]func(*world){
		"ebs-unencrypted":    func(w *world) { w.unencrypted = true },
		"attached-elsewhere": func(w *world) { w.elsewhere = true },
	} {
		t.Run(reason, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				w := formatted(t, dir)
				arrange(w)
				h := startHost(t, w, dir)
				defer h.stop()
				s := h.await("refused", func(s Status) bool { return s.Reason == reason })
				if s.Class != fault.Misconfigured || s.Hint == "" || w.did("attach") != 0 {
					t.Errorf("status %+v, did %v", s, w.calls)
				}
			})
		})
	}
}

// Events carry no facts and must not turn into calls.
func TestChatterCausesNoCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := formatted(t, dir)
		w.kms.answer(&fault.Error{Class: fault.Revoked, Cause: "disabled"})
		h := startHost(t, w, dir)
		defer h.stop()
		h.await("refused", func(s Status) bool { return s.Class == fault.Revoked })
		time.Sleep(10 * time.Minute)
		before := w.kms.count()
		for range 1000 {
			h.r.Wake()
			time.Sleep(10 * time.Millisecond)
		}
		if n := w.kms.count() - before; n > 20 {
			t.Errorf("1000 events in 10 s caused %d calls", n)
		}
	})
}

func TestUnreadableClaimRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"not JSON": "{", "unknown field": `{"version":1,"name":"orders","wish":"mounted","extra":1}`,
		"later version": `{"version":2,"name":"orders","wish":"mounted"}`,
		"another name":  `{"version":1,"name":"other","wish":"mounted"}`,
		"text behind":   `{"version":1,"name":"orders","wish":"mounted"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				w := formatted(t, dir)
				claims, _ := NewClaims(dir)
				if err := writeDurably(claims.path("orders"), []byte(text)); err != nil {
					t.Fatal(err)
				}
				h := startHost(t, w, dir)
				defer h.stop()
				s := h.await("refused", func(s Status) bool { return s.Class != fault.None })
				if s.Reason != "claim-unreadable" || len(w.calls) != 0 {
					t.Errorf("status %+v, did %v", s, w.calls)
				}
				if _, err := h.r.Do("orders", Order{Verb: VerbInit}); err == nil {
					t.Error("init over an unreadable claim was accepted")
				}
			})
		})
	}
}

func TestNoSuchVolume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t, newWorld(), t.TempDir())
		defer h.stop()
		if _, err := h.r.Do("ordres", Order{Verb: VerbUnlock}); !errors.Is(err, ErrNoSuchVolume) {
			t.Errorf("got %v", err)
		}
	})
}

// A stopped agent leaves nothing open that nobody mounted: a start of the
// database would mount it with nobody asked.
func TestStopClosesWhatIsNotMounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := formatted(t, dir)
		h := startHost(t, w, dir)
		w.set(func() { w.published = h.end })
		<-h.done
		if w.mapped || w.pending || w.mounted {
			t.Errorf("mapped %v, pending %v, mounted %v; did %v", w.mapped, w.pending, w.mounted, w.calls)
		}
	})
}

// An edit of the configuration must neither disturb a mounted database nor
// leave a quarantine behind once it is put back.
func TestEditsWhileMounted(t *testing.T) {
	for name, edit := range map[string]func(*Spec){
		"volume_id": func(s *Spec) { s.VolumeID = "vol-0fedcba9876543210" },
		"key_arn":   func(s *Spec) { s.KeyARN = testARN[:len(testARN)-1] + "0" },
		"context":   func(s *Spec) { s.Context = envelope.Context{"volseal:purpose": "x"} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				w := formatted(t, dir)
				h := startHost(t, w, dir)
				defer h.stop()
				h.await("Mounted", func(s Status) bool { return s.Phase == Mounted && s.WouldSurviveReboot })
				w.set(func() { w.calls = nil })
				spec := testSpec(t)
				edit(&spec)
				h.r.Apply([]Spec{spec}, time.Minute)
				s := h.await("refused", func(s Status) bool { return s.Class != fault.None })
				if s.Class != fault.Misconfigured || s.Phase != Mounted || s.WouldSurviveReboot {
					t.Errorf("status %+v", s)
				}
				h.r.Apply([]Spec{testSpec(t)}, time.Minute)
				h.await("sound again", func(s Status) bool { return s.Phase == Mounted && s.WouldSurviveReboot && s.Class == fault.None })
				if len(w.calls) != 0 {
					t.Errorf("touched a mounted volume: %v", w.calls)
				}
			})
		})
	}
}

// Moving the claim away is the documented word for "this is another volume now".
func TestReattachTakesUpAClaimThatWasMovedAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := formatted(t, dir)
		img := *w.images[string(w.header)]
		img.uuid = "11111111-2222-4333-8444-555555555555"
		w.images["other"], w.header = &img, []byte("other")
		h := startHost(t, w, dir)
		defer h.stop()
		h.await("Quarantined", func(s Status) bool { return s.Phase == Quarantined && s.Reason == "uuid" })
		claims, _ := NewClaims(dir)
		if err := os.Remove(claims.path("orders")); err != nil {
			t.Fatal(err)
		}
		h.do(VerbReattach)
		s := h.await("Mounted", func(s Status) bool { return s.Phase == Mounted && s.Class == fault.None })
		if s.LUKSUUID != img.uuid {
			t.Errorf("claims %s", s.LUKSUUID)
		}
	})
}

func TestReleaseDoesNotDetachWhatIsInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := formatted(t, dir)
		w.attached, w.held = true, true
		h := startHost(t, w, dir)
		defer h.stop()
		h.do(VerbRelease)
		h.await("refused", func(s Status) bool { return s.Answered == 1 && s.Reason == "busy" })
		time.Sleep(time.Hour)
		if w.did("detach") != 0 {
			t.Errorf("detached a device in use: %v", w.calls)
		}
		w.set(func() { w.held = false })
		h.await("Detached", func(s Status) bool { return s.Satisfied() && s.Phase == Detached })
	})
}

// EC2 shows an attachment only some time after it accepted it.
func TestAttachesOnceWhileEC2Lags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := formatted(t, dir)
		w.lag = 1500 * time.Millisecond
		h := startHost(t, w, dir)
		defer h.stop()
		begin := time.Now()
		h.await("Mounted", func(s Status) bool { return s.Phase == Mounted })
		if took := time.Since(begin); w.did("attach") != 1 || took > 10*time.Second {
			t.Errorf("%d attachments, %s", w.did("attach"), took)
		}
	})
}

// A mistaken init on a volume that holds data is refused once, and then the
// volume opens as if nobody had said it.
func TestInitOfAForeignHostsVolumeIsSpent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := formatted(t, t.TempDir())
		w.kms.answer(&fault.Error{Class: fault.Unreachable, Cause: "KMS does not answer."})
		h := startHost(t, w, t.TempDir()) // a host that has no claim
		defer h.stop()
		h.do(VerbInit)
		h.await("refused", func(s Status) bool { return s.Answered == 1 && s.Reason == "conflict" })
		w.kms.answer(nil)
		h.await("Mounted", func(s Status) bool { return s.Phase == Mounted })
		if w.did("build") != 0 || w.did("mkfs") != 0 {
			t.Errorf("did %v", w.calls)
		}
	})
}

func TestQuarantinedVolumeCanBeReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := formatted(t, dir)
		w.attached, w.torn = true, true
		h := startHost(t, w, dir)
		defer h.stop()
		h.await("Quarantined", func(s Status) bool { return s.Phase == Quarantined })
		h.do(VerbRelease)
		s := h.await("satisfied", func(s Status) bool { return s.Answered == 1 && s.Satisfied() })
		if w.attached || s.Phase != Quarantined {
			t.Errorf("attached %v, %+v", w.attached, s)
		}
	})
}

func TestNothingIsOpenedWhileTheHostStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := formatted(t, dir)
		w.attached, w.stopping = true, true
		before := w.kms.count()
		h := startHost(t, w, dir)
		defer h.stop()
		h.await("refused", func(s Status) bool { return s.Reason == "host-stopping" })
		if w.kms.count() != before || w.did("open") != 0 {
			t.Errorf("did %v", w.calls)
		}
	})
}

// A name that leaves the configuration and comes back at once has one worker.
func TestQuickReloadsKeepOneWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := formatted(t, dir)
		h := startHost(t, w, dir)
		defer h.stop()
		for range 5 {
			h.r.Apply(nil, time.Minute)
			h.r.Apply([]Spec{testSpec(t)}, time.Minute)
		}
		h.await("Mounted", func(s Status) bool { return s.Phase == Mounted })
		if w.did("mount") != 1 {
			t.Errorf("did %v", w.calls)
		}
	})
}

// One EBS volume under two names is worked on under one.
func TestRivalsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := formatted(t, dir)
		h := startHost(t, w, dir)
		defer h.stop()
		rival := testSpec(t)
		rival.Name = "rival"
		h.r.Apply([]Spec{testSpec(t), rival}, time.Minute)
		h.await("Mounted", func(s Status) bool { return s.Phase == Mounted })
		time.Sleep(time.Minute)
		if s, _ := h.r.Volume("rival"); s.Reason != "volume-shared" || w.did("open") != 1 {
			t.Errorf("rival %+v, did %v", s, w.calls)
		}
	})
}

// A host that takes longer to open than a proof lasts proves anew, and does not
// close and open for ever.
func TestSlowOpeningIsProvedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := formatted(t, dir)
		w.slow = 30 * time.Second
		before := w.kms.count()
		h := startHost(t, w, dir)
		h.await("Mounted", func(s Status) bool { return s.Phase == Mounted })
		h.stop()
		if n := w.kms.count() - before; w.did("open") != 1 || w.did("close") != 0 || n < 2 {
			t.Errorf("%d Decrypts, did %v", n, w.calls)
		}
		w.set(func() { w.mounted, w.mapped, w.calls = false, false, nil })
		w.published = func() { w.kms.answer(&fault.Error{Class: fault.Revoked, Cause: "disabled meanwhile"}) }
		h = startHost(t, w, dir)
		defer h.stop()
		h.await("refused", func(s Status) bool { return s.Class == fault.Revoked })
		if w.mapped || w.did("mount") != 0 {
			t.Errorf("mapped %v, did %v", w.mapped, w.calls)
		}
	})
}
