// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/volume"
)

// The benchmarks below need a kernel with device-mapper and two block devices
// that they may overwrite: test/lab/bench runs them in the lab's machine.

// benchDevice is the device that an environment variable names.
func benchDevice(b *testing.B, variable string) volume.Device {
	b.Helper()
	path := os.Getenv(variable)
	if path == "" {
		b.Skip(variable + " names no device to overwrite")
	}
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		b.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		b.Fatal(err)
	}
	return volume.Device{Path: path, Bytes: size, Major: unix.Major(st.Rdev), Minor: unix.Minor(st.Rdev)}
}

// sealedDevice carries the header that all these tests share.
func sealedDevice(b *testing.B, l *LUKS) volume.Device {
	b.Helper()
	dev := benchDevice(b, "VOLSEAL_BENCH_DEVICE")
	builtHeader(b)
	image, _ := builtImage()
	if err := l.WriteHeader(b.Context(), dev, image); err != nil {
		b.Fatal(detail(err))
	}
	return dev
}

// BenchmarkUnlock is everything between KMS's answer and the mount: freeze,
// policy, cryptsetup's view, open, table check, rename. EC2 and KMS are not in it.
// Beside it cryptsetup alone opens the same header, with nothing checked. The two
// take turns and their medians count: a machine that is busy is so for both.
func BenchmarkUnlock(b *testing.B) {
	l := New(Options{Dir: filepath.Join(b.TempDir(), "headers")})
	dev, secret := sealedDevice(b, l), secretOf(b, 1)
	key := filepath.Join(b.TempDir(), "key")
	if err := os.WriteFile(key, secret.Bytes(), 0o600); err != nil {
		b.Fatal(err)
	}
	var turns stopwatch
	for b.Loop() {
		turns.begin()
		cryptsetup(b, "open", "--key-file", key, dev.Path, "volseal-bench")
		turns.end("bare-ms")
		cryptsetup(b, "close", "volseal-bench")
		unlockOnce(b, l, dev, secret, &turns)
	}
	turns.report(b)
}

func unlockOnce(b *testing.B, l *LUKS, dev volume.Device, secret *envelope.Secret, turns *stopwatch) {
	b.Helper()
	turns.begin()
	h, err := l.Freeze(b.Context(), dev, "orders")
	turns.part("freeze-ms")
	if err == nil {
		err = l.Open(b.Context(), dev, h, 0, pending, secret)
		turns.part("open-ms")
	}
	if err == nil {
		err = l.Publish(b.Context(), pending, final)
		turns.part("publish-ms")
	}
	turns.end("unlock-ms")
	if err != nil {
		b.Fatal(detail(err))
	}
	l.Discard(h)
	if err := l.Close(b.Context(), final); err != nil {
		b.Fatal(detail(err))
	}
}

// stopwatch keeps times by name.
type stopwatch struct {
	began, parted time.Time
	taken         map[string][]float64 // milliseconds
}

func (s *stopwatch) begin() { s.began = time.Now(); s.parted = s.began }

func (s *stopwatch) part(name string) {
	now := time.Now()
	s.note(name, now.Sub(s.parted))
	s.parted = now
}

func (s *stopwatch) end(name string) { s.note(name, time.Since(s.began)) }

func (s *stopwatch) note(name string, d time.Duration) {
	if s.taken == nil {
		s.taken = map[string][]float64{}
	}
	s.taken[name] = append(s.taken[name], float64(d.Microseconds())/1000)
}

// report gives the medians.
func (s *stopwatch) report(b *testing.B) {
	for name, taken := range s.taken {
		slices.Sort(taken)
		b.ReportMetric(taken[len(taken)/2], name)
	}
}

// BenchmarkOpenDefaults is cryptsetup with its defaults, argon2id above all.
func BenchmarkOpenDefaults(b *testing.B) {
	dev, key := benchDevice(b, "VOLSEAL_BENCH_DEFAULTS"), filepath.Join(b.TempDir(), "key")
	if err := os.WriteFile(key, []byte("a passphrase that somebody chose"), 0o600); err != nil {
		b.Fatal(err)
	}
	cryptsetup(b, "luksFormat", "--batch-mode", "--key-file", key, dev.Path)
	var turns stopwatch
	for b.Loop() {
		turns.begin()
		cryptsetup(b, "open", "--key-file", key, dev.Path, "volseal-bench")
		turns.end("defaults-ms")
		cryptsetup(b, "close", "volseal-bench")
	}
	turns.report(b)
}

func cryptsetup(b *testing.B, args ...string) {
	b.Helper()
	if out, err := exec.CommandContext(b.Context(), "/usr/sbin/cryptsetup", args...).CombinedOutput(); err != nil {
		b.Fatalf("cryptsetup %s: %v %s", args[0], err, out)
	}
}
