// SPDX-License-Identifier: Apache-2.0

package ec2_test

import (
	"context"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/volseal/volseal/test/lab/ec2"
)

// Whatever is asked of a volume in whatever order, with restarts in between: a
// volume is in use exactly while something is attached, what is available is
// plugged nowhere, what is attached to us is plugged, and once nothing sticks and
// the guest lets go, a detach ends.
func TestAttachmentsInAnyOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := newLab(t, func(o *ec2.Options) { o.Latency = ec2.Latency{Min: time.Microsecond, Max: 100 * time.Microsecond} })
		defer func() { _ = l.Close() }()
		id := l.volume()
		refused := func(error) {} // a wrong moment is no failure here
		steps := map[string]func(){
			"attach":          func() { refused(l.Attach(l.role, id, ec2.OurInstance)) },
			"attach other":    func() { refused(l.Attach(l.role, id, ec2.OtherInstance)) },
			"detach":          func() { refused(l.Detach(id, "", false)) },
			"force":           func() { refused(l.Detach(id, "", true)) },
			"stick attaching": func() { must(t, l.Stick(id, "attaching")) },
			"stick detaching": func() { must(t, l.Stick(id, "detaching")) },
			"unstick":         func() { must(t, l.Stick(id, "off")) },
			"mount":           func() { l.machine.set(func() { l.machine.used = true }) },
			"unmount":         func() { l.machine.set(func() { l.machine.used = false }) },
			"rest":            func() { _, err := l.WaitVolume(t.Context(), id); must(t, err) },
			"restart": func() {
				must(t, l.Close())
				var err error
				l.Server, err = ec2.New(l.opts)
				must(t, err)
			},
		}
		names := rapid.SampledFrom([]string{
			"attach", "attach other", "detach", "force", "stick attaching", "stick detaching", "unstick", "mount", "unmount", "rest", "restart",
		})
		for _, name := range rapid.SliceOfN(names, 1, 12).Draw(rt, "steps") {
			steps[name]()
			check(rt, l, id)
		}
		steps["unstick"]()
		steps["unmount"]()
		steps["detach"]()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if v, err := l.WaitVolume(ctx, id); err != nil || v.State != "available" && v.Attachments[0].State != "busy" {
			rt.Fatalf("a detach without hindrance left %+v, %v", v, err)
		}
		l.until(id, "available")
		check(rt, l, id)
	})
}

func check(rt *rapid.T, l *lab, id string) {
	rt.Helper()
	v, err := l.Volume(id)
	if err != nil {
		rt.Fatal(err)
	}
	if (v.State == "in-use") != (len(v.Attachments) > 0) {
		rt.Fatalf("%s with attachments %v", v.State, v.Attachments)
	}
	plugged := l.machine.has(id)
	again, _ := l.Volume(id) // the same before and after: then what lay between is of this state
	if len(v.Attachments) != len(again.Attachments) || len(v.Attachments) > 0 && v.Attachments[0] != again.Attachments[0] {
		return
	}
	switch {
	case v.State == "available" && plugged:
		rt.Fatal("available, and plugged into the machine")
	case len(v.Attachments) > 0 && v.Attachments[0].Instance == ec2.OurInstance && v.Attachments[0].State == "attached" && !plugged:
		rt.Fatal("attached, and not plugged into the machine")
	}
}
