// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/volseal/volseal/internal/fault"
)

// ordered begins a reencryption of a mounted volume.
func ordered(t *testing.T, o RotateOrder) (w *world, h *host, dir string) {
	t.Helper()
	dir = t.TempDir()
	w = mountedWorld(t, dir)
	h = startHost(t, w, dir)
	h.await("mounted", safely)
	h.rotate(o)
	return w, h, dir
}

// rekeyed insists that the data has a new volume key, and that nothing is left of
// the old one.
func rekeyed(t *testing.T, w *world, h *host, dir string, generation int) {
	t.Helper()
	s := h.await("Mounted with a new volume key", func(s Status) bool { return safely(s) && s.Rotation == nil })
	if s.Generation != generation || w.is(func() bool { return w.data != "rows" }) {
		t.Errorf("status %+v, data %q", s, w.data)
	}
	img := w.onDisk()
	if img.key != "+" || img.unfinished != nil || img.stale || len(img.tokens) != 1 || img.tokens[0].Generation != generation {
		t.Errorf("header %+v", img)
	}
	if c := claimOf(t, dir); c.Reencrypt.wanted() || c.VolumeKey != "key+" {
		t.Errorf("claim %+v", c)
	}
	if _, ok := newestOf(h.backups(dir), generation); !ok {
		t.Errorf("backups %v", h.backups(dir))
	}
	if r, err := h.r.VerifyHeader(t.Context(), "orders"); err != nil || !r.OK {
		t.Errorf("verify: %+v, %v", r, err)
	}
}

func reencrypting0(s Status) bool {
	return s.Rotation != nil && s.Rotation.Stage == RotationReencrypting && s.Rotation.DoneBytes > 0
}

// The data gets a new volume key while it is mounted; what is shown of it stays true
// in every moment, and how far it is is shown.
func TestReencrypt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, h, dir := ordered(t, RotateOrder{Reencrypt: true, Rate: 7})
		defer h.stop()
		last, seen := int64(0), 0
		h.await("done", func(s Status) bool {
			if !s.WouldSurviveReboot || s.Class != fault.None || s.Phase != Mounted {
				t.Errorf("meanwhile %+v", s)
			}
			if r := s.Rotation; r != nil && r.DoneBytes > last {
				last, seen = r.DoneBytes, seen+1
			}
			return s.Rotation == nil
		})
		if seen < 3 || w.work.rate != 7<<20 || w.work.runs != 1 || w.did("unmount")+w.did("close") > 0 {
			t.Errorf("progress %d times, %+v, %v", seen, w.work, w.deeds())
		}
		rekeyed(t, w, h, dir, 2)
	})
}

// Another CMK and another data key come first, and the volume key after them.
func TestReencryptFollowsARewrap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, h, dir := ordered(t, RotateOrder{KeyARN: newARN, NewDataKey: true, Reencrypt: true})
		defer h.stop()
		h.await("both", func(s Status) bool {
			return s.Rotation == nil || s.Rotation.Reencrypt && (s.Rotation.Stage == RotationReencrypting || s.Rotation.NewDataKey)
		})
		rekeyed(t, w, h, dir, 3)
		if s := h.status(); s.KeyARN != newARN {
			t.Errorf("status %+v", s)
		}
	})
}

// fate is what happens besides the agent's death.
type fate struct {
	name   string
	reboot bool // the host too
	hotkey bool // the job is killed, too, in the middle of a hot zone
	locks  bool // an operator locks the volume then, and later opens it
}

// A kill at any call that a reencryption makes of the world, alone, together with the
// host or with the job, ends with nobody's help in a volume that is mounted,
// its data there, under the new key. The calls are those that the code makes.
func TestReencryptionSurvivesACrashAnywhere(t *testing.T) {
	for _, f := range []fate{
		{name: "the job goes on"},
		{name: "a power cut", reboot: true},
		{name: "the job is killed", hotkey: true},
		{name: "the volume is locked", locks: true},
	} {
		t.Run(f.name, func(t *testing.T) {
			var trace []string
			stages := map[ReencryptStage]bool{}
			for n := 1; n == 1 || n <= len(trace); n++ {
				synctest.Test(t, func(t *testing.T) {
					if n == 1 {
						trace = reencryptionTrace(t)
						t.Logf("%d calls: %v", len(trace), trace)
					}
					stages[reencryptionCrash(t, f, n)] = true
				})
				if t.Failed() {
					t.Fatalf("killed at call %d of %v", n, trace)
				}
			}
			for _, s := range []ReencryptStage{ReencryptOrdered, ReencryptHeader, ReencryptBegun, ReencryptNone} {
				if !stages[s] {
					t.Errorf("no kill met the stage %q", s)
				}
			}
		})
	}
}

