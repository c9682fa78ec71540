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
