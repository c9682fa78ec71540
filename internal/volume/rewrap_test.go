// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
)

const (
	newARN   = "arn:aws:kms:us-east-1:222222222222:key/bbbbbbbb-bbbb-cccc-dddd-eeeeeeeeeeee"
	thirdARN = "arn:aws:kms:us-east-1:333333333333:key/cccccccc-bbbb-cccc-dddd-eeeeeeeeeeee"
)

// intend records the intent, as a verb does before it rings.
func intend(t *testing.T, dir string, change func(*Claim)) {
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

func rewrapTo(arn string) func(*Claim) { return func(c *Claim) { c.Rewrap = Rewrap{To: arn} } }

func claimOf(t *testing.T, dir string) Claim {
	t.Helper()
	claims, err := NewClaims(dir)
	if err != nil {
		t.Fatal(err)
	}
	c, err := claims.Load("orders")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (w *world) tokens() []envelope.Token {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.images[string(w.header)].tokens
}

// moved insists that the volume is wholly the new CMK's, and that the old one is
// not needed for anything any more.
func moved(t *testing.T, w *world, h *host, dir string) {
	t.Helper()
	s := h.await("Mounted under the new CMK", func(s Status) bool { return safely(s) && s.Rotation == nil })
	if s.KeyARN != newARN || s.Generation != 2 || !strings.Contains(s.Notice, newARN) {
		t.Errorf("status %+v", s)
	}
	if tokens := w.tokens(); len(tokens) != 1 || tokens[0].KeyARN != newARN || tokens[0].Generation != 2 {
		t.Errorf("tokens %+v", tokens)
	}
	if c := claimOf(t, dir); c.Rewrap.wanted() || c.Pin != (Pin{testARN, newARN}) {
		t.Errorf("claim %+v", c)
	}
	if keys := h.r.Snapshot().Keys; len(keys) != 1 || keys[0].ARN != newARN || keys[0].State != KeyUsable {
		t.Errorf("keys %+v", keys)
	}
	if _, ok := newestOf(h.backups(dir), 2); !ok {
		t.Errorf("backups %v", h.backups(dir))
	}
	if r, err := h.r.VerifyHeader(t.Context(), "orders"); err != nil || !r.OK {
		t.Errorf("verify: %+v, %v", r, err)
	}
	if w.data != "rows" {
		t.Errorf("data %q", w.data)
	}
}

// A volume moves to another CMK while it is mounted, the old one can then be
// destroyed, and the configuration may follow whenever somebody edits it.
func TestRewrap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := formatted(t, dir)
		h := startHost(t, w, dir)
		h.await("mounted", safely)
		before := w.deeds()
		h.rotate(RotateOrder{KeyARN: newARN})
		h.await("done", func(s Status) bool { return s.Rotation == nil })
		moved(t, w, h, dir)
		for _, deed := range w.deeds()[len(before):] {
			if deed != "retoken" && deed != "restore-begin" && deed != "restore-end" {
				t.Errorf("a mounted volume saw %q", deed)
			}
		}
		w.kms.refuses(testARN)
		h.stop()
		w.set(func() { w.mounted, w.mapped = false, false })
		h = startHost(t, w, dir)
		moved(t, w, h, dir)

		spec := testSpec(t)
		spec.KeyARN = newARN
		h.r.Apply([]Spec{spec}, time.Minute)
		h.await("no notice", func(s Status) bool { return s.Notice == "" && s.KeyARN == newARN && s.WouldSurviveReboot })
		time.Sleep(time.Minute)
		if c := claimOf(t, dir); c.Pin != (Pin{}) {
			t.Errorf("the pin stays: %+v", c)
		}
		h.r.Apply([]Spec{testSpec(t)}, time.Minute) // back to the old one: that is a mistake now
		h.await("told", func(s Status) bool {
			return s.Reason == "token-key" && s.Class == fault.Misconfigured && s.Phase == Mounted
		})
		h.stop()
	})
}

// What is shown of a mounted volume stays true in every moment of a rotation: it
// would survive a reboot, and nothing is wrong with it.
func TestRewrapDisturbsNoExam(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := formatted(t, dir)
		h := startHost(t, w, dir)
		defer h.stop()
		h.await("mounted", safely)
		h.rotate(RotateOrder{KeyARN: newARN})
		h.await("done", func(s Status) bool {
			if !s.WouldSurviveReboot || s.Class != fault.None || s.Phase != Mounted {
				t.Errorf("meanwhile %+v", s)
			}
			return s.Rotation == nil
		})
		for range 3 {
			time.Sleep(time.Minute)
			if s := h.status(); !safely(s) || s.KeyARN != newARN {
				t.Errorf("later %+v", s)
			}
		}
	})
}

