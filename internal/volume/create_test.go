// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/volseal/volseal/internal/fault"
)

const (
	testSnap  = "snap-0123456789abcdef0"
	otherARN  = "arn:aws:kms:us-east-1:222222222222:key/bbbbbbbb-bbbb-cccc-dddd-eeeeeeeeeeee"
	createTen = "Create 10 GB database volume"
)

// emptyEC2 is a world whose volume is yet to be made.
func emptyEC2() *world {
	w := newWorld()
	w.ec2 = fakeEC2{volumes: map[string]*madeVolume{}, snapshots: map[string]*CloudSnapshot{}, copied: map[string]string{}}
	return w
}

// snapshotted is a world with a snapshot of a volume that holds data.
func snapshotted(t *testing.T, ours bool) *world {
	t.Helper()
	w := formatted(t, t.TempDir())
	e := emptyEC2()
	w.ec2 = e.ec2
	w.ec2.snapshots[testSnap] = &CloudSnapshot{ID: testSnap, State: "completed", Encrypted: true, KeyARN: otherARN, SizeGiB: 10, Ours: ours}
	return w
}

var (
	order10    = Order{Verb: VerbCreate, SizeGiB: 10}
	restoreOne = Order{Verb: VerbRestore, Snapshot: testSnap}
)

func (h *host) order(o Order) {
	h.t.Helper()
	if _, err := h.r.Do("orders", o); err != nil {
		h.t.Fatalf("%s: %v", o.Verb, err)
	}
}

// failed is news about an order.
func failed(s Status) bool { return s.Class != fault.None && s.Answered > 0 }

func mounted(s Status) bool { return s.Phase == Mounted && s.WouldSurviveReboot }

// inMaking runs a test on a host with no volume yet.
func inMaking(t *testing.T, w func(*testing.T) *world, test func(t *testing.T, w *world, h *host, dir string)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		world, dir := w(t), t.TempDir()
		h := startHost(t, world, dir)
		defer func() { h.stop() }()
		test(t, world, h, dir)
	})
}

func blankWorld(*testing.T) *world { return emptyEC2() }

// One word makes, attaches, formats and mounts a volume, under the configured
// CMK and with what finds it again; then the order is fulfilled.
func TestCreateMakesOneVolume(t *testing.T) {
	inMaking(t, blankWorld, func(t *testing.T, w *world, h *host, dir string) {
		h.await("refused", func(s Status) bool { return s.Reason == "no-volume-id" })
		h.order(order10)
		s := h.await("named", func(s Status) bool { return s.VolumeID != "" })
		if s.Progress != "creating a volume of 10 GiB" || s.Phase != Detached || s.Class != fault.None {
			t.Errorf("while it is made: %+v", s)
		}
		s = h.await("Mounted", mounted)
		if want := []string{"create-volume", "attach", "build", "write-begin", "write-end", "open", "mkfs", "publish", "mount"}; !slices.Equal(w.deeds(), want) {
			t.Errorf("did %v, want %v", w.deeds(), want)
		}
		v := w.ec2.volumes[s.VolumeID]
		if v == nil || v.KeyARN != testARN || v.SizeGiB != 10 || v.Name != "orders" || v.Database != "db-7f3a" || len(v.Token) > 64 {
			t.Errorf("made %+v", v)
		}
		if s.Progress != "" || s.Class != fault.None {
			t.Errorf("status %+v", s)
		}
		if c := loadClaim(t, dir); c.Making != nil {
			t.Errorf("the order still stands: %+v", c.Making)
		}
		_, err := h.r.Do("orders", order10)
		var conflict *ConflictError
		if !errors.As(err, &conflict) || !strings.Contains(conflict.Hint, "volseal unlock orders") {
			t.Errorf("a second create: %v", err)
		}
	})
}

