// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/volseal/volseal/internal/fault"
)

// rotationKind is one way to rotate, and how the volume must be afterwards.
type rotationKind struct {
	name   string
	intent Rewrap
	done   func(t *testing.T, w *world, h *host, dir string)
}

func rotationKinds() []rotationKind {
	return []rotationKind{
		{"re-wrap", Rewrap{From: testARN, To: newARN}, moved},
		{"new data key", Rewrap{From: testARN, To: testARN, NewKey: true}, renewed(testARN)},
		{"new data key under another CMK", Rewrap{From: testARN, To: newARN, NewKey: true}, renewed(newARN)},
	}
}

// direction is what becomes of a rotation after the agent died.
type direction struct {
	name       string
	reboot     bool // the host, too
	abort      bool // an operator takes it back then, if that is still possible
	takingBack bool // it was being taken back already
}

func directions() []direction {
	return []direction{
		{name: "it goes on under the mount"},
		{name: "it goes on after a power cut", reboot: true},
		{name: "it is taken back", abort: true},
		{name: "it is taken back after a power cut", abort: true, reboot: true},
		{name: "it was being taken back", abort: true, takingBack: true},
		{name: "it was being taken back, and a power cut", abort: true, takingBack: true, reboot: true},
	}
}

// A kill at any call that a rotation makes of the world ends, with nobody's help,
// in a volume that is wholly the new key's, or wholly the old one's where an
// operator took it back in time: mounted, safe, its data there. The calls are
// those that the code makes: a step that is added is killed in, too.
func TestRotationSurvivesACrashAnywhere(t *testing.T) {
	for _, k := range rotationKinds() {
		for _, d := range directions() {
			t.Run(k.name+", "+d.name, func(t *testing.T) {
				var trace []string
				states := map[string]bool{}
				for n := 1; n == 1 || n <= len(trace); n++ {
					synctest.Test(t, func(t *testing.T) {
						if n == 1 {
							trace = traceOf(t, k, d)
							t.Logf("%d calls: %v", len(trace), trace)
						}
						states[crashAt(t, k, d, n)] = true
					})
					if t.Failed() {
						t.Fatalf("killed at call %d of %v", n, trace)
					}
				}
				wantStates(t, d, states)
			})
		}
	}
}

// wantStates: between them, the kills met every state that the claim and the
// header pass through together.
func wantStates(t *testing.T, d direction, met map[string]bool) {
	t.Helper()
	want := []string{"adding, 1 token", "adding, 2 tokens", "removing, 2 tokens", "removing, 1 token", "over, 1 token"}
	if d.takingBack {
		want = []string{"aborting, 2 tokens", "aborting, 1 token", "over, 1 token"}
	}
	for _, s := range want {
		if !met[s] {
			t.Errorf("no kill met the state %q; met: %v", s, met)
		}
	}
}

// mountedWorld has a volume that was mounted by an agent which is gone.
func mountedWorld(t *testing.T, dir string) *world {
	t.Helper()
	w := newWorld()
	h := startHost(t, w, dir)
	h.do(VerbInit)
	h.await("mounted", safely)
	h.stop()
	return w
}

// begin records the intent, as a verb does, and starts the agent that takes it up.
// With the rotation being taken back it has come as far as that is possible.
func (k rotationKind) begin(t *testing.T, d direction, dir string, dies int) (*world, *host) {
	t.Helper()
	w := mountedWorld(t, dir)
	intend(t, dir, func(c *Claim) { c.Rewrap = k.intent })
	if d.takingBack {
		w.set(func() { w.kill, w.after = 3, true }) // what is new is on the device
		h := startHost(t, w, dir)
		h.await("killed", func(Status) bool { return w.is(func() bool { return w.killed }) })
		h.stop()
		w.set(func() { w.killed, w.kill = false, 0 })
		if len(w.tokens()) != 2 {
			t.Fatalf("tokens %+v", w.tokens())
		}
		intend(t, dir, func(c *Claim) { c.Rewrap.Abort = true })
	}
	w.set(func() { w.traced, w.trace, w.dies = true, nil, dies })
	return w, startHost(t, w, dir)
}

func over(s Status) bool { return s.Rotation == nil && s.Phase == Mounted && s.Since != nil }

