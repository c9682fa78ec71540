// SPDX-License-Identifier: Apache-2.0

package device

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// sectorUnit is the unit of the size attribute, whatever the disk's own is.
const sectorUnit = 512

// read returns an attribute without the spaces NVMe pads its strings with.
func read(dir, attribute string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, attribute))
	if err != nil {
		return "", fmt.Errorf("read sysfs: %w", err)
	}
	return strings.TrimRight(string(b), " \n"), nil
}

// vanished: the object went away between listing and reading. The kernel
// answers ENODEV where the file was still open.
func vanished(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO)
}

func list(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list sysfs: %w", err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// number reads the dev attribute. Major 0 is no device: what lies behind it
// could not be told from a plain file.
func number(dir string) (major, minor uint32, err error) {
	s, err := read(dir, "dev")
	if err != nil {
		return 0, 0, unreadable(err)
	}
	a, b, _ := strings.Cut(s, ":")
	x, xerr := strconv.ParseUint(a, 10, 12)
	y, yerr := strconv.ParseUint(b, 10, 20)
	if xerr != nil || yerr != nil || x == 0 {
		return 0, 0, doubt("device-number", "The kernel gives the disk an impossible device number.", "Report this with the output of: cat /sys/block/nvme*/dev")
	}
	return uint32(x), uint32(y), nil
}

// size reads the size attribute, in bytes. A disk that is coming or going has
// size 0: not this volume's size, so not yet its device.
func size(dir string) (int64, error) {
	s, err := read(dir, "size")
	if err != nil {
		return 0, unreadable(err)
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/sectorUnit {
		return 0, doubt("device-size", "The kernel gives the disk an impossible size.", "Report this with the output of: cat /sys/block/nvme*/size")
	}
	if n == 0 {
		return 0, unreadable(errors.New("the disk has size 0"))
	}
	return n * sectorUnit, nil
}

// partitions lists the partitions of a disk that the kernel knows.
func partitions(dir string) ([]string, error) {
	names, err := list(dir)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, name := range names {
		_, err := os.Stat(filepath.Join(dir, name, "partition"))
		switch {
		case err == nil:
			found = append(found, name)
		case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR):
			return nil, fmt.Errorf("list partitions: %w", err)
		}
	}
	return found, nil
}
