// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

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
func BenchmarkUnlock(b *testing.B) {
	l := New(Options{Dir: filepath.Join(b.TempDir(), "headers")})
	dev, key := sealedDevice(b, l), secretOf(b, 1)
	for b.Loop() {
		h, err := l.Freeze(b.Context(), dev, "orders")
		if err == nil {
			err = l.Open(b.Context(), dev, h, 0, pending, key)
		}
		if err == nil {
			err = l.Publish(b.Context(), pending, final)
		}
		b.StopTimer()
		if err != nil {
			b.Fatal(detail(err))
		}
		l.Discard(h)
		if err := l.Close(b.Context(), final); err != nil {
			b.Fatal(detail(err))
		}
		b.StartTimer()
	}
}

// BenchmarkOpenBare is cryptsetup alone on the same header, with nothing checked.
func BenchmarkOpenBare(b *testing.B) {
	l := New(Options{Dir: filepath.Join(b.TempDir(), "headers")})
	dev, key := sealedDevice(b, l), filepath.Join(b.TempDir(), "key")
	if err := os.WriteFile(key, secretOf(b, 1).Bytes(), 0o600); err != nil {
		b.Fatal(err)
	}
	benchOpen(b, dev, key)
}

// BenchmarkOpenDefaults is cryptsetup with its defaults, argon2id above all.
func BenchmarkOpenDefaults(b *testing.B) {
	dev, key := benchDevice(b, "VOLSEAL_BENCH_DEFAULTS"), filepath.Join(b.TempDir(), "key")
	if err := os.WriteFile(key, []byte("a passphrase that somebody chose"), 0o600); err != nil {
		b.Fatal(err)
	}
	cryptsetup(b, "luksFormat", "--batch-mode", "--key-file", key, dev.Path)
	benchOpen(b, dev, key)
}

func benchOpen(b *testing.B, dev volume.Device, key string) {
	b.Helper()
	for b.Loop() {
		cryptsetup(b, "open", "--key-file", key, dev.Path, "volseal-bench")
		b.StopTimer()
		cryptsetup(b, "close", "volseal-bench")
		b.StartTimer()
	}
}

func cryptsetup(b *testing.B, args ...string) {
	b.Helper()
	if out, err := exec.CommandContext(b.Context(), "/usr/sbin/cryptsetup", args...).CombinedOutput(); err != nil {
		b.Fatalf("cryptsetup %s: %v %s", args[0], err, out)
	}
}