func beginReencryption(t *testing.T, dir string, dies int) (*world, *host) {
	t.Helper()
	w := mountedWorld(t, dir)
	intend(t, dir, func(c *Claim) { c.Reencrypt.Stage = ReencryptOrdered })
	w.set(func() { w.traced, w.trace, w.dies = true, nil, dies })
	return w, startHost(t, w, dir)
}

func reencryptionTrace(t *testing.T) []string {
	w, h := beginReencryption(t, t.TempDir(), 0)
	defer h.stop()
	h.await("over", func(s Status) bool { return over(s) && safely(s) })
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.trace)
}

func reencryptionCrash(t *testing.T, f fate, n int) ReencryptStage {
	dir := t.TempDir()
	w, h := beginReencryption(t, dir, n)
	h.await("killed", func(Status) bool { return w.is(func() bool { return w.killed }) })
	h.stop()
	stage := claimOf(t, dir).Reencrypt.Stage
	w.set(func() {
		w.traced, w.killed = false, false
		switch {
		case f.reboot:
			w.mounted, w.mapped, w.pending, w.work.job, w.work.layered = false, false, false, false, false
		case f.hotkey && w.work.job:
			w.work.job, w.suspendedZone = false, true
		}
	})
	h = startHost(t, w, dir)
	defer h.stop()
	if f.locks {
		h.do(VerbLock)
		h.await("locked", func(s Status) bool { return s.Phase == Sealed && s.Satisfied() })
		if w.is(func() bool { return w.work.job || w.work.layered }) {
			t.Fatal("the job works on a volume that is locked")
		}
		h.do(VerbUnlock)
	}
	rekeyed(t, w, h, dir, 2)
	return stage
}

// A job that is killed in its hot zone, again and again, is noticed; the volume comes
// back each time, and the reencryption goes on by itself.
func TestReencryptionKilledAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, h, dir := ordered(t, RotateOrder{Reencrypt: true})
		defer h.stop()
		for n := range 3 {
			w.set(func() { w.work.killed = 2 })
			h.await("killed and opened anew", func(s Status) bool {
				return w.did("fail-layers") > n && s.Phase == Mounted && !w.is(func() bool { return w.suspendedZone })
			})
		}
		rekeyed(t, w, h, dir, 2)
	})
}

// It rests where an operator says so, also over a reboot, and goes on, at another
// pace, where one says so.
func TestReencryptionPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, h, dir := ordered(t, RotateOrder{Reencrypt: true})
		h.await("some of it", reencrypting0)
		h.rotate(RotateOrder{Pause: true})
		s := h.await("paused", func(s Status) bool { return s.Rotation != nil && s.Rotation.Stage == RotationPaused })
		time.Sleep(time.Minute)
		done := h.status().Rotation.DoneBytes
		if done == 0 || w.is(func() bool { return w.work.job }) {
			t.Errorf("it goes on: %+v", s.Rotation)
		}
		h.stop()
		w.set(func() { w.mounted, w.mapped = false, false })
		h = startHost(t, w, dir)
		defer h.stop()
		h.await("mounted", safely)
		time.Sleep(time.Hour)
		if now := h.status().Rotation; now == nil || now.DoneBytes != done || w.data != "rows" {
			t.Errorf("after a reboot: %+v, data %q", now, w.data)
		}
		h.rotate(RotateOrder{Reencrypt: true, Rate: 3})
		h.await("at work again", func(Status) bool { return w.is(func() bool { return w.work.rate == 3<<20 }) })
		h.rotate(RotateOrder{Reencrypt: true, Rate: 9})
		h.await("faster", func(Status) bool { return w.is(func() bool { return w.work.rate == 9<<20 }) })
		rekeyed(t, w, h, dir, 2)
	})
}

