// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// A process that outlives the lab is found, named and killed.
func TestLeftoverProcess(t *testing.T) {
	cmd := exec.Command("sleep", "100.5")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	left := slices.DeleteFunc(children(os.Getpid()), func(c child) bool { return c.pid != cmd.Process.Pid })
	if len(left) != 1 || left[0].name != "sleep" || left[0].command != "sleep 100.5" {
		t.Errorf("children %+v", left)
	}
	if err := killAll(left); err == nil || !strings.Contains(err.Error(), "sleep 100.5") {
		t.Errorf("error %v", err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the child was not killed")
	}
}

// Only forwarders are waited for here: the status of any other process belongs
// to who started it.
func TestReapForwardersLeavesOthersAlone(t *testing.T) {
	cmd := exec.Command("sh", "-c", "exit 7")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = out.Read(make([]byte, 1)) // the end of its output, and soon of itself
	for range 50 {
		reapForwarders()
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 7 {
		t.Errorf("exit %d, %v", cmd.ProcessState.ExitCode(), err)
	}
}

func TestParseStat(t *testing.T) {
	c, parent, ok := parseStat("42 (a) b (c) Z 7 42 42 0 -1")
	if !ok || c.pid != 42 || c.name != "a) b (c" || c.state != "Z" || parent != 7 {
		t.Errorf("%+v, parent %d, %v", c, parent, ok)
	}
	for _, text := range []string{"", "42", "42 (a", "x (a) S 1", "42 (a) S"} {
		if _, _, ok := parseStat(text); ok {
			t.Errorf("%q was understood", text)
		}
	}
}
