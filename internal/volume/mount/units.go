// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/unit"

	"github.com/volseal/volseal/internal/volume"
)

// Names of units and files.
const (
	agentUnit   = "volseal.service"
	dropIn      = "50-volseal.conf"
	always      = "nosuid,nodev,noexec" // options of every mount of ours
	unitComment = "# Written by volseal-generator from /etc/volseal; changes made here are lost.\n"
)

// UnitName is the name of the mount unit of a mount point.
func UnitName(mountpoint string) string { return unit.UnitNamePathEscape(mountpoint) + ".mount" }

func devicePath(s volume.Spec) string { return "/dev/mapper/" + s.Mapping() }

func deviceUnit(s volume.Spec) string { return unit.UnitNamePathEscape(devicePath(s)) + ".device" }

func mountpointUnit(s volume.Spec) string { return "volseal-mountpoint-" + s.Name + ".service" }

// mountUnit is the unit that mounts one volume.
//
// Without default dependencies, because a mount that local-fs.target waits for
// and that waits for an ordinary service is an ordering cycle. No target wants
// it: whoever needs the path pulls it in, and the agent starts it when the
// mapping is there. Ordered after the agent so that at shutdown it is unmounted
// while the agent still runs and can close the mapping. It wants the database so
// that an unlock that came too late for the boot starts it all the same, while
// one that an operator stopped on purpose stays stopped.
//
// No systemd-fsck@.service: on failure that may put the whole host into
// emergency mode, and ext4 and xfs replay their journals when mounted.
func mountUnit(s volume.Spec) string {
	pulled := []string{agentUnit, mountpointUnit(s)}
	wants := slices.Clone(pulled)
	if s.DatabaseUnit != "" {
		wants = append(wants, s.DatabaseUnit)
	}
	fstype := s.Filesystem
	if fstype == "" {
		fstype = "auto" // salvaged; the agent opens nothing until the configuration is right
	}
	return unitComment + fmt.Sprintf(`[Unit]
Description=Encrypted volume %s
Documentation=man:volseal(8)
DefaultDependencies=no
Conflicts=umount.target
Before=umount.target
Wants=%s
After=%s

[Mount]
What=%s
Where=%s
Type=%s
Options=%s
# Replaying a long journal, or flushing much at unmount, is no reason to kill it half-way.
TimeoutSec=10min
`, s.Name, strings.Join(wants, " "), strings.Join(pulled, " "), devicePath(s), s.Mountpoint, fstype,
		strings.Join(append([]string{always}, s.MountOptions...), ","))
}

// refusal stands in for a volume that the configuration does not name well
// enough to mount: what needs the path fails, instead of using the directory
// beneath. The assertion is never true.
func refusal(mountpoint string) string {
	return unitComment + fmt.Sprintf(`[Unit]
Description=Encrypted volume at %s (refused: run "volseal config check")
Documentation=man:volseal(8)
DefaultDependencies=no
Conflicts=umount.target
Before=umount.target
AssertPathExists=!/

[Mount]
What=volseal-refused
Where=%s
Type=none
`, mountpoint, mountpoint)
}

// deviceTimeout lets the mount job wait for the unlocking longer than the 90
// seconds that systemd gives a device.
func deviceTimeout(s volume.Spec) string {
	seconds := max(1, int64((s.UnlockTimeout+time.Second-1)/time.Second))
	return unitComment + fmt.Sprintf("[Unit]\nJobRunningTimeoutSec=%ds\n", seconds)
}

// mountpointService makes the directory and protects it while nothing is
// mounted there: nobody, root included, can then start a database beneath the
// volume. File systems without the immutable flag do without.
func mountpointService(s volume.Spec) string {
	return unitComment + fmt.Sprintf(`[Unit]
Description=Mount point of encrypted volume %[1]s
Documentation=man:volseal(8)
DefaultDependencies=no
Conflicts=shutdown.target
Before=shutdown.target %[2]s
After=systemd-remount-fs.service
RequiresMountsFor=%[3]s
ConditionPathIsMountPoint=!%[4]s
ConditionDirectoryNotEmpty=!%[4]s

[Service]
Type=oneshot
ExecStart=/usr/bin/mkdir -p -- %[4]s
ExecStart=-/usr/bin/chattr +i -- %[4]s
NoNewPrivileges=yes
CapabilityBoundingSet=CAP_DAC_OVERRIDE CAP_FOWNER CAP_LINUX_IMMUTABLE
`, s.Name, UnitName(s.Mountpoint), path.Dir(s.Mountpoint), s.Mountpoint)
}

// databaseDropIn keeps a database from starting before all its volumes are
// mounted, whoever starts it. The assertion is for when the mount unit itself
// is missing: RequiresMountsFor= then asks for nothing. An unknown mount point
// is one that is never mounted.
func databaseDropIn(mountpoints []string) string {
	var b strings.Builder
	b.WriteString(unitComment + "[Unit]\n")
	for _, m := range mountpoints {
		if m == "" {
			b.WriteString("# The configuration does not say where its volume belongs: never true.\nAssertPathExists=!/\n")
			continue
		}
		fmt.Fprintf(&b, "RequiresMountsFor=%s\nAssertPathIsMountPoint=%s\n", m, m)
	}
	return b.String()
}