// A unit that ends and gets nowhere is told, and not started in a busy loop; the
// volume is none the worse.
func TestReencryptionStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := mountedWorld(t, dir)
		w.work.stuck = true
		h := startHost(t, w, dir)
		defer h.stop()
		h.await("mounted", safely)
		h.rotate(RotateOrder{Reencrypt: true})
		s := h.await("told", func(s Status) bool { return s.Rotation != nil && s.Rotation.Class != fault.None })
		if s.Rotation.Reason != "reencryption-failed" || !strings.Contains(s.Rotation.Hint, "volseal-reencrypt-orders.service") {
			t.Errorf("%+v", s.Rotation)
		}
		before := w.did("run")
		time.Sleep(10 * time.Minute)
		if n := w.did("run") - before; n < 5 || n > 60 || !h.status().WouldSurviveReboot {
			t.Errorf("%d runs in ten minutes, %+v", n, h.status())
		}
		w.set(func() { w.work.stuck = false })
		rekeyed(t, w, h, dir, 2)
	})
}

// What would spoil a reencryption, or be spoilt by it, is refused with a way out.
func TestReencryptionRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, h, dir := ordered(t, RotateOrder{Reencrypt: true})
		defer h.stop()
		h.await("some of it", reencrypting0)
		conflict := func(what string, err error) {
			t.Helper()
			if c, ok := asConflict(err); !ok || c.Hint == "" {
				t.Errorf("%s: %v", what, err)
			}
		}
		for what, o := range map[string]RotateOrder{
			"abort": {Abort: true}, "another CMK": {KeyARN: newARN}, "another data key": {NewDataKey: true, Reencrypt: true},
		} {
			_, err := h.r.Rotate(t.Context(), "orders", o)
			conflict(what, err)
		}
		_, err := h.r.BackUpHeader(t.Context(), "orders")
		conflict("backup", err)
		_, err = h.r.RestoreHeader(t.Context(), "orders", HeaderOrder{AcceptOlder: true})
		conflict("restore", err)
		if r, err := h.r.VerifyHeader(t.Context(), "orders"); err != nil || !r.OK {
			t.Errorf("verify: %+v, %v", r, err)
		}
		rekeyed(t, w, h, dir, 2)
		// The backup from before holds the old volume key: with it the data is garbage.
		_, err = h.r.RestoreHeader(t.Context(), "orders", HeaderOrder{Generation: 1, AcceptOlder: true})
		if fault.ReasonOf(err) != "volume-key" {
			t.Errorf("an old header is put back: %v", err)
		}
		_, err = h.r.Rotate(t.Context(), "orders", RotateOrder{Pause: true})
		conflict("pause of nothing", err)
	})
	corrupts := &fault.Error{Class: fault.Misconfigured, Reason: "cryptsetup-corrupts", Cause: "too old", Hint: "update"}
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := mountedWorld(t, dir)
		w.work.commanded = corrupts
		h := startHost(t, w, dir)
		defer h.stop()
		h.await("mounted", safely)
		if _, err := h.r.Rotate(t.Context(), "orders", RotateOrder{Reencrypt: true}); !errors.Is(err, corrupts) {
			t.Error(err)
		}
	})
}

// As long as nothing of it is on the device it can be taken back.
func TestReencryptionAbortedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := mountedWorld(t, dir)
		h := startHost(t, w, dir)
		defer h.stop()
		h.await("mounted", safely)
		w.kms.refuses(testARN)
		time.Sleep(15 * time.Second) // the proof is too old, so that it cannot begin
		h.rotate(RotateOrder{Reencrypt: true})
		h.await("held up", func(s Status) bool { return s.Rotation != nil && s.Rotation.Class == fault.Revoked })
		h.rotate(RotateOrder{Abort: true})
		w.kms.refuses()
		s := h.await("as before", func(s Status) bool { return safely(s) && s.Rotation == nil })
		if s.Generation != 1 || w.work.runs != 0 || claimOf(t, dir).Reencrypt.wanted() {
			t.Errorf("%+v", s)
		}
	})
}

// A header with two keys, or the one from before put back, is opened by no host that
// does not know of it; an operator may have a reencryption go on whose host is lost.
func TestReencryptionOfAStranger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, h, _ := ordered(t, RotateOrder{Reencrypt: true})
		h.await("some of it", reencrypting0)
		h.stop()
		w.set(func() {
			w.mounted, w.mapped, w.work.job, w.work.layered = false, false, false, false
			w.attached = false
		})
		dir := t.TempDir()
		h = startHost(t, w, dir)
		defer h.stop()
		s := h.await("refused", func(s Status) bool { return s.Phase == Quarantined })
		if s.Reason != ReasonUnfinished || w.did("open") != 1 {
			t.Errorf("%+v, %v", s, w.deeds())
		}
		h.rotate(RotateOrder{Reencrypt: true})
		rekeyed(t, w, h, dir, 2)
	})
	synctest.Test(t, func(t *testing.T) {
		w, h, dir := ordered(t, RotateOrder{Reencrypt: true})
		h.await("some of it", reencrypting0)
		h.stop()
		claims, err := NewClaims(dir)
		if err != nil {
			t.Fatal(err)
		}
		old, err := claims.Find("orders", "", 1)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(old)
		if err != nil {
			t.Fatal(err)
		}
		w.set(func() {
			w.mounted, w.mapped, w.work.job, w.work.layered = false, false, false, false
			w.header = raw
		})
		h = startHost(t, w, dir)
		defer h.stop()
		s := h.await("refused", func(s Status) bool { return s.Phase == Quarantined })
		if s.Reason != "volume-key" || w.data != "rows" {
			t.Errorf("%+v, data %q", s, w.data)
		}
	})
}