// traceOf is every call until the rotation is over and the exam after it is held.
func traceOf(t *testing.T, k rotationKind, d direction) []string {
	w, h := k.begin(t, d, t.TempDir(), 0)
	defer h.stop()
	h.await("over", func(s Status) bool { return over(s) && safely(s) })
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.trace)
}

func crashAt(t *testing.T, k rotationKind, d direction, n int) (state string) {
	dir := t.TempDir()
	w, h := k.begin(t, d, dir, n)
	h.await("killed", func(Status) bool { return w.is(func() bool { return w.killed }) })
	h.stop()
	c := claimOf(t, dir)
	state = stateOf(c, w)
	w.set(func() { w.traced, w.killed = false, false })
	if d.reboot {
		w.set(func() { w.mounted, w.mapped, w.pending = false, false, false })
	}
	if c.Rewrap.Moved && d.takingBack {
		t.Fatal("what was being taken back went on")
	}
	h = startHost(t, w, dir)
	defer h.stop()
	if d.abort && c.Rewrap.wanted() && !c.Rewrap.Moved {
		// Either the order is in time, or the agent was faster: both are whole.
		_, err := h.r.Rotate(t.Context(), "orders", RotateOrder{Abort: true})
		h.await("over", func(s Status) bool { return over(s) && safely(s) })
		if err == nil {
			back(t, w, h, dir)
			return state
		}
		if _, late := asConflict(err); !late {
			t.Fatal(err)
		}
	}
	if d.takingBack {
		back(t, w, h, dir)
		return state
	}
	k.done(t, w, h, dir)
	return state
}

// renewed insists that the volume has a new data key under this CMK, in another
// keyslot, and nothing of the one before.
func renewed(arn string) func(*testing.T, *world, *host, string) {
	return func(t *testing.T, w *world, h *host, dir string) {
		t.Helper()
		s := h.await("Mounted with a new data key", func(s Status) bool { return safely(s) && s.Rotation == nil })
		if s.KeyARN != arn || s.Generation != 2 || (s.Notice != "") != (arn != testARN) || w.data != "rows" {
			t.Errorf("status %+v", s)
		}
		tokens := w.tokens()
		if len(tokens) != 1 || tokens[0].KeyARN != arn || tokens[0].Generation != 2 || tokens[0].Keyslots[0] != "1" || string(tokens[0].WrappedKey) == "wrapped by the test" {
			t.Errorf("tokens %+v", tokens)
		}
		if c := claimOf(t, dir); c.Rewrap.wanted() || (c.Pin != Pin{}) != (arn != testARN) {
			t.Errorf("claim %+v", c)
		}
		if _, ok := newestOf(h.backups(dir), 2); !ok {
			t.Errorf("backups %v", h.backups(dir))
		}
		if r, err := h.r.VerifyHeader(t.Context(), "orders"); err != nil || !r.OK {
			t.Errorf("verify: %+v, %v", r, err)
		}
	}
}

func stateOf(c Claim, w *world) string {
	stage := RotationStage("over")
	if r := rotationOf(c, Spec{}, failing{}, reencrypting{}); r != nil {
		stage = r.Stage
	}
	if w.torn {
		return "torn"
	}
	unit := "tokens"
	if len(w.tokens()) == 1 {
		unit = "token"
	}
	return fmt.Sprintf("%s, %d %s", stage, len(w.tokens()), unit)
}

// back insists that nothing is left of a rotation.
func back(t *testing.T, w *world, h *host, dir string) {
	t.Helper()
	s := h.await("Mounted under the old CMK", func(s Status) bool { return safely(s) && s.Rotation == nil })
	if s.KeyARN != testARN || s.Generation != 1 || s.Notice != "" || w.data != "rows" {
		t.Errorf("status %+v", s)
	}
	if tokens := w.tokens(); len(tokens) != 1 || tokens[0].KeyARN != testARN {
		t.Errorf("tokens %+v", tokens)
	}
	if c := claimOf(t, dir); c.Rewrap.wanted() || c.Pin != (Pin{}) {
		t.Errorf("claim %+v", c)
	}
	if r, err := h.r.VerifyHeader(t.Context(), "orders"); err != nil || !r.OK || fault.ClassOf(err) != fault.None {
		t.Errorf("verify: %+v, %v", r, err)
	}
}