func loadClaim(t *testing.T, dir string) Claim {
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

// A crash anywhere, before or after any change to the world, ends in the one
// volume that was ordered, mounted: the agent finishes by itself, and EC2 holds
// nothing else that status does not name.
func TestMakingSurvivesACrashAnywhere(t *testing.T) {
	for name, c := range map[string]struct {
		world func(*testing.T) *world
		order Order
	}{
		"create":                 {blankWorld, order10},
		"restore":                {func(t *testing.T) *world { return snapshotted(t, true) }, restoreOne},
		"restore to another key": {func(t *testing.T) *world { return snapshotted(t, true) }, Order{Verb: VerbRestore, Snapshot: testSnap, KeyARN: otherARN}},
		"restore by copy":        {func(t *testing.T) *world { return snapshotted(t, false) }, restoreOne},
	} {
		t.Run(name, func(t *testing.T) {
			for _, after := range []bool{false, true} {
				for n := 1; n <= 40; n++ {
					finished := false
					synctest.Test(t, func(t *testing.T) { finished = crashMaking(t, c.world(t), c.order, n, after) })
					if finished {
						break
					}
				}
			}
		})
	}
}

// crashMaking kills at the n-th change; it reports whether there was none. What
// the dying process would still have written to its claim is not there.
func crashMaking(t *testing.T, w *world, o Order, n int, after bool) (finished bool) {
	dir, left := t.TempDir(), t.TempDir()
	w.kill, w.after = n, after
	w.died = func() { copyDir(t, dir, left) }
	h := startHost(t, w, dir)
	h.order(o)
	h.await("killed or mounted", func(s Status) bool { return w.is(func() bool { return w.killed }) || mounted(s) })
	h.stop()
	if !w.killed {
		return true
	}
	w.set(func() { w.killed, w.kill = false, 0 })
	copyDir(t, left, dir)
	h = startHost(t, w, dir)
	defer h.stop()
	s := h.await("mounted", mounted)
	alive := w.ec2.alive()
	if len(alive) != 1 || alive[0] != s.VolumeID {
		t.Errorf("kill %d (after %v): EC2 has %v, status names %s", n, after, alive, s.VolumeID)
	}
	if len(w.ec2.snapshots) > 2 || w.did("copy-snapshot") > 2 {
		t.Errorf("kill %d (after %v): %d snapshots", n, after, len(w.ec2.snapshots))
	}
	if w.data != "rows" || o.Verb == VerbRestore && w.did("mkfs") != 0 {
		t.Errorf("kill %d (after %v): data %q; did %v", n, after, w.data, w.deeds())
	}
	return false
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	temporary, err := filepath.Glob(filepath.Join(to, "*", ".tmp-*"))
	if err != nil || len(temporary) != 0 {
		t.Fatal(temporary, err)
	}
}

// A CMK that says no is told before anything is made, and with what to do; once
// it is shared, the volume comes by itself.
func TestCreateUnderAnUnusableKeyMakesNothing(t *testing.T) {
	inMaking(t, blankWorld, func(t *testing.T, w *world, h *host, _ string) {
		w.kms.answer(&fault.Error{Class: fault.Revoked, Reason: "AccessDeniedException", Cause: "Denied.", Hint: "Ask."})
		h.order(order10)
		s := h.await("refused", failed)
		if s.FailedStep != createTen || s.Class != fault.Revoked || s.Error != "Denied." {
			t.Errorf("status %+v", s)
		}
		for _, want := range []string{"Ask.", "not have been shared", "volseal key check " + testARN, "volseal key policy"} {
			if !strings.Contains(s.Hint, want) {
				t.Errorf("hint %q lacks %q", s.Hint, want)
			}
		}
		time.Sleep(10 * time.Minute)
		if len(w.deeds()) != 0 {
			t.Fatalf("did %v", w.deeds())
		}
		w.kms.answer(nil)
		h.await("Mounted", mounted)
	})
}

// EBS finds out about the key after it has said yes. Either way in which that
// shows is told with the step's name; another token is used, and what is left
// behind is named, and not added to for ever.
func TestCreatedVolumeComesToNothing(t *testing.T) {
	for reason, broken := range map[string]bool{"volume-vanished": false, "volume-error": true} {
		t.Run(reason, func(t *testing.T) {
			inMaking(t, blankWorld, func(t *testing.T, w *world, h *host, dir string) {
				w.set(func() { w.ec2.mute, w.ec2.broken = true, broken })
				h.order(order10)
				s := h.await("failed", failed)
				if s.FailedStep != createTen || s.Class != fault.Misconfigured || s.Reason != reason ||
					!strings.Contains(s.Hint, "kms:CreateGrant") || !strings.Contains(s.Hint, "volseal key check") {
					t.Errorf("status %+v", s)
				}
				if broken != strings.Contains(s.Hint, "aws ec2 delete-volume --volume-id vol-00000000000000001") {
					t.Errorf("hint %q", s.Hint)
				}
				if c := loadClaim(t, dir); c.VolumeID != "" || c.Making.Asked != "" {
					t.Errorf("claim %+v", c)
				}
				time.Sleep(time.Hour)
				if n := w.did("create-volume"); n < 4 || n > 60 || broken && n != maxBroken {
					t.Errorf("asked %d times within an hour", n)
				}
				w.set(func() {
					w.ec2.mute = false
					for _, v := range w.ec2.volumes { // an operator tidies up
						v.deleted = true
					}
				})
				if s := h.await("Mounted", mounted); s.Class != fault.None {
					t.Errorf("status %+v", s)
				}
			})
		})
	}
}

// The reason is KMS's, where KMS gives one.
func TestVanishedVolumeIsExplainedByKMS(t *testing.T) {
	inMaking(t, blankWorld, func(t *testing.T, w *world, h *host, _ string) {
		w.set(func() { w.ec2.mute = true })
		h.order(order10)
		h.await("named", func(s Status) bool { return s.VolumeID != "" })
		w.kms.answer(&fault.Error{Class: fault.Revoked, Reason: "DisabledException", Cause: "The CMK is disabled."})
		time.Sleep(time.Second) // longer than a proof need be: the try of a moment ago must not speak for now
		s := h.await("failed", failed)
		if s.Class != fault.Revoked || s.Reason != "DisabledException" || s.FailedStep != createTen || !strings.Contains(s.Error, "vanished") {
			t.Errorf("status %+v", s)
		}
	})
}

// EC2 shows what it made only some time later; that must not pass for a volume
// that vanished.
func TestNewVolumeMayBeUnseenForAWhile(t *testing.T) {
	inMaking(t, blankWorld, func(t *testing.T, w *world, h *host, _ string) {
		w.set(func() { w.ec2.unseen = goneAfter - 5*time.Second })
		h.order(order10)
		h.await("Mounted", mounted)
		if n := w.did("create-volume"); n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
}

// A refusal by which nothing was made ends the token; an answer that was lost
// does not.
func TestCreateRefusedOrUnheard(t *testing.T) {
	inMaking(t, blankWorld, func(t *testing.T, w *world, h *host, dir string) {
		w.set(func() {
			w.ec2.refusal = &fault.Error{Class: fault.Misconfigured, Reason: "VolumeLimitExceeded", Cause: "Too many."}
		})
		h.order(order10)
		s := h.await("refused", failed)
		if s.FailedStep != createTen || s.Reason != "VolumeLimitExceeded" || loadClaim(t, dir).Making.Asked != "" {
			t.Errorf("status %+v", s)
		}
		w.set(func() {
			w.ec2.refusal, w.ec2.deaf = nil, &fault.Error{Class: fault.Unreachable, Reason: "timeout", Cause: "No answer."}
		})
		h.await("unheard", func(s Status) bool { return s.Class == fault.Unreachable })
		if m := loadClaim(t, dir).Making; m.Asked != testARN {
			t.Errorf("an answer was lost, and the claim says %+v", m)
		}
		h.await("Mounted", mounted)
		if n := len(w.ec2.volumes); n != 1 {
			t.Errorf("EC2 made %d volumes", n)
		}
	})
}

// Whoever mistypes a key corrects it in the configuration; the order goes on
// with that.
func TestOrderFollowsTheConfiguredKey(t *testing.T) {
	inMaking(t, blankWorld, func(t *testing.T, w *world, h *host, _ string) {
		w.kms.answer(&fault.Error{Class: fault.Revoked, Reason: "NotFoundException", Cause: "No such key."})
		h.order(order10)
		h.await("refused", func(s Status) bool { return s.Class == fault.Revoked })
		w.kms.answer(nil)
		spec := testSpec(t)
		spec.VolumeID, spec.KeyARN = "", otherARN
		h.r.Apply([]Spec{spec}, time.Minute)
		s := h.await("Mounted", mounted)
		if v := w.ec2.volumes[s.VolumeID]; v.KeyARN != otherARN {
			t.Errorf("made under %s", v.KeyARN)
		}
	})
}

// release calls an order off of which nothing exists; what does exist stays in
// sight until an operator has deleted it.
func TestReleaseCallsAnOrderOff(t *testing.T) {
	denied := &fault.Error{Class: fault.Revoked, Reason: "AccessDeniedException", Cause: "Denied."}
	t.Run("nothing was made", func(t *testing.T) {
		inMaking(t, blankWorld, func(t *testing.T, w *world, h *host, dir string) {
			w.kms.answer(denied)
			h.order(order10)
			h.await("refused", failed)
			if _, err := h.r.Do("orders", Order{Verb: VerbCreate, SizeGiB: 20}); err == nil || !strings.Contains(hintOf(err), "volseal release orders") {
				t.Errorf("another order: %v", err)
			}
			h.order(order10) // said once more
			h.do(VerbRelease)
			h.await("called off", func(s Status) bool { return s.Satisfied() && s.Reason == "no-volume-id" })
			if c := loadClaim(t, dir); c.Making != nil || c.VolumeID != "" {
				t.Errorf("claim %+v", c)
			}
			w.kms.answer(nil)
			h.order(Order{Verb: VerbCreate, SizeGiB: 20})
			h.await("Mounted", mounted)
		})
	})
	t.Run("the answer was lost", func(t *testing.T) {
		inMaking(t, blankWorld, func(t *testing.T, w *world, h *host, _ string) {
			w.set(func() {
				w.ec2.deaf, w.ec2.unseen = &fault.Error{Class: fault.Unreachable, Cause: "No answer."}, 10*time.Second
			})
			h.order(order10)
			h.await("unheard", func(s Status) bool { return s.Class == fault.Unreachable })
			w.set(func() { w.ec2.refusal = &fault.Error{Class: fault.Unreachable, Cause: "No answer."} })
			h.do(VerbRelease)
			s := h.await("named", func(s Status) bool { return s.VolumeID != "" })
			if w.ec2.alive()[0] != s.VolumeID || s.Wish != WishDetached {
				t.Errorf("status %+v", s)
			}
			time.Sleep(time.Hour)
			if s := h.status(); w.did("attach") != 0 || s.VolumeID == "" || s.Class != fault.None {
				t.Errorf("released, and %+v", s)
			}
			w.set(func() { w.ec2.volumes[s.VolumeID].deleted = true })
			h.await("forgotten", func(s Status) bool { return s.VolumeID == "" && s.Reason == "no-volume-id" })
		})
	})
	t.Run("a broken volume is left", func(t *testing.T) {
		inMaking(t, blankWorld, func(t *testing.T, w *world, h *host, dir string) {
			w.set(func() { w.ec2.mute, w.ec2.broken = true, true })
			h.order(order10)
			h.await("failed", func(s Status) bool { return s.Reason == "volume-error" })
			h.do(VerbRelease)
			s := h.await("named", func(s Status) bool { return s.Reason == "left-behind" })
			if !strings.Contains(s.Error, "vol-00000000000000001") || s.FailedStep != createTen {
				t.Errorf("status %+v", s)
			}
			w.set(func() { w.ec2.volumes["vol-00000000000000001"].deleted = true })
			h.await("called off", func(s Status) bool { return s.Reason == "no-volume-id" })
			if c := loadClaim(t, dir); c.Making != nil {
				t.Errorf("claim %+v", c)
			}
		})
	})
}

// An order can be called off too where attaching is somebody else's to do, also
// once EC2 has named the volume.
func TestReleaseWithoutAttaching(t *testing.T) {
	inMaking(t, blankWorld, func(t *testing.T, w *world, h *host, _ string) {
		spec := testSpec(t)
		spec.VolumeID, spec.Attach, spec.RequireEBSEncryption = "", false, false
		h.r.Apply([]Spec{spec}, time.Minute)
		h.order(order10)
		h.await("waits to be attached", func(s Status) bool { return s.Reason == "device-awaited" })
		h.do(VerbRelease)
		w.set(func() { w.ec2.volumes[h.status().VolumeID].deleted = true })
		h.await("called off", func(s Status) bool { return s.Satisfied() && s.Reason == "no-volume-id" })
		if w.did("attach") != 0 || w.did("create-volume") != 1 {
			t.Errorf("did %v", w.deeds())
		}
	})
}

// An order stands still while the operator wants the volume sealed.
func TestLockHoldsAnOrder(t *testing.T) {
	inMaking(t, blankWorld, func(t *testing.T, w *world, h *host, _ string) {
		w.kms.answer(&fault.Error{Class: fault.Revoked, Cause: "Denied."})
		h.order(order10)
		h.await("refused", failed)
		h.do(VerbLock)
		w.kms.answer(nil)
		time.Sleep(time.Hour)
		if len(w.deeds()) != 0 || !h.status().Satisfied() {
			t.Errorf("did %v", w.deeds())
		}
		h.do(VerbUnlock)
		h.await("Mounted", mounted)
	})
}

// Without a look at the whole of it, a volume that EC2 calls new is formatted no
// more than any other.
func TestCreatedVolumeIsCheckedToo(t *testing.T) {
	for reason, arrange := range map[string]func(*world){
		"not-blank":         func(w *world) { w.data = "somebody else's" },
		"header-unexpected": func(w *world) { w.header = []byte("theirs") },
		"ebs-key": func(w *world) {
			for _, v := range w.ec2.volumes {
				v.KeyARN = otherARN
			}
		},
	} {
		t.Run(reason, func(t *testing.T) {
			inMaking(t, blankWorld, func(t *testing.T, w *world, h *host, _ string) {
				h.order(order10)
				h.await("named", func(s Status) bool { return s.VolumeID != "" })
				w.set(func() { arrange(w) })
				h.await("refused", func(s Status) bool { return s.Reason == reason })
				if w.did("build") != 0 || w.did("open") != 0 {
					t.Errorf("did %v", w.deeds())
				}
			})
		})
	}
}

// A configuration that names a volume while another is on order is refused.
func TestOrderAndConfigurationDisagree(t *testing.T) {
	inMaking(t, blankWorld, func(t *testing.T, w *world, h *host, _ string) {
		w.kms.answer(&fault.Error{Class: fault.Revoked, Cause: "Denied."})
		h.order(order10)
		h.await("refused", func(s Status) bool { return s.Class == fault.Revoked })
		w.kms.answer(nil)
		h.r.Apply([]Spec{testSpec(t)}, time.Minute)
		h.await("refused", func(s Status) bool { return s.Reason == "volume-ordered" })
		time.Sleep(time.Hour)
		if len(w.deeds()) != 0 {
			t.Errorf("did %v", w.deeds())
		}
		_, err := h.r.Do("orders", order10)
		if err == nil || !strings.Contains(hintOf(err), "leave volume_id out") {
			t.Errorf("create: %v", err)
		}
	})
}
