// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume/mount"
)

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// socket: everybody may connect, and nobody but root may put another in its place.
func (h Host) socket() fault.Check {
	const name, start = "socket", "Run: systemctl enable --now volseal.socket volseal.service"
	path := filepath.Join(h.Root, h.Socket)
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return failed(name, "There is no socket "+h.Socket+".", start)
	case err != nil:
		return failed(name, firstLine(err)+".", start)
	case info.Mode().Type() != fs.ModeSocket:
		return failed(name, h.Socket+" is no socket.", "Move it away, then: systemctl restart volseal.socket")
	case info.Mode().Perm() != 0o666:
		return failed(name, fmt.Sprintf("%s has mode %04o; the agent tells people apart by itself.", h.Socket, info.Mode().Perm()), "Run: systemctl restart volseal.socket")
	}
	dir, err := os.Stat(filepath.Dir(path))
	if err != nil || dir.Mode().Perm()&0o022 != 0 || h.Super && ownerOf(info) != 0 {
		return failed(name, "Others than root could replace "+h.Socket+".", fmt.Sprintf("Run: chown root:root %[1]s; chmod 0755 %[1]s", filepath.Dir(h.Socket)))
	}
	return fault.Passed(name, h.Socket+".")
}

func ownerOf(info fs.FileInfo) uint32 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Uid
	}
	return 0
}

// groups: one that does not exist grants nothing, and its members are refused.
func (h Host) groups() []fault.Check {
	wanted := []string{h.Readers}
	if h.Config != nil && h.Config.OperatorGroup != "" {
		wanted = append(wanted, h.Config.OperatorGroup)
	}
	var checks []fault.Check
	for _, group := range wanted {
		name := "group " + group
		if h.Group(group) != nil {
			checks = append(checks, failed(name, "There is no such group, so root alone may do what its members could.",
				"Run: groupadd --system "+group+"; then volseal reload"))
			continue
		}
		checks = append(checks, fault.Passed(name, "Exists."))
	}
	return checks
}

// generatorDirs in systemd's order: the first file of a name hides the others.
func generatorDirs() []string {
	return []string{
		"/run/systemd/system-generators", "/etc/systemd/system-generators",
		"/usr/local/lib/systemd/system-generators", "/usr/lib/systemd/system-generators",
	}
}

func (h Host) generator() fault.Check {
	const name = "generator"
	const harm = "At the next boot no database would wait for its volume."
	for _, dir := range generatorDirs() {
		shown := filepath.Join(dir, mount.GeneratorName)
		file := filepath.Join(h.Root, shown)
		if target, err := os.Readlink(file); err == nil && target == os.DevNull {
			return failed(name, shown+" masks it. "+harm, "Remove that link, then: systemctl daemon-reload")
		}
		if _, err := os.Lstat(file); err != nil {
			continue
		}
		info, err := os.Stat(file)
		if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
			return failed(name, shown+" cannot be executed. "+harm, "Install the package again, then: systemctl daemon-reload")
		}
		return fault.Passed(name, shown+".")
	}
	return failed(name, "It is not installed. "+harm, "Install the package again, then: systemctl daemon-reload")
}

func (h Host) generated() fault.Check {
	const name = "generated units"
	switch {
	case h.Config == nil:
		return fault.Skipped(name, "Needs a sound configuration to compare with.")
	case h.UpToDate(h.Config.Volumes):
		return fault.Passed(name, "Just those of the configuration.")
	default:
		return failed(name, "They are not those of the configuration: one is missing, of an older one, or left over.",
			"Run: systemctl daemon-reload. If that does not help: journalctl -b -t "+mount.GeneratorName)
	}
}
