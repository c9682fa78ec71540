// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// DiskInUse reports whether the guest has the disk with this serial number, or
// a partition of it, mounted or mapped (device-mapper, md). sys and mountinfo
// are /sys and /proc/self/mountinfo. A disk that is not there is not in use.
func DiskInUse(sys, mountinfo, serial string) (bool, error) {
	disk, err := diskOf(sys, serial)
	if err != nil || disk == "" {
		return false, err
	}
	devices, err := devicesOf(disk)
	if err != nil {
		return false, err
	}
	mounted, err := mountedDevices(mountinfo)
	if err != nil {
		return false, err
	}
	for _, device := range devices {
		number, err := os.ReadFile(filepath.Join(device, "dev"))
		if err != nil {
			return false, fmt.Errorf("read device number: %w", err)
		}
		if mounted[strings.TrimSpace(string(number))] {
			return true, nil
		}
		holders, err := os.ReadDir(filepath.Join(device, "holders"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("list holders: %w", err)
		}
		if len(holders) > 0 {
			return true, nil
		}
	}
	return false, nil
}

// diskOf finds the directory of a disk by its serial number; "" for none.
func diskOf(sys, serial string) (string, error) {
	files, err := filepath.Glob(filepath.Join(sys, "block", "*", "device", "serial"))
	if err != nil {
		return "", fmt.Errorf("list disks: %w", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // unplugged meanwhile
		}
		if err != nil {
			return "", fmt.Errorf("read serial number: %w", err)
		}
		if strings.TrimSpace(string(text)) == serial {
			return filepath.Dir(filepath.Dir(file)), nil
		}
	}
	return "", nil
}

// devicesOf is the disk itself and its partitions.
func devicesOf(disk string) ([]string, error) {
	partitions, err := filepath.Glob(filepath.Join(disk, "*", "partition"))
	if err != nil {
		return nil, fmt.Errorf("list partitions: %w", err)
	}
	devices := []string{disk}
	for _, file := range partitions {
		devices = append(devices, filepath.Dir(file))
	}
	return devices, nil
}

// mountedDevices are the "major:minor" of every mount.
func mountedDevices(mountinfo string) (map[string]bool, error) {
	f, err := os.Open(mountinfo)
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	defer f.Close()
	mounted := map[string]bool{}
	scanner := bufio.NewScanner(f)
	for scanner.Scan() {
		if fields := strings.Fields(scanner.Text()); len(fields) > 2 {
			mounted[fields[2]] = true
		}
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	return mounted, nil
}
