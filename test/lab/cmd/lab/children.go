// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// forwarder is the program that QEMU starts for each connection of the guest's,
// and never waits for.
const forwarder = "socat"

// childrenLimit is what a forwarder needs to see that QEMU is gone.
const childrenLimit = 5 * time.Second

// adoptOrphans makes us the parent of what our children leave behind, so that
// endChildren sees every process of the lab. Forwarders are reaped as they end:
// there is one a request, and not every host has an init that would do it.
func adoptOrphans() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("adopt orphans: %w", err)
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	go func() {
		for range ended {
			reapForwarders()
		}
	}()
	return nil
}

// reapForwarders waits for forwarders that have ended, and for nothing else:
// whoever started another process waits for it.
func reapForwarders() {
	for _, c := range children(os.Getpid()) {
		if c.name == forwarder && c.state == "Z" {
			_, _ = unix.Wait4(c.pid, nil, unix.WNOHANG, nil)
		}
	}
}

// endChildren waits until no child is left, and kills and reports those that
// stay.
func endChildren() error {
	deadline := time.Now().Add(childrenLimit)
	for {
		reapForwarders()
		left := children(os.Getpid())
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return killAll(left)
		}
		time.Sleep(20 * time.Millisecond) // nothing tells of the last of several
	}
}

func killAll(left []child) error {
	var names []string
	for _, c := range left {
		names = append(names, fmt.Sprintf("%d %s (%s)", c.pid, c.command, c.state))
		_ = unix.Kill(c.pid, unix.SIGKILL)
	}
	return fmt.Errorf("processes were left over: %s", strings.Join(names, "; "))
}

// child is a process as /proc shows it.
type child struct {
	pid                  int
	name, state, command string
}

// children are the processes whose parent is pid.
func children(pid int) []child {
	var found []child
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, stat := range stats {
		text, err := os.ReadFile(stat)
		if err != nil {
			continue // it has ended
		}
		c, parent, ok := parseStat(string(text))
		if !ok || parent != pid {
			continue
		}
		command, _ := os.ReadFile(filepath.Join(filepath.Dir(stat), "cmdline"))
		c.command = strings.ReplaceAll(strings.TrimRight(string(command), "\x00"), "\x00", " ")
		found = append(found, c)
	}
	return found
}

// parseStat reads PID (NAME) STATE PARENT …; the name may hold anything.
func parseStat(text string) (c child, parent int, ok bool) {
	open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return c, 0, false
	}
	rest := strings.Fields(text[end+1:])
	if len(rest) < 2 {
		return c, 0, false
	}
	c.name, c.state = text[open+1:end], rest[0]
	var err1, err2 error
	c.pid, err1 = strconv.Atoi(strings.TrimSpace(text[:open]))
	parent, err2 = strconv.Atoi(rest[1])
	return c, parent, err1 == nil && err2 == nil
}