// TestReencryptOrders: an order that makes no sense is refused by itself.
func TestReencryptOrders(t *testing.T) {
	for _, o := range []RotateOrder{
		{Reencrypt: true, Abort: true},
		{Pause: true, Abort: true},
		{Pause: true, Reencrypt: true},
		{Pause: true, KeyARN: newARN},
		{Rate: 5},
		{Rate: 5, KeyARN: newARN},
		{Reencrypt: true, Rate: -1},
		{Reencrypt: true, Rate: MaxRate + 1},
	} {
		var e *OrderError
		if err := o.Validate(); !errors.As(err, &e) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	for rate, want := range map[int]int64{0: 3354624, 1: 102400, 50: 5242880, MaxRate: maxHotzone} {
		if got := (Reencryption{Rate: rate}).hotzone(); got != want || got%4096 != 0 {
			t.Errorf("rate %d: hot zone %d, want %d", rate, got, want)
		}
	}
	for _, r := range []Reencryption{{Rate: 1}, {Paused: true}, {Stage: "half"}, {Stage: ReencryptBegun, Rate: -1}} {
		if err := r.validate(); err == nil {
			t.Errorf("%+v is a sound claim", r)
		}
	}
}

// A customer who revokes his key during a reencryption has the volume locked like any
// other: the work ends first, and under lock-freeze it is locked, since with two keys it
// could not be resumed in place. Once the key is back it goes on.
func TestReencryptionUnderARevocation(t *testing.T) {
	for _, policy := range []Policy{LockGraceful, LockFreeze} {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			w := mountedWorld(t, dir)
			h := startHost(t, w, dir)
			defer h.stop()
			spec := testSpec(t)
			spec.OnRevocation, spec.RevocationGrace = policy, time.Minute
			h.r.Apply([]Spec{spec}, time.Minute)
			h.await("mounted", safely)
			w.set(func() { w.work.slow = 30 * time.Minute })
			h.rotate(RotateOrder{Reencrypt: true})
			h.await("at work", func(Status) bool { return w.is(func() bool { return w.work.job }) })
			w.kms.refuses(testARN)
			h.await("locked", func(s Status) bool { return s.Phase == Sealed && s.Mapping == "" })
			if w.is(func() bool { return w.work.job || w.work.layered || w.mapped }) || w.did("suspend") > 0 {
				t.Errorf("%s: %v", policy, w.deeds())
			}
			w.kms.refuses()
			w.set(func() { w.work.slow = 0 })
			rekeyed(t, w, h, dir, 2)
		})
	}
}

// A host that has forgotten a reencryption, or never knew of it, writes no header from
// before over it, whatever it is told: nothing but that header tells by which key to
// read what.
func TestRestoreSparesAReencryption(t *testing.T) {
	for name, forget := range map[string]func(*Claim){
		"the claim is from before": func(c *Claim) { c.Reencrypt, c.VolumeKey, c.Generation = Reencryption{}, "", 1 },
		"there is no claim":        func(c *Claim) { *c = Claim{Version: 1, Name: "orders"} },
	} {
		for _, finished := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", finished ", finished), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w, h, dir := ordered(t, RotateOrder{Reencrypt: true})
					h.await("some of it", reencrypting0)
					if finished {
						rekeyed(t, w, h, dir, 2)
					}
					h.stop()
					w.set(func() { w.mounted, w.mapped, w.work.job, w.work.layered = false, false, false, false })
					intend(t, dir, func(c *Claim) { forget(c); c.Wish = WishSealed })
					h = startHost(t, w, dir)
					defer h.stop()
					before := w.did("restore-begin")
					for _, o := range []HeaderOrder{{}, {AcceptOlder: true}, {AcceptForeign: true}, {AcceptOlder: true, AcceptForeign: true}} {
						o.Generation = 1
						if _, err := h.r.RestoreHeader(t.Context(), "orders", o); err == nil {
							t.Errorf("%+v is obeyed", o)
						}
					}
					if w.did("restore-begin") != before {
						t.Errorf("did %v", w.deeds())
					}
				})
			})
		}
	}
}

