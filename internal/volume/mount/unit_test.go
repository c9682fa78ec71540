// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"
)

// TestUnit protects who asks whether a database waits for its volume: what
// systemd holds is read as it is told, and what is missing reads as no.
func TestUnit(t *testing.T) {
	p := newPID1(t)
	p.has(map[string]dbus.Variant{
		"LoadState": dbus.MakeVariant("loaded"), "ActiveState": dbus.MakeVariant("active"), "UnitFileState": dbus.MakeVariant("enabled"),
		"Requires": dbus.MakeVariant([]string{"a.mount", "b.mount"}), "After": dbus.MakeVariant([]string{"a.mount", "c.mount"}),
		"DropInPaths": dbus.MakeVariant([]string{"/etc/x.conf"}), "NoNewPrivileges": dbus.MakeVariant(true), "WatchdogUSec": dbus.MakeVariant(uint64(60)),
		"NeedDaemonReload": dbus.MakeVariant(true), "ExecStart": dbus.MakeVariant([][]string{{"x"}}),
	})
	m := manager(t, p)
	got, err := m.Unit(deadline(t), "x.service")
	if err != nil {
		t.Fatal(err)
	}
	if got.Settings["NoNewPrivileges"] != "true" || got.Settings["WatchdogUSec"] != "60" || got.Settings["ExecStart"] != "" {
		t.Errorf("settings %v", got.Settings)
	}
	for other, want := range map[string]bool{"a.mount": true, "b.mount": false, "c.mount": false, "": false} {
		if got.Waits(other) != want {
			t.Errorf("waits for %q: %v", other, !want)
		}
	}
	for file, want := range map[string]bool{
		"/run/systemd/generator/x.service.d/50-volseal.conf": true, "/etc/systemd/system/x.service.d/50-volseal.conf": false, "/etc/x.conf": false,
	} {
		if (Unit{DropIns: []string{file}}).Guarded() != want {
			t.Errorf("guarded by %s: %v", file, !want)
		}
	}
	got.Settings = nil
	want := Unit{
		Load: "loaded", Active: "active", File: "enabled", Stale: true, DropIns: []string{"/etc/x.conf"},
		Requires: []string{"a.mount", "b.mount"}, After: []string{"a.mount", "c.mount"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// A property that systemd does not tell is no reason to believe anything.
func TestUnitOfFewWords(t *testing.T) {
	p := newPID1(t)
	p.has(map[string]dbus.Variant{})
	m := manager(t, p)
	if got, err := m.Unit(deadline(t), "x.service"); err != nil || got.Waits("a.mount") || got.Load != "" {
		t.Errorf("%+v, %v", got, err)
	}
}
