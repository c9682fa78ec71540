// SPDX-License-Identifier: Apache-2.0

package config

import (
	"path"
	"regexp"
	"strings"

	"github.com/coreos/go-systemd/v22/unit"
)

// The forms of text. keyARNForm leaves aliases out on purpose.
var (
	nameForm     = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)
	regionForm   = regexp.MustCompile(`^` + region + `$`)
	instanceForm = regexp.MustCompile(`^i-([0-9a-f]{8}|[0-9a-f]{17})$`)
	volumeForm   = regexp.MustCompile(`^vol-([0-9a-f]{8}|[0-9a-f]{17})$`)
	groupForm    = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)
	keyIDForm    = regexp.MustCompile(`^` + keyID + `$`)
	keyARNForm   = regexp.MustCompile(`^arn:aws[a-z-]{0,16}:kms:` + region + `:[0-9]{12}:key/` + keyID + `$`)
	pathForm     = regexp.MustCompile(`^[A-Za-z0-9/_.:@+-]+$`)
	unitForm     = regexp.MustCompile(`^[A-Za-z0-9:_.\\@-]+$`)
	optionForm   = regexp.MustCompile(`^[a-z][a-z0-9_.-]*(=[A-Za-z0-9_.:/+-]+)?$`)
)

const (
	region = `[a-z]{2}(-[a-z]{2,12}){1,3}-[0-9]{1,2}`
	keyID  = `([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|mrk-[0-9a-f]{32})`
)

// regionOf is the region of a key ARN of the form above.
func regionOf(arn string) string {
	parts := strings.Split(arn, ":")
	if len(parts) < 4 {
		return ""
	}
	return parts[3]
}

// mountpoint refuses what systemd would read differently than it is written,
// and directories whose replacement would take the host down.
func (v value) mountpoint() (string, bool) {
	s, ok := v.text()
	if !ok {
		return "", false
	}
	switch {
	case !path.IsAbs(s):
		v.problem(quote(s)+" is not an absolute path", "begin it with /")
	case !pathForm.MatchString(s):
		v.problem(quote(s)+" holds a character that is not safe in a unit file", "use letters, digits and / _ . : @ + -")
	case path.Clean(s) != s:
		v.problem(quote(s)+" is not the shortest form of the path", "write "+path.Clean(s))
	case len(unit.UnitNamePathEscape(s))+len(".mount") > maxUnitName:
		v.problem("is too long for the name of a mount unit", "")
	case systemDirectory(s):
		v.problem(quote(s)+" is a directory of the system", "use a directory of the database's own, such as /var/lib/postgresql")
	default:
		return s, true
	}
	return "", false
}

// maxUnitName is systemd's limit, in bytes.
const maxUnitName = 255

// systemDirectory reports whether a volume mounted there would hide what the
// host, systemd or this agent needs.
func systemDirectory(dir string) bool {
	for _, d := range []string{
		"/", "/home", "/lost+found", "/media", "/opt", "/root", "/usr", "/usr/local",
		"/var", "/var/backups", "/var/cache", "/var/lib", "/var/local", "/var/log", "/var/mail", "/var/opt", "/var/spool",
	} {
		if dir == d {
			return true
		}
	}
	for _, tree := range []string{
		"/bin", "/boot", "/dev", "/efi", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run", "/sbin", "/sys", "/tmp",
		"/usr/bin", "/usr/include", "/usr/lib", "/usr/lib64", "/usr/libexec", "/usr/local/bin", "/usr/local/lib", "/usr/local/sbin", "/usr/sbin", "/usr/share",
		"/var/lib/dpkg", "/var/lib/rpm", "/var/lib/systemd", "/var/lib/volseal", "/var/lock", "/var/log/journal", "/var/run", "/var/tmp",
	} {
		if inside(dir, tree) {
			return true
		}
	}
	return false
}

// inside reports whether dir is tree or lies below it.
func inside(dir, tree string) bool {
	return dir == tree || strings.HasPrefix(dir, strings.TrimSuffix(tree, "/")+"/")
}

// unit is the name of a service or target, an instance where it is a template.
func (v value) unit() (string, bool) {
	s, ok := v.text()
	if !ok {
		return "", false
	}
	base, suffix, _ := cutLast(s, ".")
	switch {
	case suffix != "service" && suffix != "target":
		v.problem(quote(s)+" is not a service or target unit", "write the whole name, such as postgresql@15-main.service")
	case len(s) > maxUnitName || !unitForm.MatchString(base) || strings.Count(base, "@") > 1 || strings.HasPrefix(base, "@"):
		v.problem(quote(s)+" is not the name of a unit", "copy it from systemctl list-units")
	case strings.HasSuffix(base, "@"):
		v.problem(quote(s)+" is a template", "name the instance, such as postgresql@15-main.service")
	case base == "volseal" || strings.HasPrefix(base, "volseal-mountpoint"):
		v.problem(quote(s)+" is a unit of volseal itself", "name the database's unit")
	default:
		return s, true
	}
	return "", false
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