// The header from the middle of a reencryption that has ended here, put back, is refused
// also when an operator has it go on: it would decrypt most of the data by the key from
// before, and make garbage of it. So is one that is older than what was seen here. The
// backup from after can then be put back.
func TestReencryptionThatEndedIsNotAdopted(t *testing.T) {
	for reason, change := range map[string]func(*Claim){
		"volume-key":       func(*Claim) {},
		"token-generation": func(c *Claim) { c.VolumeKey, c.Generation = "", 3 },
	} {
		synctest.Test(t, func(t *testing.T) {
			w, h, dir := ordered(t, RotateOrder{Reencrypt: true})
			h.await("some of it", reencrypting0)
			var half []byte
			w.set(func() { half = w.header })
			rekeyed(t, w, h, dir, 2)
			h.stop()
			w.set(func() { w.mounted, w.mapped, w.header = false, false, half })
			intend(t, dir, change)
			opened, runs := w.did("open"), w.did("run")
			h = startHost(t, w, dir)
			defer h.stop()
			h.await("refused", func(s Status) bool { return s.Phase == Quarantined && s.Reason == ReasonUnfinished })
			h.rotate(RotateOrder{Reencrypt: true})
			h.await("refused again", func(s Status) bool { return s.Phase == Quarantined && s.Reason == reason })
			if w.did("open") != opened || w.did("run") != runs || w.data != "rows" || claimOf(t, dir).Reencrypt.wanted() {
				t.Errorf("%s: did %v, data %q, claim %+v", reason, w.deeds(), w.data, claimOf(t, dir))
			}
			if reason != "volume-key" {
				return
			}
			if _, err := h.r.RestoreHeader(t.Context(), "orders", HeaderOrder{}); err != nil {
				t.Fatal(err)
			}
			rekeyed(t, w, h, dir, 2)
		})
	}
}

// A reencryption of our own is not forgotten for whatever is put over its header, and
// neither is one that was adopted, once the volume was open with it.
func TestReencryptionIsNotForgotten(t *testing.T) {
	for _, adopted := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w, h, dir := ordered(t, RotateOrder{Reencrypt: true})
			h.await("some of it", reencrypting0)
			if adopted {
				h.stop()
				w.set(func() { w.mounted, w.mapped, w.work.job, w.work.layered = false, false, false, false })
				intend(t, dir, func(c *Claim) { *c = Claim{Version: 1, Name: "orders", Wish: WishMounted} })
				h = startHost(t, w, dir)
				h.await("refused", func(s Status) bool { return s.Phase == Quarantined })
				h.rotate(RotateOrder{Reencrypt: true})
				h.await("mounted", func(s Status) bool { return s.Phase == Mounted })
			}
			h.stop()
			claims, err := NewClaims(dir)
			if err != nil {
				t.Fatal(err)
			}
			old, err := claims.Find("orders", "", 1)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := os.ReadFile(old)
			if err != nil {
				t.Fatal(err)
			}
			w.set(func() {
				w.mounted, w.mapped, w.work.job, w.work.layered = false, false, false, false
				w.header = raw
			})
			h = startHost(t, w, dir)
			defer h.stop()
			h.do(VerbAcceptHeader)
			h.await("refused", func(s Status) bool { return s.Phase == Quarantined && s.Reason == "volume-key" })
			if c := claimOf(t, dir); c.Reencrypt.Stage != ReencryptBegun || c.Reencrypt.Generation != 2 {
				t.Errorf("adopted %v: %+v", adopted, c.Reencrypt)
			}
		})
	}
}

// A job that was killed when all was done but for its devices leaves them upon the disk;
// they go before the volume is opened, whoever closed that.
func TestReencryptionKilledAtItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, h, dir := ordered(t, RotateOrder{Reencrypt: true})
		h.await("at work", func(Status) bool { return w.is(func() bool { return w.work.job }) })
		h.stop()
		w.set(func() { w.mounted = false })
		time.Sleep(time.Minute) // the job ends
		w.set(func() { w.mapped, w.work.layered = false, true })
		h = startHost(t, w, dir)
		defer h.stop()
		rekeyed(t, w, h, dir, 2)
	})
}
