// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestLab runs the real thing, after `make build` and where VOLSEAL_LAB_VM is
// set: it takes two minutes. It protects what `lab` promises to who writes
// scenarios: the order of scripts, their output, their exit status, the reboot
// between two of them, and a machine that stays for as long as it is wished.
func TestLab(t *testing.T) {
	if os.Getenv("VOLSEAL_LAB_VM") == "" {
		t.Skip("boots a virtual machine: set VOLSEAL_LAB_VM=1")
	}
	bin, err := filepath.Abs("../../../../bin/lab")
	if err != nil {
		t.Fatal(err)
	}
	tmp := t.TempDir()
	lab := func(want int, args ...string) (stdout, stderr string) {
		t.Helper()
		var out, errs strings.Builder
		cmd := exec.Command(bin, args...)
		cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+tmp, "TMPDIR="+tmp)
		cmd.Stdout, cmd.Stderr = &out, &errs
		err := cmd.Run()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Fatalf("lab %q: exit status %d, want %d\n%s%s", args, got, want, &out, &errs)
		}
		return out.String(), errs.String()
	}
	script := func(name, text string) string {
		path := filepath.Join(tmp, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}

	stdout, stderr := lab(7, "run", "--no-package",
		script("1.sh", "key=$(labctl key create)\nvol=$(labctl volume create --size 1 --key $key)\nlabctl volume attach $vol >/dev/null\n"+
			"echo one >/root/one; echo $vol >/root/vol\nlabctl host reboot\necho not reached\n"),
		script("2.sh", "cat /root/one; until grep -q $(tr -d - </root/vol) /sys/block/nvme*/device/serial; do sleep 0.1; done\nlabctl host power-cut\n"),
		script("3.sh", "echo three; exit 7\n"),
		script("4.sh", "echo not reached\n"))
	if stdout != "one\nthree\n" || !strings.Contains(stderr, "--- kernel log") {
		t.Errorf("stdout %q, stderr %s", stdout, stderr)
	}

	lab(0, "run", "--keep", "--no-package", script("5.sh", "echo kept >/root/kept; sync\n"))
	if stdout, _ := lab(3, "sh", "cat /root/kept; exit 3"); stdout != "kept\n" {
		t.Errorf("stdout %q", stdout)
	}
	lab(exitUsage, "run", "--keep", "--no-package")
	lab(0, "sh", "labctl", "host", "power-cut")
	if stdout, _ := lab(0, "sh", "cat", "/root/kept"); stdout != "kept\n" {
		t.Errorf("stdout %q", stdout)
	}
	lab(0, "down")
	lab(exitFailed, "sh", "true")

	left, err := filepath.Glob(filepath.Join(tmp, "volseal-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}
