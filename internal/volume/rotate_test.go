// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/volseal/volseal/internal/fault"
)

func (h *host) rotate(o RotateOrder) RotateAnswer {
	h.t.Helper()
	a, err := h.r.Rotate(h.t.Context(), "orders", o)
	if err != nil {
		h.t.Fatalf("%+v: %v", o, err)
	}
	return a
}

// safely: mounted, with nothing wrong, and the next boot would do as well.
func safely(s Status) bool {
	return s.Phase == Mounted && s.Class == fault.None && s.WouldSurviveReboot
}

// refuses has KMS refuse everything about these CMKs, and about no others.
func (k *fakeKMS) refuses(arns ...string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.gone = map[string]bool{}
	for _, arn := range arns {
		k.gone[arn] = true
	}
}

// An order that cannot come true is refused, with a way out, before anything is
// recorded.
func TestRotateRefuses(t *testing.T) {
	malformed := func(err error) bool { var e *OrderError; return errors.As(err, &e) }
	conflict := func(err error) bool { c, ok := asConflict(err); return ok && c.Hint != "" }
	unusable := func(err error) bool {
		return fault.ClassOf(err) == fault.Misconfigured && strings.Contains(fault.HintOf(err), "volseal key check "+newARN) && len(fault.WhoOf(err)) > 0
	}
	for name, c := range map[string]struct {
		before  func(*host, *world)
		order   RotateOrder
		refused func(error) bool
	}{
		"nothing asked":      {nil, RotateOrder{}, malformed},
		"an alias":           {nil, RotateOrder{KeyARN: "arn:aws:kms:us-east-1:111111111111:alias/db"}, malformed},
		"a key id":           {nil, RotateOrder{KeyARN: "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"}, malformed},
		"the same CMK":       {nil, RotateOrder{KeyARN: testARN}, conflict},
		"abort a new key":    {nil, RotateOrder{Abort: true, NewDataKey: true}, malformed},
		"nothing to abort":   {nil, RotateOrder{Abort: true}, conflict},
		"another region":     {nil, RotateOrder{KeyARN: strings.Replace(newARN, "us-east-1", "eu-west-1", 1)}, func(err error) bool { return fault.ReasonOf(err) == "key-region" }},
		"a disabled CMK":     {func(_ *host, w *world) { w.kms.refuses(newARN) }, RotateOrder{KeyARN: newARN}, unusable},
		"a locked volume":    {func(h *host, _ *world) { h.do(VerbLock) }, RotateOrder{KeyARN: newARN}, conflict},
		"a released volume":  {func(h *host, _ *world) { h.do(VerbRelease) }, RotateOrder{KeyARN: newARN}, conflict},
		"quarantined volume": {func(h *host, w *world) { quarantined(h, w) }, RotateOrder{KeyARN: newARN}, func(err error) bool { return fault.ClassOf(err) == fault.Integrity }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				w := formatted(t, dir)
				h := startHost(t, w, dir)
				defer h.stop()
				h.await("mounted", safely)
				if c.before != nil {
					c.before(h, w)
				}
				seq := h.status().WishSeq
				a, err := h.r.Rotate(t.Context(), "orders", c.order)
				if err == nil || !c.refused(err) {
					t.Errorf("got %+v, %v", a, err)
				}
				if s := h.status(); s.WishSeq != seq || s.Rotation != nil || claimOf(t, dir).Rewrap.wanted() {
					t.Errorf("recorded: %+v", s)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t, newWorld(), t.TempDir())
		defer h.stop()
		if _, err := h.r.Rotate(t.Context(), "nobody", RotateOrder{KeyARN: newARN}); !errors.Is(err, ErrNoSuchVolume) {
			t.Error(err)
		}
		if _, err := h.r.Rotate(t.Context(), "orders", RotateOrder{KeyARN: newARN}); !conflict(err) {
			t.Errorf("a blank volume: %v", err)
		}
	})
}

func quarantined(h *host, w *world) {
	w.set(func() { w.attached = false })
	h.await("quarantined", func(s Status) bool { return s.Phase == Quarantined })
}

// One rotation at a time: another target is refused while it is under way, the
// same is welcome, and either direction can be chosen until the pin has moved.
func TestRotateOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := formatted(t, dir)
		h := startHost(t, w, dir)
		defer h.stop()
		h.await("mounted", safely)
		w.set(func() { w.kms.rewrapErr = &fault.Error{Class: fault.Throttled, Cause: "Slow down."} })
		first := h.rotate(RotateOrder{KeyARN: newARN})
		h.await("held up", func(s Status) bool { return s.Rotation != nil && s.Rotation.Class == fault.Throttled })
		if _, err := h.r.Rotate(t.Context(), "orders", RotateOrder{KeyARN: thirdARN}); err == nil {
			t.Error("another target is accepted")
		}
		if _, err := h.r.Rotate(t.Context(), "orders", RotateOrder{KeyARN: thirdARN, Abort: true}); err == nil {
			t.Error("a rotation that is not under way is taken back")
		}
		second := h.rotate(RotateOrder{KeyARN: newARN})
		if first.Generation != 2 || second.Generation != 2 || second.Wish <= first.Wish {
			t.Errorf("%+v, then %+v", first, second)
		}
		w.kms.answer(&fault.Error{Class: fault.Unreachable, Cause: "KMS did not answer."})
		if a := h.rotate(RotateOrder{KeyARN: newARN, Abort: true}); a.Generation != 1 {
			t.Errorf("%+v", a)
		}
		h.await("going back", func(s Status) bool { return s.Rotation != nil && s.Rotation.Stage == RotationAborting })
		h.rotate(RotateOrder{KeyARN: newARN})
		w.set(func() { w.kms.rewrapErr = nil })
		w.kms.answer(nil)
		moved(t, w, h, dir)
	})
}

