// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"testing"
	"testing/synctest"

	"github.com/volseal/volseal/internal/fault"
)

// A dry run says what the order itself would, records nothing, and does not take
// silence for a yes: whoever asks before many volumes are touched would begin them all
// in an outage.
func TestRotateDryRun(t *testing.T) {
	outage := &fault.Error{Class: fault.Unreachable, Cause: "KMS did not answer."}
	order := RotateOrder{KeyARN: newARN, DryRun: true}
	for name, c := range map[string]struct {
		before func(*host, *world)
		class  fault.Class
	}{
		"it could begin":   {nil, fault.None},
		"a disabled CMK":   {func(_ *host, w *world) { w.kms.refuses(newARN) }, fault.Misconfigured},
		"an outage":        {func(_ *host, w *world) { w.kms.answer(outage) }, fault.Unreachable},
		"a quarantine":     {quarantined, fault.Integrity},
		"it has begun":     {func(h *host, w *world) { w.kms.answer(outage); h.rotate(RotateOrder{KeyARN: newARN}) }, fault.Unreachable},
		"another is begun": {func(h *host, w *world) { w.kms.answer(outage); h.rotate(RotateOrder{NewDataKey: true}) }, fault.Unknown},
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
				before, seq := claimOf(t, dir).Rewrap, h.status().WishSeq
				_, err := h.r.Rotate(t.Context(), "orders", order)
				if fault.ClassOf(err) != c.class {
					t.Errorf("got %v", err)
				}
				if now := claimOf(t, dir).Rewrap; now != before || h.status().WishSeq != seq {
					t.Errorf("recorded: %+v, before %+v", now, before)
				}
			})
		})
	}
}

// Whoever moves the volumes of one CMK has looked at them some time ago. One that is
// under another CMK by then, moved by somebody else for a reason of his own, is left
// alone, and so is one that the order would move twice.
func TestRotateFrom(t *testing.T) {
	for name, c := range map[string]struct {
		done  RotateOrder
		order RotateOrder
		ok    bool
	}{
		"under it":            {RotateOrder{}, RotateOrder{From: testARN, KeyARN: newARN}, true},
		"on its way":          {RotateOrder{KeyARN: newARN}, RotateOrder{From: testARN, KeyARN: newARN}, true},
		"moved elsewhere":     {RotateOrder{KeyARN: thirdARN}, RotateOrder{From: testARN, KeyARN: newARN}, false},
		"has a new key by it": {RotateOrder{KeyARN: newARN, NewDataKey: true}, RotateOrder{From: testARN, KeyARN: newARN, NewDataKey: true}, false},
	} {
		t.Run(name, func(t *testing.T) {
			inMounted(t, func(t *testing.T, w *world, h *host, dir string) {
				switch {
				case name == "on its way":
					w.kms.answer(&fault.Error{Class: fault.Unreachable, Cause: "KMS did not answer."})
					h.rotate(c.done)
				case c.done.KeyARN != "":
					h.rotate(c.done)
					h.await("moved", func(s Status) bool { return s.Rotation == nil && s.KeyARN == c.done.KeyARN && safely(s) })
				}
				before := claimOf(t, dir)
				for _, dry := range []bool{true, false} {
					if dry && name == "on its way" {
						continue // in an outage it says so
					}
					c.order.DryRun = dry
					_, err := h.r.Rotate(t.Context(), "orders", c.order)
					if _, conflict := asConflict(err); (err == nil) != c.ok || err != nil && !conflict {
						t.Errorf("dry run %v: %v", dry, err)
					}
				}
				if now := claimOf(t, dir); !c.ok && now != before {
					t.Errorf("recorded: %+v, before %+v", now, before)
				}
			})
		})
	}
	for name, o := range map[string]RotateOrder{
		"no ARN":       {From: "alias/db", KeyARN: newARN},
		"nowhere to":   {From: testARN, NewDataKey: true},
		"to itself":    {From: newARN, KeyARN: newARN},
		"to take back": {From: testARN, KeyARN: newARN, Abort: true},
	} {
		if o.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A CMK that somebody wrote into the configuration before its time is not shown as
// proved for a moment: whoever rotates many takes that for done.
func TestEditedKeyIsNotProved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		h := startHost(t, formatted(t, dir), dir)
		defer h.stop()
		h.await("mounted", safely)
		spec := testSpec(t)
		spec.KeyARN = newARN
		h.r.Apply([]Spec{spec}, h.r.workers["orders"].probe)
		if s := h.status(); s.KeyARN != newARN || s.WouldSurviveReboot {
			t.Errorf("at once: %+v", s)
		}
		h.await("refused", func(s Status) bool { return s.Class == fault.Misconfigured && !s.WouldSurviveReboot })
	})
}
