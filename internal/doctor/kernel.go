// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/volseal/volseal/internal/fault"
)

// module says how the running kernel comes by a module: "loaded", "built in",
// "loadable", or "" if it has none.
func (h Host) module(name string) string {
	if info, err := os.Stat(filepath.Join(h.Root, "/sys/module", name)); err == nil && info.IsDir() {
		return "loaded"
	}
	for _, dir := range []string{"/lib/modules", "/usr/lib/modules"} {
		dir = filepath.Join(h.Root, dir, h.Release)
		if listed(filepath.Join(dir, "modules.builtin"), name) {
			return "built in"
		}
		if listed(filepath.Join(dir, "modules.dep"), name) {
			return "loadable"
		}
	}
	return ""
}

// listed reports whether a file of depmod's names the module: one a line, as
// the path of its file, which a colon may follow.
func listed(file, name string) bool {
	text, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		found, _, _ := strings.Cut(strings.TrimSpace(line), ":")
		found, _, _ = strings.Cut(path.Base(found), ".ko")
		if strings.ReplaceAll(found, "-", "_") == name {
			return true
		}
	}
	return false
}

func judgeModule(name, state string) fault.Check {
	line := "kernel " + name
	switch state {
	case "":
		return failed(line, "The running kernel has no module "+name+".", "Install the modules of this kernel, or boot one that has them.")
	case "loadable":
		return fault.Passed(line, "Loadable; the kernel loads it when it is first used.")
	default:
		return fault.Passed(line, "Is "+state+".")
	}
}
