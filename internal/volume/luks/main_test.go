// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
	"github.com/volseal/volseal/test/lab/luksedit"
)

const (
	testUUID  = "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d"
	testARN   = "arn:aws:kms:us-east-1:111111111111:key/aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
	testBytes = 64 << 20
)

// needCryptsetup: these tests run the real one, on plain files.
func needCryptsetup(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("/usr/sbin/cryptsetup"); err != nil {
		t.Skip("cryptsetup is not installed")
	}
}

// secretOf makes a secret of 32 equal bytes.
func secretOf(t testing.TB, b byte) *envelope.Secret {
	t.Helper()
	s, err := envelope.SecretFrom(bytes.Repeat([]byte{b}, secretBytes))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Destroy)
	return s
}

// blankDisk is a sparse file that stands for a device: it has the number 0:0.
func blankDisk(t testing.TB) volume.Device {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, testBytes); err != nil {
		t.Fatal(err)
	}
	return volume.Device{Path: path, Bytes: testBytes}
}

// newLUKS uses the real tools. Tests of it may run in parallel; those that write
// scripts may not: a fork elsewhere holds the script open for writing, and the
// kernel then refuses to execute it.
func newLUKS(t testing.TB) *LUKS {
	t.Helper()
	return New(Options{Dir: filepath.Join(t.TempDir(), "headers")})
}

// sealer seals as the reconciler does.
func sealer(mac *envelope.Secret, generation int) func(int, []byte) (envelope.Token, error) {
	return func(keyslot int, meaning []byte) (envelope.Token, error) {
		ec, err := envelope.NewContext("db-7f3a", map[string]string{"customer": "acme"})
		if err != nil {
			return envelope.Token{}, err
		}
		token := envelope.Token{
			Keyslots: []string{string(rune('0' + keyslot))}, Version: 1, Generation: generation,
			KeyARN: testARN, EncryptionContext: ec,
			WrappedKey: bytes.Repeat([]byte{7}, 184), Salt: make([]byte, 32),
		}
		rand.Read(token.Salt)
		return token, token.Seal(mac, meaning)
	}
}

// builtImage builds a header once for all tests: passphrase 1, MAC key 2.
var builtImage = sync.OnceValues(func() (string, error) {
	secrets := make([]*envelope.Secret, 2)
	for i := range secrets {
		var err error
		if secrets[i], err = envelope.SecretFrom(bytes.Repeat([]byte{byte(i + 1)}, secretBytes)); err != nil {
			return "", err
		}
		defer secrets[i].Destroy()
	}
	image := filepath.Join(sharedDir, "images", "orders")
	dev := volume.Device{Path: "/dev/null", Bytes: testBytes} // never opened
	return image, New(Options{}).BuildHeader(context.Background(), image, testUUID, dev, secrets[0], sealer(secrets[1], 1))
})

// sharedDir lasts as long as all tests.
var sharedDir string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "luks-test-*")
	if err != nil {
		panic(err)
	}
	sharedDir = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// builtHeader is the sound header's first 32 KiB, for a test to change.
func builtHeader(t testing.TB) luksedit.Header {
	t.Helper()
	needCryptsetup(t)
	image, err := builtImage()
	if err != nil {
		t.Fatalf("build: %v", detail(err))
	}
	h, err := luksedit.Load(image)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// builtDisk is a device with the sound header.
func builtDisk(t testing.TB) volume.Device {
	t.Helper()
	builtHeader(t)
	image, _ := builtImage()
	dev := blankDisk(t)
	raw, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(dev.Path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(raw, 0); err != nil {
		t.Fatal(err)
	}
	return dev
}

func frozen(t testing.TB, l *LUKS, dev volume.Device) *volume.Header {
	t.Helper()
	h, err := l.Freeze(t.Context(), dev, "orders")
	if err != nil {
		t.Fatalf("freeze: %v", detail(err))
	}
	t.Cleanup(func() { l.Discard(h) })
	return h
}

// detail shows what a fault hides from people.
func detail(err error) error {
	var f *fault.Error
	if errors.As(err, &f) && f.Err != nil {
		return errors.Join(err, f.Err)
	}
	return err
}

func wantReason(t testing.TB, err error, class fault.Class, reason string) {
	t.Helper()
	if fault.ClassOf(err) != class || fault.ReasonOf(err) != reason {
		t.Errorf("got class %q, reason %q (%v); want %q, %q", fault.ClassOf(err), fault.ReasonOf(err), detail(err), class, reason)
	}
}

func sumOf(t testing.TB, path string) [32]byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return [32]byte(h.Sum(nil))
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
