// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/volseal/volseal/test/lab/guest"
)

// TestMachine boots a real machine, which takes a minute; it runs where
// VOLSEAL_LAB_VM is set. It protects what every scenario stands on: disks come
// and go by serial number, survive a reboot and a power cut with what was
// written to them, the emulated AWS is reached and nothing else, and nothing of
// QEMU is left.
func TestMachine(t *testing.T) {
	if os.Getenv("VOLSEAL_LAB_VM") == "" {
		t.Skip("boots a virtual machine: set VOLSEAL_LAB_VM=1")
	}
	m := bootTestMachine(t)
	ctx := t.Context()
	run := func(script string) string {
		t.Helper()
		var out bytes.Buffer
		result, err := m.Exec(ctx, guest.Command{Argv: []string{"bash", "-ec", script}, Timeout: 2 * time.Minute}, &out, &out)
		if err != nil || result.Code != 0 || result.Down {
			t.Fatalf("%s\n%+v, %v\n%s", script, result, err, &out)
		}
		return strings.TrimSpace(out.String())
	}
	timed := func(what string, do func()) {
		t.Helper()
		start := time.Now()
		do()
		t.Logf("%s: %s", what, time.Since(start).Round(time.Millisecond))
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	t.Log(run("systemd-analyze time; systemctl --failed --no-legend; uname -r"))
	for _, address := range []string{addrIMDS, addrKMS, addrEC2, addrControl} {
		if got := run("curl -sS --max-time 10 http://" + address + "/hello"); got != "/hello" {
			t.Errorf("%s answers %q", address, got)
		}
	}
	timed("200 requests, 50 at once", func() {
		run("curl -sSf --parallel --parallel-max 50 -o '/tmp/#1' 'http://" + addrKMS + "/[1-200]'; [ $(ls /tmp | wc -l) -ge 200 ]")
	})
	if got := run("curl -sS --max-time 3 http://169.254.169.2/ 2>&1 || echo refused"); !strings.HasSuffix(got, "refused") {
		t.Errorf("the host's address answers: %q", got)
	}

	volumes := make([]string, 16)
	for i := range volumes {
		volumes[i] = fmt.Sprintf("vol-0123456789abcde%02x", i)
		check(os.WriteFile(imageOf(m, volumes[i]), nil, 0o600))
		check(os.Truncate(imageOf(m, volumes[i]), 1<<30))
	}
	await := func(id string) {
		serial, err := serialOf(id)
		check(err)
		run("until cat /sys/block/nvme*/device/serial | grep -q " + serial + "; do sleep 0.02; done; udevadm settle")
	}
	timed("plug one, until settled", func() {
		check(m.Plug(ctx, volumes[0], imageOf(m, volumes[0])))
		await(volumes[0])
	})
	timed("plug 15 more, until settled", func() {
		var wg sync.WaitGroup
		for _, id := range volumes[1:] {
			wg.Go(func() {
				if err := m.Plug(ctx, id, imageOf(m, id)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for _, id := range volumes[1:] {
			await(id)
		}
	})
	check(m.Plug(ctx, volumes[0], imageOf(m, volumes[0])))
	if err := m.Plug(ctx, "vol-ffffffffffffffff0", imageOf(m, volumes[0])); err == nil {
		t.Error("there was a slot for a volume too many")
	}
	timed("unplug one", func() { check(m.Unplug(ctx, volumes[15])) })
	timed("unplug 7 more", func() {
		for _, id := range volumes[8:15] {
			check(m.Unplug(ctx, id))
		}
	})
	check(m.Unplug(ctx, volumes[15]))

	device := func(id string) string {
		serial, err := serialOf(id)
		check(err)
		return "/dev/disk/by-id/nvme-QEMU_NVMe_Ctrl_" + serial
	}
	used := func(id string, want bool) {
		t.Helper()
		if got, err := m.InUse(ctx, id); err != nil || got != want {
			t.Errorf("%s in use: %v, %v; want %v", id, got, err, want)
		}
	}
	run("mkfs.ext4 -q " + device(volumes[0]) + " && mount " + device(volumes[0]) + " /mnt && echo kept >/mnt/file && sync")
	run("modprobe dm-crypt; head -c 32 /dev/zero | cryptsetup open --type plain --cipher aes-xts-plain64 --key-size 256 --key-file - " + device(volumes[1]) + " secret")
	timed("in use", func() { used(volumes[0], true) })
	used(volumes[1], true)
	used(volumes[2], false)
	used("vol-ffffffffffffffff0", false)

	first := run("cat /proc/sys/kernel/random/boot_id")
	started, print := io.Pipe()
	asked := make(chan guest.Result, 1)
	go func() {
		result, _ := m.Exec(ctx, guest.Command{Argv: []string{"sh", "-c", "echo started; sleep 600"}, Timeout: time.Hour}, print, nil)
		asked <- result
	}()
	_, err := started.Read(make([]byte, 64))
	check(err)
	timed("reboot, until up", func() {
		check(m.Reboot(ctx))
		if result := <-asked; !result.Down {
			t.Errorf("a command that the reboot ended: %+v", result)
		}
		if second := run("cat /proc/sys/kernel/random/boot_id"); second == first {
			t.Error("it is the same boot")
		}
	})
	for _, id := range volumes[:8] {
		await(id)
	}
	if got := run("mount " + device(volumes[0]) + " /mnt && cat /mnt/file"); got != "kept" {
		t.Errorf("after the reboot the file holds %q", got)
	}
	run("echo cut >/mnt/file; sync; echo lost >/mnt/unsynced")
	timed("power cut, until up", func() {
		check(m.PowerCut(ctx))
		run("true")
	})
	if got := run("mount " + device(volumes[0]) + " /mnt && cat /mnt/file"); got != "cut" {
		t.Errorf("after the power cut the file holds %q", got)
	}
	check(m.Pause(ctx))
	check(m.Resume(ctx))
	timed("unplug in use", func() { check(m.Unplug(ctx, volumes[0])) })
}

func imageOf(m *Machine, id string) string { return filepath.Join(m.opts.Dir, id) }

func bootTestMachine(t *testing.T) *Machine {
	t.Helper()
	dir := t.TempDir()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	agent := filepath.Join(dir, "labguest")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", agent, "../cmd/labguest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build guest agent: %v\n%s", err, out)
	}
	cache, err := CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	image, err := OpenImage(t.Context(), CloudKernel, cache, dir, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = image.Close() })
	accel, err := Accelerator(t.Context(), cache, image, "")
	if err != nil {
		t.Fatal(err)
	}
	payload, err := Payload(t.Context(), dir, map[string]string{"labguest": agent})
	if err != nil {
		t.Fatal(err)
	}
	m, err := New(Options{Dir: dir, Image: image, Payload: payload, Accel: accel, CPUs: CPUs, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("console:\n%s", m.Console(60))
		}
	})
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.URL.Path) }))
	t.Cleanup(echo.Close)
	address := echo.Listener.Addr().String()
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	start := time.Now()
	if err := m.Start(ctx, Network{IMDS: address, KMS: address, EC2: address, Control: address}); err != nil {
		t.Fatal(err)
	}
	t.Logf("start, until up: %s (%s)", time.Since(start).Round(time.Millisecond), accel)
	return m
}
