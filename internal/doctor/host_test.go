// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/volseal/volseal/internal/config"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
	"github.com/volseal/volseal/internal/volume/luks"
	"github.com/volseal/volseal/internal/volume/mount"
)

const (
	readyClaim = `{"version":1,"name":"orders","volume_id":"vol-1","luks_uuid":"u","generation":1,"binding":"","stage":"ready","wish":"mounted","quarantine":null}`
	noClaim    = `{"version":1,"name":"gone","volume_id":"","luks_uuid":"","generation":0,"binding":"","stage":"","wish":"mounted","quarantine":null}`
)

// rig is a host with nothing to complain of, and what a test may break.
type rig struct {
	Host
	t     *testing.T
	units map[string]mount.Unit
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, units: map[string]mount.Unit{
		agentSocket: {Load: "loaded", Active: "active", File: "enabled"},
		agentService: {Load: "loaded", Active: "active", File: "enabled", Settings: map[string]string{
			"WatchdogUSec": "60000000", "CapabilityBoundingSet": "2097152",
		}},
		"postgresql.service": {Load: "loaded", DropIns: []string{"/run/systemd/generator/postgresql.service.d/50-volseal.conf"}, Requires: []string{"srv-orders.mount"}, After: []string{"srv-orders.mount"}},
	}}
	maps.Copy(r.units[agentService].Settings, sandbox())
	r.Host = Host{
		Root: t.TempDir(), Release: "6.1.0", Super: true, Now: time.Now(), Socket: "/run/volseal/volseal.sock", Readers: "volseal", State: "/var/lib/volseal",
		Config: &config.Config{OperatorGroup: "volseal-operators", Volumes: []volume.Spec{
			{Name: "orders", Mountpoint: "/srv/orders", DatabaseUnit: "postgresql.service"},
		}},
		Cryptsetup: func(context.Context) (luks.Version, error) { return luks.Version{Major: 2, Minor: 6, Patch: 1}, nil },
		Unit:       func(_ context.Context, name string) (mount.Unit, error) { return r.units[name], nil },
		UpToDate:   func([]volume.Spec) bool { return true },
		Group:      func(string) error { return nil },
	}
	write(t, r.Root, "/lib/modules/6.1.0/modules.builtin", "kernel/drivers/nvme/host/nvme.ko\n", 0o644)
	write(t, r.Root, "/lib/modules/6.1.0/modules.dep", "kernel/drivers/md/dm-crypt.ko.xz: kernel/drivers/md/dm-mod.ko\n", 0o644)
	write(t, r.Root, "/usr/lib/systemd/system-generators/volseal-generator", "", 0o755)
	write(t, r.Root, "/var/lib/volseal/claims/orders.json", readyClaim, 0o600)
	write(t, r.Root, "/var/lib/volseal/headers/orders/g1-20260102T030405Z.img", "x", 0o600)
	r.listen()
	return r
}

// listen makes the socket as systemd does. The path of one is short, so it is
// made in a directory beside and moved.
func (r *rig) listen() {
	r.t.Helper()
	short, err := os.MkdirTemp("", "s")
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { os.RemoveAll(short) })
	ln, err := net.Listen("unix", filepath.Join(short, "s"))
	if err != nil {
		r.t.Fatal(err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	ln.Close()
	dir := filepath.Join(r.Root, "/run/volseal")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(short, "s"), r.path(r.Socket)); err != nil {
		r.t.Fatal(err)
	}
	r.must(os.Chmod(r.path(r.Socket), 0o666))
}

func (r *rig) path(p string) string { return filepath.Join(r.Root, p) }

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// unit edits what systemd holds of one.
func (r *rig) unit(name string, edit func(*mount.Unit)) {
	u := r.units[name]
	u.Settings = maps.Clone(u.Settings)
	edit(&u)
	r.units[name] = u
}

