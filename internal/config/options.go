// SPDX-License-Identifier: Apache-2.0

package config

import "strings"

// mountOptions returns the good ones. nosuid, nodev and noexec are always set;
// exec alone may be asked for, because some databases load code from their data
// directory, and it is then in plain sight.
func (v value) mountOptions() []string {
	var good []string
	seen := map[string]bool{}
	for _, item := range v.list(32) {
		s, ok := item.text()
		if !ok {
			continue
		}
		name, _, _ := strings.Cut(s, "=")
		why, refused := refusedOption(name)
		switch {
		case !optionForm.MatchString(s) || len(s) > 128:
			item.problem(quote(s)+" is not a mount option", "write one option in each item")
		case refused:
			item.problem(quote(s)+" is refused: "+why, "remove it")
		case seen[name]:
			item.problem(quote(name)+" occurs twice", "remove one of the two")
		default:
			seen[name] = true
			good = append(good, s)
		}
	}
	return good
}

// refusedOption says why an option is not the operator's to set.
func refusedOption(name string) (why string, refused bool) {
	switch name {
	case "suid", "dev":
		return "a volume's content comes from a disk that others may have written", true
	case "logdev", "rtdev", "journal_dev", "journal_path", "sb":
		return "it would put data, or the truth about it, outside the encrypted volume", true
	case "bind", "rbind", "move", "remount", "loop", "offset", "sizelimit", "encryption", "verity.hashdevice":
		return "it changes what is mounted", true
	case "user", "users", "owner", "group", "nouser", "auto", "noauto", "nofail", "defaults", "_netdev":
		return "it belongs in fstab; volseal decides when to mount", true
	case "private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable":
		return "it changes which services see the mount", true
	}
	if strings.HasPrefix(name, "x-") || strings.HasPrefix(name, "comment") {
		return "it is read by tools, and volseal writes the units itself", true
	}
	return "", false
}