// A volume from a snapshot is re-wrapped before it was ever open here, and not
// opened under the old CMK while that fails.
func TestRewrapOfAStranger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := formatted(t, t.TempDir())
		claims, err := NewClaims(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := claims.Save(Claim{Version: 1, Name: "orders", Wish: WishMounted, Rewrap: Rewrap{To: newARN, First: true}}); err != nil {
			t.Fatal(err)
		}
		w.kms.refuses(newARN)
		h := startHost(t, w, dir)
		defer h.stop()
		h.await("refused", func(s Status) bool { return s.FailedStep == "Re-wrap data key" && s.Phase == Sealed })
		time.Sleep(10 * time.Minute)
		if w.did("open") != 0 {
			t.Errorf("did %v", w.deeds())
		}
		w.kms.refuses()
		moved(t, w, h, dir)
	})
}

// An operator who speaks while a step of a re-wrap is under way is heard: a step
// that began under another word neither moves the pin nor forgets the new word. The
// pin is never one that was not proved.
func TestRewrapHearsTheLatestWord(t *testing.T) {
	for name, c := range map[string]struct {
		image int // which judgement of an image the word comes with
		word  Rewrap
		arn   string
	}{
		"taken back before the pin moves": {3, Rewrap{To: newARN, Abort: true}, testARN},
		"another CMK before":              {3, Rewrap{To: thirdARN}, thirdARN},
		"another CMK at the end":          {6, Rewrap{To: thirdARN}, thirdARN},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				w := formatted(t, dir)
				intend(t, dir, rewrapTo(newARN))
				h := startHost(t, w, dir)
				defer h.stop()
				running, _ := h.r.worker("orders")
				w.set(func() {
					w.judged = func() {
						if c.image--; c.image != 0 {
							return
						}
						if err := running.update(func(cl *Claim) { cl.Rewrap = c.word }); err != nil {
							t.Error(err)
						}
					}
				})
				s := h.await("over", func(s Status) bool { return safely(s) && s.Rotation == nil })
				tokens := w.tokens()
				if cl := claimOf(t, dir); s.KeyARN != c.arn || len(tokens) != 1 || tokens[0].KeyARN != c.arn || cl.Rewrap.wanted() {
					t.Errorf("status %+v, claim %+v, tokens %+v", s, cl, tokens)
				}
			})
		})
	}
}

// A pin of long ago, under a configuration that is not there any more, does not
// spoil the next move.
func TestRewrapReplacesAnOldPin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := formatted(t, dir)
		intend(t, dir, func(c *Claim) { c.Pin, c.Rewrap.To = Pin{From: thirdARN, To: thirdARN}, newARN })
		h := startHost(t, w, dir)
		defer h.stop()
		moved(t, w, h, dir)
	})
}

// What keeps a rotation from its end leaves the volume with the old CMK, mounted
// and safe, over a reboot too. It is told, tried again, and can be taken back.
func TestRewrapRefusedAndAborted(t *testing.T) {
	denied := &fault.Error{Class: fault.Misconfigured, Reason: "AccessDeniedException", Cause: "KMS refuses to wrap.", Hint: "Allow it."}
	for name, c := range map[string]struct {
		harm   func(*world)
		class  fault.Class
		reason string
	}{
		"no permission":   {func(w *world) { w.kms.rewrapErr = denied }, fault.Misconfigured, "AccessDeniedException"},
		"new key refuses": {func(w *world) { w.kms.refuses(newARN) }, fault.Misconfigured, "DisabledException"},
		"another key":     {func(w *world) { w.kms.twisted = true }, fault.Misconfigured, "key-changed"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				w := formatted(t, dir)
				header := string(w.header)
				c.harm(w)
				intend(t, dir, rewrapTo(newARN))
				h := startHost(t, w, dir)
				s := h.await("refused", func(s Status) bool { return s.Rotation != nil && s.Rotation.Class != fault.None && safely(s) })
				if r := s.Rotation; r.Class != c.class || r.Reason != c.reason || r.Stage != RotationAdding || r.NextRetry == nil || len(r.Who) == 0 || s.KeyARN != testARN {
					t.Errorf("status %+v, rotation %+v", s, r)
				}
				time.Sleep(10 * time.Minute)
				if string(w.header) != header || claimOf(t, dir).Pin != (Pin{}) || !safely(h.status()) {
					t.Errorf("changed: did %v", w.deeds())
				}
				w.set(func() { w.mounted, w.mapped = false, false })
				h.await("mounted again", safely)
				h.rotate(RotateOrder{Abort: true})
				s = h.await("taken back", func(s Status) bool { return s.Rotation == nil })
				if !safely(s) || s.KeyARN != testARN || s.Generation != 1 || claimOf(t, dir).Rewrap.wanted() {
					t.Errorf("status %+v", s)
				}
				h.stop()
			})
		})
	}
}

