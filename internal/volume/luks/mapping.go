// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/volseal/volseal/internal/volume"
)

// Mapping reads sysfs, which answers even when a mapping's I/O hangs; no tool
// is started. Errors: sysfs could not be read, or the mapping vanished halfway.
func (l *LUKS) Mapping(_ context.Context, name string) (volume.Mapping, error) {
	dir, err := l.findMapping(name)
	if dir == "" || err != nil {
		return volume.Mapping{}, err
	}
	m := volume.Mapping{Present: true}
	if m.Major, m.Minor, err = deviceNumber(dir); err != nil {
		return volume.Mapping{}, err
	}
	suspended, err := attribute(dir, "dm/suspended")
	if err != nil {
		return volume.Mapping{}, err
	}
	m.Suspended = suspended != "0"
	dmUUID, err := attribute(dir, "dm/uuid")
	if err != nil {
		return volume.Mapping{}, err
	}
	m.UUID = luksUUID(dmUUID)
	if err := l.beneath(&m, dir, name); err != nil {
		return volume.Mapping{}, err
	}
	holders, err := entries(filepath.Join(dir, "holders"))
	m.Holders = len(holders)
	return m, err
}

// findMapping returns the sysfs directory of a mapping, or "". Names are unique
// in the kernel, so one that is where it was last is the one that is meant; to
// read the names of all mappings, for each of many volumes, is what is spared.
func (l *LUKS) findMapping(name string) (string, error) {
	if last, ok := l.places.Load(name); ok {
		dir := last.(string)
		if found, err := attribute(dir, "dm/name"); err == nil && found == name {
			return dir, nil
		}
	}
	dir, err := l.searchMapping(name)
	if dir != "" {
		l.places.Store(name, dir)
	}
	return dir, err
}

func (l *LUKS) searchMapping(name string) (string, error) {
	block := filepath.Join(l.sys, "block")
	names, err := entries(block)
	if err != nil {
		return "", err
	}
	for _, n := range names {
		if !strings.HasPrefix(n, "dm-") {
			continue
		}
		dir := filepath.Join(block, n)
		found, err := attribute(dir, "dm/name")
		if gone(err) {
			continue
		}
		if err != nil {
			return "", err
		}
		if found == name {
			return dir, nil
		}
	}
	return "", nil
}

// gone reports that a mapping was closed while sysfs was read, or is being
// closed: the kernel then says "invalid argument".
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EINVAL) }

// backing returns the devices beneath a mapping. A device that was taken away
// leaves a name in slaves/ that leads nowhere, or to another disk that has come
// under the name since: only one that names the mapping as its holder is meant.
func backing(dir string) ([]volume.Backing, error) {
	names, err := slaves(dir)
	if err != nil {
		return nil, err
	}
	return backingOf(dir, names)
}

func slaves(dir string) ([]string, error) { return entries(filepath.Join(dir, "slaves")) }

func backingOf(dir string, names []string) ([]volume.Backing, error) {
	var under []volume.Backing
	for _, n := range names {
		slave := filepath.Join(dir, "slaves", n)
		_, err := os.Stat(filepath.Join(slave, "holders", filepath.Base(dir)))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read sysfs: %w", err)
		}
		major, minor, err := deviceNumber(slave)
		if err != nil {
			return nil, err
		}
		under = append(under, volume.Backing{Major: major, Minor: minor})
	}
	return under, nil
}

// dmUUIDForm is what cryptsetup gives its mappings. The name at its end is the
// one at opening and does not follow a rename.
var dmUUIDForm = regexp.MustCompile(`^CRYPT-LUKS2-([0-9a-f]{8})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{12})-`)

func luksUUID(dmUUID string) string {
	m := dmUUIDForm.FindStringSubmatch(dmUUID)
	if m == nil {
		return ""
	}
	return strings.Join(m[1:], "-")
}

// deviceNumber reads the dev attribute, "259:3".
func deviceNumber(dir string) (major, minor uint32, _ error) {
	s, err := attribute(dir, "dev")
	if err != nil {
		return 0, 0, err
	}
	if n, err := fmt.Sscanf(s, "%d:%d", &major, &minor); n != 2 || fmt.Sprintf("%d:%d", major, minor) != s {
		return 0, 0, fmt.Errorf("read device number %.32q in %s: %w", s, dir, err)
	}
	return major, minor, nil
}

func attribute(dir, name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return "", fmt.Errorf("read sysfs: %w", err)
	}
	return strings.TrimSuffix(string(b), "\n"), nil
}

func entries(dir string) ([]string, error) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list sysfs: %w", err)
	}
	names := make([]string, len(list))
	for i, e := range list {
		names[i] = e.Name()
	}
	return names, nil
}
