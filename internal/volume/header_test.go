// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
)

func (h *host) backups(dir string) []Backup {
	h.t.Helper()
	claims, err := NewClaims(dir)
	if err != nil {
		h.t.Fatal(err)
	}
	b, err := claims.Backups("orders")
	if err != nil {
		h.t.Fatal(err)
	}
	return b
}

// Every header that a volume was mounted with has a backup, with nobody's word:
// after init, and after an upgrade from a version that made none.
func TestBackupByItself(t *testing.T) {
	inMounted(t, func(t *testing.T, w *world, h *host, dir string) {
		time.Sleep(time.Second)
		b := h.backups(dir)
		if len(b) != 1 || b[0].Generation != 1 {
			t.Fatalf("backups: %v", b)
		}
		h.stop()
		if err := os.RemoveAll(filepath.Join(dir, "headers", "orders")); err != nil {
			t.Fatal(err)
		}
		calls := w.kms.count()
		again := startHost(t, w, dir)
		again.await("sound", func(s Status) bool { return s.WouldSurviveReboot })
		time.Sleep(time.Hour)
		again.stop()
		if b := again.backups(dir); len(b) != 1 {
			t.Errorf("backups after the upgrade: %v", b)
		}
		if extra := w.kms.count() - calls; extra > 70 {
			t.Errorf("%d Decrypts in an hour", extra)
		}
	})
}