// An outage in the middle harms nothing, and locks and unlocks meanwhile are what
// they always are: the rotation goes on when both are over.
func TestRotationThroughAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := formatted(t, dir)
		h := startHost(t, w, dir)
		defer h.stop()
		h.await("mounted", safely)
		outage := &fault.Error{Class: fault.Unreachable, Cause: "KMS did not answer."}
		w.kms.answer(outage)
		h.rotate(RotateOrder{KeyARN: newARN}) // nobody says that the new CMK cannot be used
		h.await("told", func(s Status) bool { return s.Rotation != nil && s.Rotation.Class == fault.Unreachable })
		h.do(VerbLock)
		h.await("locked", func(s Status) bool { return s.Phase == Sealed })
		w.kms.answer(nil)
		time.Sleep(5 * time.Minute)
		if c := claimOf(t, dir); !c.Rewrap.wanted() || c.Rewrap.Moved || len(w.tokens()) != 1 {
			t.Errorf("a locked volume was rotated: %+v", c)
		}
		if _, err := h.r.Rotate(t.Context(), "orders", RotateOrder{Abort: true}); err != nil {
			t.Error(err)
		}
		if _, err := h.r.Rotate(t.Context(), "orders", RotateOrder{KeyARN: newARN}); err == nil {
			t.Error("a locked volume takes the order")
		}
		h.do(VerbUnlock)
		h.await("taken back", func(s Status) bool { return safely(s) && s.Rotation == nil && s.KeyARN == testARN })
		h.rotate(RotateOrder{KeyARN: newARN})
		moved(t, w, h, dir)
	})
}

// A torn header waits for whatever is needed to complete it: that KMS does not answer
// on the boot after a power cut is no blame on the disk, and no quarantine. What was
// torn is kept.
func TestTornRewrapWaitsForKMS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := formatted(t, dir)
		intend(t, dir, rewrapTo(newARN))
		w.set(func() { w.kill, w.after, w.attached = 5, true, true })
		h := startHost(t, w, dir)
		h.await("killed", func(Status) bool { return w.is(func() bool { return w.killed }) })
		h.stop()
		w.set(func() { w.killed, w.kill, w.mounted, w.mapped = false, 0, false, false })
		if !w.torn {
			t.Fatalf("not torn; did %v", w.deeds())
		}
		opened := w.did("open")
		w.kms.answer(&fault.Error{Class: fault.Unreachable, Cause: "no network yet"})
		h = startHost(t, w, dir)
		defer h.stop()
		h.await("told", func(s Status) bool { return s.Class == fault.Unreachable && s.Phase == Sealed })
		time.Sleep(10 * time.Minute)
		if s := h.status(); s.Phase != Sealed || w.did("open") != opened {
			t.Errorf("status %+v", s)
		}
		w.kms.answer(nil)
		moved(t, w, h, dir)
		kept, err := filepath.Glob(filepath.Join(dir, "headers", "orders", "replaced-*.img"))
		if err != nil || len(kept) != 1 {
			t.Errorf("kept of what was torn: %v, %v", kept, err)
		}
	})
}

// A torn header is completed only from what a re-wrap of this volume was writing:
// without the intent, or with nothing sound on the device, it is quarantined.
func TestTornHeaderIsNotGuessedAt(t *testing.T) {
	for name, harm := range map[string]func(t *testing.T, w *world, dir string){
		"no intent": func(t *testing.T, w *world, dir string) { w.torn = true },
		"no image":  func(t *testing.T, w *world, dir string) { w.torn = true; intend(t, dir, rewrapTo(newARN)) },
		"not torn": func(t *testing.T, w *world, dir string) { // another host, perhaps a later version, made it
			intend(t, dir, rewrapTo(newARN))
			claims, err := NewClaims(dir)
			if err == nil {
				err = writeDurably(claims.Image("orders", intendedImage), w.header)
			}
			if err != nil {
				t.Fatal(err)
			}
			w.strange = true
		},
		"nothing sound": func(t *testing.T, w *world, dir string) {
			w.header, w.torn = []byte("x"), true
			intend(t, dir, rewrapTo(newARN))
		},
		"another volume": func(t *testing.T, w *world, dir string) {
			w.torn = true
			intend(t, dir, func(c *Claim) { c.Rewrap.To, c.LUKSUUID = newARN, "other" })
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				w := formatted(t, dir)
				harm(t, w, dir)
				h := startHost(t, w, dir)
				defer h.stop()
				h.await("Quarantined", func(s Status) bool { return s.Phase == Quarantined && s.Class == fault.Integrity })
				if slices.ContainsFunc(w.deeds(), func(s string) bool { return strings.HasPrefix(s, "restore") }) {
					t.Errorf("did %v", w.deeds())
				}
			})
		})
	}
}

// The pin holds for the configuration that it was recorded under, and no other.
func TestPinned(t *testing.T) {
	c := Claim{Pin: Pin{From: testARN, To: newARN}}
	for configured, want := range map[string]string{testARN: newARN, newARN: newARN, thirdARN: thirdARN} {
		if got := c.pinned(Spec{KeyARN: configured}).KeyARN; got != want {
			t.Errorf("configured %s: pinned to %s", configured, got)
		}
	}
	if c.outdated(Spec{KeyARN: testARN}) || !c.outdated(Spec{KeyARN: newARN}) || (Claim{}).outdated(Spec{KeyARN: newARN}) {
		t.Error("outdated")
	}
	for name, bad := range map[string]Claim{
		"half a pin":    {Pin: Pin{To: newARN}},
		"an alias":      {Pin: Pin{From: testARN, To: "alias/x"}},
		"abort of what": {Rewrap: Rewrap{Abort: true}},
	} {
		if bad.validatePin() == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
