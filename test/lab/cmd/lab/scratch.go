// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	scratchPrefix = "volseal-lab-"
	scratchLock   = "lock" // held by the lab that the directory belongs to
)

// scratch is a directory for one lab, of a gigabyte or more.
type scratch struct {
	dir  string
	lock *os.File
}

// makeScratch makes a scratch directory in parent, and removes those of labs
// that were killed before they could.
func makeScratch(parent string) (*scratch, error) {
	removeAbandoned(parent)
	dir, err := os.MkdirTemp(parent, scratchPrefix)
	if err != nil {
		return nil, fmt.Errorf("make scratch directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, scratchLock), os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make scratch directory: %w", err), os.RemoveAll(dir))
	}
	return &scratch{dir: dir, lock: lock}, nil
}

func (s *scratch) remove() error {
	return errors.Join(os.RemoveAll(s.dir), s.lock.Close())
}

// removeAbandoned removes what nobody holds. It does what it can; a directory
// without a lock may be about to get one.
func removeAbandoned(parent string) {
	locks, _ := filepath.Glob(filepath.Join(parent, scratchPrefix+"*", scratchLock))
	for _, path := range locks {
		lock, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = os.RemoveAll(filepath.Dir(path))
		}
		_ = lock.Close()
	}
}
