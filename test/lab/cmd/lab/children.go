// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// childrenLimit is what a forwarder of QEMU's needs to see that QEMU is gone.
const childrenLimit = 5 * time.Second

// adoptOrphans makes us the parent of what our children leave behind, so that
// reapChildren sees every process of the lab.
func adoptOrphans() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("adopt orphans: %w", err)
	}
	return nil
}

// reapChildren waits until no child is left, and kills and reports those that
// stay. Nothing else of ours may be waiting for a child.
func reapChildren() error {
	deadline := time.Now().Add(childrenLimit)
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		switch {
		case err == unix.EINTR || err == nil && pid > 0:
			continue
		case err != nil:
			return nil // ECHILD: there are none
		case time.Now().After(deadline):
			return killChildren()
		}
		time.Sleep(20 * time.Millisecond) // nothing tells of the last of several
	}
}

func killChildren() error {
	var left []string
	for pid, command := range children(os.Getpid()) {
		left = append(left, fmt.Sprintf("%d %s", pid, command))
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	return fmt.Errorf("processes were left over: %s", strings.Join(left, "; "))
}

// children are the processes whose parent is pid, with their command lines.
func children(pid int) map[int]string {
	found := map[int]string{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, stat := range stats {
		text, err := os.ReadFile(stat)
		if err != nil {
			continue // it has ended
		}
		// PID (COMM) STATE PPID …; COMM may hold anything.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(fields) < 2 || fields[1] != strconv.Itoa(pid) {
			continue
		}
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(stat)))
		if err != nil {
			continue
		}
		command, _ := os.ReadFile(filepath.Join(filepath.Dir(stat), "cmdline"))
		found[child] = strings.ReplaceAll(strings.TrimRight(string(command), "\x00"), "\x00", " ")
	}
	return found
}