// Only what passed every check is a backup: a good one is never followed by a bad one.
func TestBackupOfASoundHeaderOnly(t *testing.T) {
	for name, harm := range map[string]func(*world){
		"torn":            func(w *world) { w.torn = true },
		"keyslot damaged": func(w *world) { w.slotBroken = true },
		"rolled back":     func(w *world) { w.images[string(w.header)] = aged(w, 0) },
		"edited":          func(w *world) { w.images[string(w.header)] = aged(w, 2) }, // the MAC covers it
		"revoked": func(w *world) {
			w.kms.answer(&fault.Error{Class: fault.Revoked, Cause: "disabled"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			inMounted(t, func(t *testing.T, w *world, h *host, dir string) {
				time.Sleep(time.Minute)
				before := h.backups(dir)
				w.set(func() { harm(w) })
				time.Sleep(20 * time.Second) // no proof is young enough any more
				if b, err := h.r.BackUpHeader(t.Context(), "orders"); fault.ClassOf(err) == fault.None {
					t.Errorf("kept %+v", b)
				}
				time.Sleep(10 * time.Minute)
				if after := h.backups(dir); !slices.Equal(after, before) {
					t.Errorf("backups are %v, were %v", after, before)
				}
				if w.did("unmount")+w.did("close") != 0 {
					t.Errorf("touched the volume: %v", w.deeds())
				}
			})
		})
	}
}

func check(r HeaderReport, name string) fault.Check {
	for _, c := range r.Checks {
		if c.Name == name {
			return c
		}
	}
	return fault.Check{}
}

// verify says what is wrong, and with what class; and what it could not look at
// for that. It changes nothing, mounted or sealed.
func TestVerifyHeader(t *testing.T) {
	for name, c := range map[string]struct {
		harm    func(*testing.T, *world, string)
		fails   string // the first check that does
		class   fault.Class
		skipped []string
	}{
		"sound": {harm: func(*testing.T, *world, string) {}},
		"torn": {
			func(_ *testing.T, w *world, _ string) { w.torn = true }, "primary", fault.Integrity,
			[]string{"copies", "token", "proof", "mac", "keyslot", "claim", "backup", "mapping"},
		},
		"keyslot damaged": {func(_ *testing.T, w *world, _ string) { w.slotBroken = true }, "keyslot", fault.Integrity, nil},
		"revoked": {func(_ *testing.T, w *world, _ string) {
			w.kms.answer(&fault.Error{Class: fault.Revoked, Cause: "disabled"})
		}, "proof", fault.Revoked, []string{"mac", "keyslot"}},
		"edited":      {func(_ *testing.T, w *world, _ string) { w.images[string(w.header)] = aged(w, 2) }, "mac", fault.Integrity, []string{"keyslot"}},
		"rolled back": {func(_ *testing.T, w *world, _ string) { w.images[string(w.header)] = aged(w, 0) }, "token", fault.Integrity, []string{"proof", "mac", "keyslot"}},
		"no backup": {func(t *testing.T, _ *world, dir string) {
			if err := os.RemoveAll(filepath.Join(dir, "headers", "orders")); err != nil {
				t.Fatal(err)
			}
		}, "backup", fault.Misconfigured, nil},
	} {
		t.Run(name, func(t *testing.T) {
			inMounted(t, func(t *testing.T, w *world, h *host, dir string) {
				time.Sleep(time.Minute)
				w.set(func() { c.harm(t, w, dir) })
				time.Sleep(20 * time.Second) // no proof is young enough any more
				r, err := h.r.VerifyHeader(t.Context(), "orders")
				if err != nil {
					t.Fatal(err)
				}
				first := ""
				for i, one := range r.Checks {
					if one.Status == fault.CheckFailed && first == "" {
						first = one.Name
						if one.Class != c.class || one.Detail == "" {
							t.Errorf("%+v", one)
						}
					}
					if (one.Status == fault.CheckSkipped) != slices.Contains(c.skipped, one.Name) || one.Name != HeaderChecks()[i] {
						t.Errorf("%+v", one)
					}
				}
				if first != c.fails || r.OK != (c.fails == "") || (fault.FirstFailed(r.Checks) == nil) != r.OK {
					t.Errorf("first failure is %q: %+v", first, r)
				}
				if len(w.deeds()) != 0 {
					t.Errorf("did %v", w.deeds())
				}
			})
		})
	}
}

func TestVerifySealed(t *testing.T) {
	inMounted(t, func(t *testing.T, w *world, h *host, _ string) {
		time.Sleep(time.Minute)
		h.do(VerbLock)
		h.await("sealed", func(s Status) bool { return s.Phase == Sealed && s.Satisfied() })
		r, err := h.r.VerifyHeader(t.Context(), "orders")
		if err != nil || !r.OK || check(r, "mapping").Status != fault.CheckSkipped || w.did("open") != 0 {
			t.Errorf("%+v, %v; did %v", r, err, w.deeds())
		}
		h.do(VerbRelease)
		h.await("detached", func(s Status) bool { return s.Phase == Detached })
		if _, err := h.r.VerifyHeader(t.Context(), "orders"); fault.ReasonOf(err) != "device-missing" {
			t.Errorf("without a device: %v", err)
		}
		if _, err := h.r.VerifyHeader(t.Context(), "ordres"); !errors.Is(err, ErrNoSuchVolume) {
			t.Errorf("without a volume: %v", err)
		}
	})
}

// locked is a volume that is sealed, has a backup, and then loses its header.
func locked(t *testing.T, harm func(*world), test func(t *testing.T, w *world, h *host, dir string)) {
	t.Helper()
	inMounted(t, func(t *testing.T, w *world, h *host, dir string) {
		time.Sleep(time.Minute)
		h.do(VerbLock)
		h.await("sealed", func(s Status) bool { return s.Phase == Sealed && s.Satisfied() })
		w.set(func() { harm(w); w.calls = nil })
		test(t, w, h, dir)
	})
}

// A header that is gone, whatever took it, comes back from its backup with one
// word, and the volume opens by itself. What was there is kept.
func TestRestoreHeader(t *testing.T) {
	for name, harm := range map[string]func(*world){
		"zeros":   func(w *world) { w.header = nil },
		"random":  func(w *world) { w.header, w.torn = []byte("random"), true },
		"damaged": func(w *world) { w.torn = true },
		"keyslot": func(w *world) { w.slotBroken = true },
		"edited":  func(w *world) { w.images["evil"] = aged(w, 7); w.header = []byte("evil") },
	} {
		t.Run(name, func(t *testing.T) {
			locked(t, harm, func(t *testing.T, w *world, h *host, _ string) {
				h.do(VerbUnlock)
				h.await("Quarantined", func(s Status) bool { return s.Phase == Quarantined && s.Class == fault.Integrity })
				done, err := h.r.RestoreHeader(t.Context(), "orders", HeaderOrder{})
				if err != nil || !done.Written || done.Generation != 1 || done.Quarantine != "" {
					t.Fatalf("%+v, %v", done, err)
				}
				if _, err := os.Stat(done.Replaced); err != nil {
					t.Errorf("what was there is lost: %v", err)
				}
				h.await("Mounted", func(s Status) bool { return s.Phase == Mounted && s.Class == fault.None })
				if w.data != "rows" {
					t.Errorf("data: %q", w.data)
				}
				done, err = h.r.RestoreHeader(t.Context(), "orders", HeaderOrder{})
				if err != nil || done.Written {
					t.Errorf("repeated: %+v, %v", done, err)
				}
			})
		})
	}
}

// The header of a mounted volume is restored beneath it, and nothing else happens to it.
func TestRestoreHeaderWhileMounted(t *testing.T) {
	inMounted(t, func(t *testing.T, w *world, h *host, _ string) {
		time.Sleep(time.Minute)
		w.set(func() { w.torn = true })
		h.await("told", func(s Status) bool { return s.Class == fault.Integrity && s.Phase == Mounted })
		if done, err := h.r.RestoreHeader(t.Context(), "orders", HeaderOrder{}); err != nil || !done.Written {
			t.Fatalf("%+v, %v", done, err)
		}
		h.await("sound", func(s Status) bool { return s.WouldSurviveReboot && s.Class == fault.None })
		if want := []string{"restore-begin", "restore-end"}; !slices.Equal(w.deeds(), want) {
			t.Errorf("did %v", w.deeds())
		}
		w.set(func() { w.uuid = "another" })
		if _, err := h.r.RestoreHeader(t.Context(), "orders", HeaderOrder{}); fault.ClassOf(err) != fault.Integrity {
			t.Errorf("under another's mapping: %v", err)
		}
	})
}

// An older or a foreign header needs a word of its own, and no word replaces the
// proof, the MAC or the pinned CMK. Nothing is written of what is refused.
func TestRestoreRefuses(t *testing.T) {
	seen := func(t *testing.T, dir string, change func(*Claim)) {
		t.Helper()
		claims, err := NewClaims(dir)
		if err != nil {
			t.Fatal(err)
		}
		c, err := claims.Load("orders")
		if err == nil {
			change(&c)
			err = claims.Save(c)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		claim  func(*Claim)
		world  func(*world)
		order  HeaderOrder
		reason string
		after  HeaderOrder // is accepted; From ".": nothing is
	}{
		"older": {
			claim: func(c *Claim) { c.Generation = 2 }, order: HeaderOrder{Generation: 1}, reason: "token-generation",
			after: HeaderOrder{Generation: 1, AcceptOlder: true},
		},
		"older, no such backup": {claim: func(c *Claim) { c.Generation = 2 }, reason: "backup-missing", after: HeaderOrder{Generation: 1, AcceptOlder: true}},
		"foreign":               {claim: func(c *Claim) { c.LUKSUUID = "other" }, reason: "uuid", after: HeaderOrder{AcceptForeign: true}},
		"foreign, with the word for older": {
			claim: func(c *Claim) { c.LUKSUUID = "other" }, order: HeaderOrder{AcceptOlder: true}, reason: "uuid",
			after: HeaderOrder{AcceptForeign: true},
		},
		"older, with the word for foreign": {
			claim: func(c *Claim) { c.Generation = 2 }, order: HeaderOrder{Generation: 1, AcceptForeign: true}, reason: "token-generation",
			after: HeaderOrder{Generation: 1, AcceptOlder: true},
		},
		"no claim":        {claim: func(c *Claim) { *c = Claim{Version: 1, Name: "orders", Wish: WishSealed} }, reason: "uuid", after: HeaderOrder{AcceptForeign: true}},
		"unfinished init": {claim: func(c *Claim) { c.Stage = StageFilesystem }, reason: "conflict", after: HeaderOrder{From: "."}},
		"revoked": {
			world: func(w *world) { w.kms.err = &fault.Error{Class: fault.Revoked, Reason: "gone", Cause: "disabled"} }, reason: "gone",
			order: HeaderOrder{AcceptOlder: true, AcceptForeign: true}, after: HeaderOrder{From: "."},
		},
		"edited": {world: func(w *world) {
			for key := range w.images {
				img := *w.images[key]
				img.tokens = []envelope.Token{img.tokens[0]}
				img.tokens[0].Generation = 9
				w.images[key] = &img
			}
		}, reason: "mac", order: HeaderOrder{AcceptOlder: true, AcceptForeign: true}, after: HeaderOrder{From: "."}},
		"elsewhere": {order: HeaderOrder{From: "../../claims/orders.json"}, reason: "image-name"},
	} {
		t.Run(name, func(t *testing.T) {
			locked(t, func(w *world) { w.torn = true }, func(t *testing.T, w *world, h *host, dir string) {
				h.stop()
				seen(t, dir, func(cl *Claim) {
					if c.claim != nil {
						c.claim(cl)
					}
				})
				if c.world != nil {
					w.set(func() { c.world(w) })
				}
				h = startHost(t, w, dir)
				defer h.stop()
				_, err := h.r.RestoreHeader(t.Context(), "orders", c.order)
				if reasonOf(err) != c.reason {
					t.Errorf("reason %q: %v", reasonOf(err), err)
				}
				if w.did("restore-begin") != 0 {
					t.Fatalf("did %v", w.deeds())
				}
				if c.after.From == "." {
					return
				}
				if _, err := h.r.RestoreHeader(t.Context(), "orders", c.after); err != nil {
					t.Errorf("with the word: %v", err)
				}
				h.do(VerbUnlock)
				h.await("Mounted", func(s Status) bool { return s.Phase == Mounted && s.Class == fault.None && s.Generation == 1 })
			})
		})
	}
}

// A header is written only to the device that is the volume's at that moment:
// while KMS was asked, volumes may have changed places, and the device number that
// was found may be another one's, of which nobody set anything aside.
func TestRestoreWritesToNoOtherDevice(t *testing.T) {
	for name, move := range map[string]func(*world){
		"gone":          func(w *world) { w.attached = false },
		"another's now": func(w *world) { w.renumbered = true },
	} {
		t.Run(name, func(t *testing.T) {
			locked(t, func(w *world) { w.torn = true }, func(t *testing.T, w *world, h *host, _ string) {
				time.Sleep(20 * time.Second) // no proof is young enough any more
				w.kms.delay = 5 * time.Second
				go func() {
					time.Sleep(2 * time.Second)
					w.set(func() { move(w) })
				}()
				_, err := h.r.RestoreHeader(t.Context(), "orders", HeaderOrder{})
				if fault.ReasonOf(err) != "device-changed" || w.did("restore-begin") != 0 {
					t.Errorf("got %v; did %v", err, w.deeds())
				}
			})
		})
	}
}

// Another host may have changed the header since this one last opened the volume:
// what that did is not undone by a restoration that nobody said so of.
func TestRestoreUndoesNoOtherHostsWork(t *testing.T) {
	locked(t, func(*world) {}, func(t *testing.T, w *world, h *host, dir string) {
		h.stop()
		elsewhere := t.TempDir()
		for _, arn := range []string{newARN, testARN} { // generations 2 and 3
			intend(t, elsewhere, func(c *Claim) { c.Wish, c.Rewrap.To = WishMounted, arn })
			other := startHost(t, w, elsewhere)
			other.await("moved", func(s Status) bool { return s.KeyARN == arn && s.Rotation == nil && s.WouldSurviveReboot })
			other.do(VerbLock)
			other.await("sealed", func(s Status) bool { return s.Phase == Sealed && s.Satisfied() })
			other.stop()
		}
		w.set(func() { w.calls = nil })
		h = startHost(t, w, dir)
		defer h.stop()
		if _, err := h.r.RestoreHeader(t.Context(), "orders", HeaderOrder{}); fault.ReasonOf(err) != "token-generation" || len(w.deeds()) != 0 {
			t.Errorf("got %v; did %v", err, w.deeds())
		}
		if done, err := h.r.RestoreHeader(t.Context(), "orders", HeaderOrder{AcceptOlder: true}); err != nil || done.Generation != 1 {
			t.Errorf("with the word: %+v, %v", done, err)
		}
	})
}

// A kill at any point of a restoration leaves what is refused or sound, never
// blank; to say it again is all that is needed.
func TestRestoreSurvivesACrashAnywhere(t *testing.T) {
	for _, after := range []bool{false, true} {
		for n := 1; n <= 2; n++ {
			locked(t, func(w *world) { w.header = nil }, func(t *testing.T, w *world, h *host, dir string) {
				w.set(func() { w.kill, w.after = n, after })
				if _, err := h.r.RestoreHeader(t.Context(), "orders", HeaderOrder{}); err == nil {
					t.Fatal("was not killed")
				}
				h.stop()
				w.set(func() { w.killed, w.kill = false, 0 })
				h = startHost(t, w, dir)
				defer h.stop()
				h.do(VerbReattach)
				h.await("refused or mounted", func(s Status) bool { return s.Phase == Quarantined || s.Phase == Mounted })
				if _, err := h.r.RestoreHeader(t.Context(), "orders", HeaderOrder{}); err != nil {
					t.Errorf("said again: %v", err)
				}
				h.await("Mounted", func(s Status) bool { return s.Phase == Mounted && s.Class == fault.None })
				if w.data != "rows" {
					t.Errorf("data: %q", w.data)
				}
			})
		}
	}
}

// A quarantine that no header mends outlives a restoration.
func TestRestoreLiftsItsOwnQuarantineOnly(t *testing.T) {
	for reason, lifted := range map[string]bool{"header-gone": true, "mac": true, "uuid": true, "mount-without-mapping": false, "mapping-unsound": false} {
		if q := (&Quarantine{Reason: reason}); q.mendedByHeader() != lifted {
			t.Errorf("%s: lifted %v", reason, !lifted)
		}
	}
	if (&Quarantine{Class: fault.Unknown, Reason: "device-lost"}).mendedByHeader() || (*Quarantine)(nil).mendedByHeader() {
		t.Error("lifted what has another cause")
	}
}

// A job that comes while the volume leaves the configuration is not done.
func TestNoJobForAVolumeThatLeft(t *testing.T) {
	inMounted(t, func(t *testing.T, w *world, h *host, _ string) {
		running, _ := h.r.worker("orders")
		h.r.Apply(nil, time.Minute)
		<-running.ended
		left, leave := context.WithCancel(t.Context())
		leave()
		running.jobs = make(chan job, 1)
		for range 100 { // which of two ready channels is taken is a matter of chance
			running.jobs <- func(context.Context) { t.Error("was done") }
			running.run(left)
			select {
			case <-running.jobs:
			default:
			}
		}
	})
}

// A worker that is at work for long refuses, in bounded time; and another
// volume's never waits for it.
func TestBusyWorkerRefusesJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := formatted(t, dir)
		w.kms.delay = 8 * time.Second
		w.slow = time.Minute // publishing
		h := startHost(t, w, dir)
		defer h.stop()
		time.Sleep(20 * time.Second)
		begin := time.Now()
		_, err := h.r.VerifyHeader(t.Context(), "orders")
		if _, busy := asConflict(err); !busy || time.Since(begin) > jobPatience+time.Second {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := h.r.VerifyHeader(ctx, "orders"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who gave up is told %v", err)
		}
		h.stop()
		if _, err := h.r.VerifyHeader(t.Context(), "orders"); err == nil || !strings.Contains(err.Error(), "stopping") {
			t.Errorf("of a stopped agent: %v", err)
		}
	})
}
