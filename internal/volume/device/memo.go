// SPDX-License-Identifier: Apache-2.0

package device

import (
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
)

// memo remembers attributes that a device keeps for its whole life, such as its
// serial: a host of many volumes would read those of all disks for each of them,
// again and again. A device is the same as long as its directory is, and a
// device that comes under the name of another has a directory of its own.
type memo struct{ known sync.Map } // directory to remembered

type remembered struct {
	life  life
	value string
}

// life tells one directory from a later one of the same name: the kernel does
// not use the inode number of sysfs again, and where another file system does,
// the time differs.
type life struct {
	inode uint64
	born  time.Duration
}

func lifeOf(dir string) (life, error) {
	info, err := os.Lstat(dir) // in a class, the directory is a link of the device's own
	if err != nil {
		return life{}, fmt.Errorf("read sysfs: %w", err)
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return life{}, fmt.Errorf("read sysfs: no inode of %s", dir)
	}
	return life{s.Ino, time.Duration(s.Ctim.Nano())}, nil
}

// read is one attribute of the device in dir; a memo is for one only.
func (m *memo) read(dir, attribute string) (string, error) {
	now, err := lifeOf(dir)
	if err != nil {
		return "", err
	}
	if r, ok := m.known.Load(dir); ok && r.(remembered).life == now {
		return r.(remembered).value, nil
	}
	value, err := read(dir, attribute)
	if err == nil && value != "" { // empty until the controller has been identified
		m.known.Store(dir, remembered{now, value})
	}
	return value, err
}

func (m *memo) forget() { m.known.Clear() }