// A rotation that is done is undone by another one: the configuration, which
// never followed, is right again.
func TestRotateBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := formatted(t, dir)
		h := startHost(t, w, dir)
		defer h.stop()
		h.await("mounted", safely)
		h.rotate(RotateOrder{KeyARN: newARN})
		moved(t, w, h, dir)
		if _, err := h.r.Rotate(t.Context(), "orders", RotateOrder{KeyARN: newARN}); err == nil {
			t.Error("rotated to where it is")
		}
		h.rotate(RotateOrder{KeyARN: testARN})
		s := h.await("back", func(s Status) bool { return s.Rotation == nil && s.KeyARN == testARN && safely(s) })
		if s.Notice != "" || s.Generation != 3 || claimOf(t, dir).Pin != (Pin{}) {
			t.Errorf("status %+v, claim %+v", s, claimOf(t, dir))
		}
	})
}

// The configuration is edited in the middle of a rotation: it is then at its word,
// and the rotation ends.
func TestRotateWhileTheConfigurationFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := formatted(t, dir)
		w.set(func() { w.attached, w.traced, w.dies = true, true, 0 })
		intend(t, dir, rewrapTo(newARN))
		w.set(func() { w.kill, w.after = 6, true }) // both tokens are on the device
		h := startHost(t, w, dir)
		h.await("killed", func(Status) bool { return w.is(func() bool { return w.killed }) })
		h.stop()
		if len(w.tokens()) != 2 || claimOf(t, dir).Rewrap.Moved {
			t.Fatalf("tokens %+v", w.tokens())
		}
		w.set(func() { w.killed, w.kill = false, 0 })
		h = startHost(t, w, dir)
		defer h.stop()
		spec := testSpec(t)
		spec.KeyARN = newARN
		h.r.Apply([]Spec{spec}, h.r.workers["orders"].probe)
		h.await("done", func(s Status) bool {
			return safely(s) && s.Rotation == nil && s.KeyARN == newARN && s.Generation == 2 && s.Notice == ""
		})
		if tokens := w.tokens(); len(tokens) != 1 || tokens[0].KeyARN != newARN {
			t.Errorf("tokens %+v", tokens)
		}
	})
}

// A new data key has a keyslot and a salt of its own, and what was before opens
// nothing any more. It comes with another CMK, or under the same.
func TestNewDataKey(t *testing.T) {
	for name, c := range map[string]struct {
		order RotateOrder
		arn   string
	}{
		"under the same CMK":              {RotateOrder{NewDataKey: true}, testARN},
		"under the same CMK, by its name": {RotateOrder{NewDataKey: true, KeyARN: testARN}, testARN},
		"under another CMK":               {RotateOrder{NewDataKey: true, KeyARN: newARN}, newARN},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				w := formatted(t, dir)
				h := startHost(t, w, dir)
				defer h.stop()
				h.await("mounted", safely)
				old := w.tokens()[0]
				if a := h.rotate(c.order); a.Generation != 2 {
					t.Errorf("%+v", a)
				}
				renewed(c.arn)(t, w, h, dir)
				if string(w.tokens()[0].Salt) == string(old.Salt) || w.kms.reencrypts != 0 {
					t.Errorf("old %+v, new %+v", old, w.tokens()[0])
				}
				h.do(VerbLock)
				h.await("locked", func(s Status) bool { return s.Phase == Sealed && s.Satisfied() })
				h.do(VerbUnlock)
				h.await("mounted again", safely)
				h.rotate(RotateOrder{NewDataKey: true})
				s := h.await("again", func(s Status) bool { return safely(s) && s.Rotation == nil && s.Generation == 3 })
				if tokens := w.tokens(); len(tokens) != 1 || tokens[0].Keyslots[0] != "0" || s.KeyARN != c.arn {
					t.Errorf("tokens %+v", tokens)
				}
			})
		})
	}
}

// A new data key and the same one are two rotations: one is not taken for the other.
func TestNewDataKeyIsAnotherRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := formatted(t, dir)
		h := startHost(t, w, dir)
		defer h.stop()
		h.await("mounted", safely)
		w.kms.answer(&fault.Error{Class: fault.Unreachable, Cause: "KMS did not answer."})
		h.rotate(RotateOrder{KeyARN: newARN, NewDataKey: true})
		for _, o := range []RotateOrder{{KeyARN: newARN}, {NewDataKey: true}, {KeyARN: testARN, NewDataKey: true}} {
			if _, err := h.r.Rotate(t.Context(), "orders", o); err == nil {
				t.Errorf("accepted: %+v", o)
			}
		}
		if s := h.status(); s.Rotation == nil || !s.Rotation.NewDataKey || s.Rotation.KeyARN != newARN {
			t.Errorf("status %+v", s)
		}
		w.kms.answer(nil)
		renewed(newARN)(t, w, h, dir)
	})
}