// TestHost protects operators at night: a sound host has no line against it,
// and each thing that is broken has one line, with a remedy, and only that.
func TestHost(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*rig)
		failed string
		warned string
	}{
		"sound":          {func(*rig) {}, "", ""},
		"no dm-crypt":    {func(r *rig) { r.must(os.Remove(r.path("/lib/modules/6.1.0/modules.dep"))) }, "kernel dm_crypt", ""},
		"another kernel": {func(r *rig) { r.Release = "6.2.0" }, "kernel dm_crypt|kernel nvme", ""},
		"old cryptsetup": {func(r *rig) { r.release(2, 3, 7) }, "cryptsetup", ""},
		"bad cryptsetup": {func(r *rig) { r.release(2, 7, 4) }, "", "cryptsetup"},
		"no cryptsetup": {func(r *rig) {
			r.Cryptsetup = luks.New(luks.Options{Path: "/nowhere"}).Version
		}, "cryptsetup", ""},
		"bad configuration": {func(r *rig) {
			r.Config, r.ConfigErr = nil, config.Problems{{File: "f", Message: "is wrong"}}
		}, "configuration", ""},
		"no socket":    {func(r *rig) { r.must(os.Remove(r.path(r.Socket))) }, "socket", ""},
		"a file there": {func(r *rig) { r.must(os.Remove(r.path(r.Socket))); write(t, r.Root, r.Socket, "", 0o666) }, "socket", ""},
		"closed socket": {func(r *rig) {
			r.must(os.Chmod(r.path(r.Socket), 0o600))
		}, "socket", ""},
		"open directory": {func(r *rig) { r.must(os.Chmod(r.path("/run/volseal"), 0o777)) }, "socket", ""},
		"no groups":      {func(r *rig) { r.Group = func(string) error { return errPlain } }, "group volseal|group volseal-operators", ""},
		"no generator":   {func(r *rig) { r.must(os.RemoveAll(r.path("/usr/lib/systemd"))) }, "generator", ""},
		"dead generator": {func(r *rig) {
			r.must(os.Chmod(r.path("/usr/lib/systemd/system-generators/volseal-generator"), 0o644))
		}, "generator", ""},
		"masked generator": {func(r *rig) {
			dir := r.path("/etc/systemd/system-generators")
			r.must(os.MkdirAll(dir, 0o755))
			r.must(os.Symlink(os.DevNull, filepath.Join(dir, "volseal-generator")))
		}, "generator", ""},
		"old units": {func(r *rig) { r.UpToDate = func([]volume.Spec) bool { return false } }, "generated units", ""},
		"disabled":  {func(r *rig) { r.unit(agentService, func(u *mount.Unit) { u.File = "disabled" }) }, "volseal.service", ""},
		"masked":    {func(r *rig) { r.unit(agentSocket, func(u *mount.Unit) { u.Load = "masked" }) }, "volseal.socket", ""},
		"stopped":   {func(r *rig) { r.unit(agentService, func(u *mount.Unit) { u.Active = "failed" }) }, "volseal.service", ""},
		"absent":    {func(r *rig) { delete(r.units, agentService) }, "volseal.service", ""},
		"no watchdog": {func(r *rig) {
			r.unit(agentService, func(u *mount.Unit) { u.Settings["WatchdogUSec"] = "0" })
		}, "", "volseal.service"},
		"stale": {func(r *rig) { r.unit(agentService, func(u *mount.Unit) { u.Stale = true }) }, "", "volseal.service"},
		"core dumps": {func(r *rig) {
			r.unit(agentService, func(u *mount.Unit) { u.Settings["LimitCORE"] = "18446744073709551615" })
		}, "", "sandbox"},
		"all rights": {func(r *rig) {
			r.unit(agentService, func(u *mount.Unit) { u.Settings["CapabilityBoundingSet"] = "2199023255551" })
		}, "", "sandbox"},
		"fewer rights": {func(r *rig) { r.unit(agentService, func(u *mount.Unit) { u.Settings["CapabilityBoundingSet"] = "0" }) }, "", ""},
		"a database that does not wait": {func(r *rig) {
			r.unit("postgresql.service", func(u *mount.Unit) { u.Requires = nil })
		}, "database of orders", ""},
		"a database that comes first": {func(r *rig) {
			r.unit("postgresql.service", func(u *mount.Unit) { u.After = nil })
		}, "database of orders", ""},
		"a drop-in that is hidden": {func(r *rig) {
			r.unit("postgresql.service", func(u *mount.Unit) { u.DropIns = []string{"/etc/systemd/system/postgresql.service.d/50-volseal.conf"} })
		}, "", "database of orders"},
		"no database": {func(r *rig) { r.unit("postgresql.service", func(u *mount.Unit) { u.Load = "not-found" }) }, "database of orders", ""},
		"garbage":     {func(r *rig) { write(t, r.Root, "/var/lib/volseal/claims/orders.json", "{", 0o600) }, `claim "orders"`, ""},
		"another's claim": {func(r *rig) {
			write(t, r.Root, "/var/lib/volseal/claims/orders.json", noClaim, 0o600)
		}, `claim "orders"`, ""},
		"open claim":   {func(r *rig) { write(t, r.Root, "/var/lib/volseal/claims/orders.json", readyClaim, 0o644) }, "claims", ""},
		"open state":   {func(r *rig) { r.must(os.Chmod(r.path("/var/lib/volseal"), 0o755)) }, "claims", ""},
		"a left claim": {func(r *rig) { write(t, r.Root, "/var/lib/volseal/claims/gone.json", noClaim, 0o600) }, "", "other claims"},
		"no backup":    {func(r *rig) { r.must(os.RemoveAll(r.path("/var/lib/volseal/headers"))) }, "", "header of orders"},
		"a backup of the data key before": {func(r *rig) {
			write(t, r.Root, "/var/lib/volseal/claims/orders.json", strings.Replace(readyClaim, `"generation":1`, `"generation":2`, 1), 0o600)
		}, "", "header of orders"},
		"no state": {func(r *rig) { r.must(os.RemoveAll(r.path("/var/lib/volseal"))) }, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			tt.change(r)
			checks := r.Examine(t.Context())
			complete(t, checks)
			for status, want := range map[fault.CheckStatus]string{fault.CheckFailed: tt.failed, fault.CheckWarn: tt.warned} {
				if got := strings.Join(names(checks, status), "|"); got != want {
					t.Errorf("%s %q, want %q", status, got, want)
				}
			}
		})
	}
}

func (r *rig) release(major, minor, patch int) {
	r.Cryptsetup = func(context.Context) (luks.Version, error) {
		return luks.Version{Major: major, Minor: minor, Patch: patch}, nil
	}
}

// TestHostWithoutRoot protects whoever is not root from being told that a sound
// host is broken: what cannot be seen is skipped, and says so.
func TestHostWithoutRoot(t *testing.T) {
	r := newRig(t)
	r.Super = false
	r.units = nil
	r.must(os.RemoveAll(r.path("/var/lib/volseal")))
	r.Config, r.ConfigErr = nil, config.Problems{{File: "f", Message: "cannot be read: permission denied"}}
	checks := r.Examine(t.Context())
	complete(t, checks)
	if bad := append(names(checks, fault.CheckFailed), names(checks, fault.CheckWarn)...); len(bad) > 0 {
		t.Errorf("%v", bad)
	}
	if got := len(names(checks, fault.CheckSkipped)); got != 7 {
		t.Errorf("%d skipped: %v", got, names(checks, fault.CheckSkipped))
	}
}
