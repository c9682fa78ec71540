// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// The two ways to run the guest.
const (
	accelKVM = "kvm"
	accelTCG = "tcg" // software emulation
)

// kvmProbeLimit is ten times what a working KVM needs.
const kvmProbeLimit = 15 * time.Second

// Accelerator is "kvm" where a guest kernel really boots under it, else "tcg".
// A /dev/kvm that can be opened proves nothing: QEMU may abort on it, or the
// kernel hang. The answer is kept in cache until the host boots again. force, of
// the same two words, is taken at its word.
func Accelerator(ctx context.Context, cache string, image *Image, force string) (string, error) {
	switch force {
	case accelKVM, accelTCG:
		return force, nil
	case "":
	default:
		return "", fmt.Errorf("choose accelerator: %q is neither kvm nor tcg", force)
	}
	kvm, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return accelTCG, nil
	}
	_ = kvm.Close()
	memo := filepath.Join(cache, "kvm-"+image.Key)
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("choose accelerator: %w", err)
	}
	if known := recall(memo, string(boot)); known != "" {
		return known, nil
	}
	accel := accelTCG
	if kvmBoots(ctx, image.Kernel()) {
		accel = accelKVM
	}
	if ctx.Err() != nil {
		return "", fmt.Errorf("choose accelerator: %w", ctx.Err())
	}
	_ = os.WriteFile(memo, []byte(accel+" "+string(boot)), 0o644) // or it is probed again
	return accel, nil
}

// recall is what was found in this boot of the host, or "".
func recall(memo, boot string) string {
	text, err := os.ReadFile(memo)
	if err != nil {
		return ""
	}
	accel, when, _ := strings.Cut(string(text), " ")
	if when != boot || accel != accelKVM && accel != accelTCG {
		return ""
	}
	return accel
}

// kvmBoots runs the guest's kernel until it finds that it has no root file
// system, and panics: it has then booted.
func kvmBoots(ctx context.Context, kernel string) bool {
	ctx, cancel := context.WithTimeout(ctx, kvmProbeLimit)
	defer cancel()
	args := append([]string{"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"}, cpuArgs(accelKVM)...)
	args = append(args, "-smp", "2", "-m", "512", "-kernel", kernel, "-append", "console=ttyS0 panic=-1", "-serial", "stdio")
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return false
	}
	return err == nil && strings.Contains(string(out), "Unable to mount root fs")
}
