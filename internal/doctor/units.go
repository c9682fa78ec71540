// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
	"github.com/volseal/volseal/internal/volume/mount"
)

const (
	agentService = "volseal.service"
	agentSocket  = "volseal.socket"
)

// units are the agent's own.
func (h Host) units(ctx context.Context) []fault.Check {
	if !h.Super {
		return []fault.Check{rootOnly(agentSocket), rootOnly(agentService), rootOnly("sandbox")}
	}
	var checks []fault.Check
	for _, name := range []string{agentSocket, agentService} {
		u, err := h.Unit(ctx, name)
		if err != nil {
			checks = append(checks, fault.Failed(name, err))
			continue
		}
		checks = append(checks, judgeUnit(name, u))
		if name == agentService {
			checks = append(checks, judgeSandbox(u))
		}
	}
	return checks
}

// judgeUnit: a host must come back after a reboot without anybody's help.
func judgeUnit(name string, u mount.Unit) fault.Check {
	const enable = "Run: systemctl enable --now " + agentSocket + " " + agentService
	switch {
	case u.Load == "masked":
		return failed(name, "It is masked.", "Run: systemctl unmask "+name)
	case u.Load != "loaded":
		return failed(name, fmt.Sprintf("systemd cannot load it: %s.", word(u.Load)), "Install the package again; see systemctl status "+name)
	case u.File != "enabled":
		return failed(name, fmt.Sprintf("It is %s: after a reboot nothing would be unlocked.", word(u.File)), enable)
	case u.Active != "active":
		return failed(name, fmt.Sprintf("It is %s.", word(u.Active)), enable+"; see systemctl status "+name)
	case name == agentService && u.Settings["WatchdogUSec"] == "0":
		return warned(name, "Its watchdog is off: an agent that hangs is not restarted.", "Take WatchdogSec= out of: "+dropIns(u))
	case u.Stale:
		return warned(name, "Its files have changed since systemd read them.", "Run: systemctl daemon-reload; systemctl restart "+name)
	}
	return fault.Passed(name, "Enabled and active.")
}

func dropIns(u mount.Unit) string {
	if len(u.DropIns) == 0 {
		return "systemctl cat " + agentService
	}
	return strings.Join(u.DropIns, ", ")
}

// sandbox is what protects keys and host, as systemd tells it of the packaged
// unit. A value is exact, but for the capabilities, which are at most these.
func sandbox() map[string]string {
	return map[string]string{
		"NoNewPrivileges": "true", "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateMounts": "true",
		"ProtectKernelModules": "true", "ProtectKernelTunables": "true", "ProtectKernelLogs": "true", "LockPersonality": "true",
		"MemoryDenyWriteExecute": "true", "RestrictRealtime": "true", "RestrictSUIDSGID": "true",
		"LimitCORE": "0", "MemorySwapMax": "0", "UMask": "63",
	}
}

const capSysAdmin = 1 << 21

// judgeSandbox: what this version of systemd does not tell is not judged.
func judgeSandbox(u mount.Unit) fault.Check {
	const name = "sandbox"
	var weaker []string
	for setting, want := range sandbox() {
		if got, told := u.Settings[setting]; told && got != want {
			weaker = append(weaker, setting)
		}
	}
	if got, told := u.Settings["CapabilityBoundingSet"]; told {
		if set, err := strconv.ParseUint(got, 10, 64); err != nil || set&^capSysAdmin != 0 {
			weaker = append(weaker, "CapabilityBoundingSet")
		}
	}
	if len(weaker) == 0 {
		return fault.Passed(name, "As packaged.")
	}
	slices.Sort(weaker)
	return warned(name, "The agent has more rights than it needs, or its memory may leave the host: "+strings.Join(weaker, ", ")+".",
		"Take these settings out of: "+dropIns(u)+"; then: systemctl daemon-reload; systemctl restart "+agentService)
}

// databases: each must wait for its volume, whoever starts it.
func (h Host) databases(ctx context.Context) []fault.Check {
	if h.Config == nil {
		return nil
	}
	var checks []fault.Check
	for _, v := range h.Config.Volumes {
		name := "database of " + v.Name
		switch {
		case v.DatabaseUnit == "":
			checks = append(checks, fault.Skipped(name, "No database_unit is configured. A unit that lives on the volume needs RequiresMountsFor="+v.Mountpoint+"."))
			continue
		case !h.Super:
			checks = append(checks, rootOnly(name))
			continue
		}
		u, err := h.Unit(ctx, v.DatabaseUnit)
		if err != nil {
			checks = append(checks, fault.Failed(name, err))
			continue
		}
		checks = append(checks, judgeDatabase(name, v, u))
	}
	return checks
}

func judgeDatabase(name string, v volume.Spec, u mount.Unit) fault.Check {
	unit := v.DatabaseUnit
	switch {
	case u.Load == "not-found":
		return failed(name, "There is no unit "+unit+".", "Correct database_unit of "+v.Name+", or install the database.")
	case !u.Waits(mount.UnitName(v.Mountpoint)):
		return failed(name, fmt.Sprintf("%s does not wait for %s: it could start on the empty directory beneath.", unit, v.Mountpoint),
			fmt.Sprintf("Run: systemctl daemon-reload. If that does not help, look in `systemctl cat '%s'` for what hides 50-volseal.conf.", unit))
	case !u.Guarded():
		return warned(name, fmt.Sprintf("%s waits for %s, but not by volseal's drop-in: without the mount unit nothing would hold it back.", unit, v.Mountpoint),
			fmt.Sprintf("Run: systemctl daemon-reload. If that does not help, look in `systemctl cat '%s'` for what hides 50-volseal.conf.", unit))
	case u.Stale:
		return warned(name, "The files of "+unit+" have changed since systemd read them.", "Run: systemctl daemon-reload")
	}
	return fault.Passed(name, fmt.Sprintf("%s waits for %s.", unit, v.Mountpoint))
}
