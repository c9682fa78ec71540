// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/volseal/volseal/internal/volume"
)

const otherARN = "arn:aws:kms:us-east-1:222222222222:key/bbbbbbbb-bbbb-cccc-dddd-eeeeeeeeeeee"

// counted has cryptsetup noted in a file each time that it is started.
func counted(t testing.TB, l *LUKS) (started func() []string) {
	t.Helper()
	needCryptsetup(t)
	dir := t.TempDir()
	log := filepath.Join(dir, "started")
	script := "#!/bin/sh\necho \"$*\" >>" + log + "\nexec /usr/sbin/cryptsetup \"$@\"\n"
	if err := os.WriteFile(filepath.Join(dir, "cryptsetup"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	l.tools.path = dir
	return func() []string {
		noted, err := os.ReadFile(log)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		os.Remove(log)
		return strings.Split(strings.TrimSuffix(string(noted), "\n"), "\n")
	}
}

// BenchmarkRewrap is a volume that moves to another CMK and back, and so on, as the
// worker does it under the mount: from the order to the exam that the new header
// has passed. KMS answers at once. Beside it cryptsetup alone changes the key of a
// keyslot, which is one process and proves nothing, and tries one.
func BenchmarkRewrap(b *testing.B) {
	dir, kms := b.TempDir(), newRememberingKMS()
	f := &onFile{LUKS: newLUKS(b), dev: blankDisk(b)}
	started := counted(b, f.LUKS)
	r, stop := f.agent(b, dir, kms)
	defer stop()
	order(b, r, volume.VerbInit)
	awaitStatus(b, r, "mounted", safe)
	image, old, fresh := bareImage(b)
	started()
	var turns stopwatch
	target, processes := otherARN, 0
	for b.Loop() {
		turns.begin()
		if _, err := r.Rotate(b.Context(), "orders", volume.RotateOrder{KeyARN: target}); err != nil {
			b.Fatal(err)
		}
		awaitStatus(b, r, "moved", func(s volume.Status) bool { return s.KeyARN == target && s.Rotation == nil && safe(s) })
		turns.end("rewrap-ms")
		processes = len(started())
		target = map[string]string{otherARN: testARN, testARN: otherARN}[target]
		turns.begin()
		cryptsetup(b, "open", "--test-passphrase", "--key-file", old, image)
		turns.end("bare-try-ms")
		turns.begin()
		cryptsetup(b, "luksChangeKey", "--batch-mode", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file", old, image, fresh)
		turns.end("bare-change-ms")
		old, fresh = fresh, old
	}
	turns.report(b)
	b.ReportMetric(float64(processes), "processes")
}

// TestProcesses names every process that init, an opening and a re-wrap start, with
// the exam and the backup that follow each. One costs 20 ms, or half a second on an
// emulated machine, of a boot at which all volumes of a host wait for each other.
func TestProcesses(t *testing.T) {
	f := &onFile{LUKS: newLUKS(t), dev: blankDisk(t)}
	started := counted(t, f.LUKS)
	dir := t.TempDir()
	kms := newRememberingKMS()
	r, stop := f.agent(t, dir, kms)
	defer func() { stop() }()
	want := func(what string, verbs ...string) {
		t.Helper()
		awaitStatus(t, r, what, func(s volume.Status) bool { return safe(s) && s.Rotation == nil })
		if _, err := r.BackUpHeader(t.Context(), "orders"); err != nil { // once the worker has done its own
			t.Fatal(detail(err))
		}
		got := started()
		for i, line := range got {
			got[i], _, _ = strings.Cut(strings.TrimPrefix(line, "token "), " ")
		}
		slices.Sort(got) // some run side by side
		if !slices.Equal(got, verbs) {
			t.Errorf("%s started %v, want %v", what, got, verbs)
		}
	}
	order(t, r, volume.VerbInit)
	want("init", "import", "luksDump", "luksFormat", "open", "open") // the image, and the device
	if _, err := r.Rotate(t.Context(), "orders", volume.RotateOrder{KeyARN: otherARN}); err != nil {
		t.Fatal(err)
	}
	want("a re-wrap", "import", "luksDump", "luksDump", "open", "open", "remove")
	order(t, r, volume.VerbLock)
	awaitStatus(t, r, "sealed", func(s volume.Status) bool { return s.Phase == volume.Sealed && s.Satisfied() })
	stop() // a new agent remembers nothing
	f.views = views{}
	r, stop = f.agent(t, dir, kms)
	order(t, r, volume.VerbUnlock)
	want("an opening", "luksDump", "open")
}

func safe(s volume.Status) bool { return isMounted(s) && s.WouldSurviveReboot }

// bareImage is the header that all these tests share, in a file of its own, with
// the key that opens it and another.
func bareImage(b *testing.B) (image, old, fresh string) {
	b.Helper()
	image = builtDisk(b).Path
	keys := []string{filepath.Join(b.TempDir(), "old"), filepath.Join(b.TempDir(), "new")}
	for i, path := range keys {
		if err := os.WriteFile(path, bytes.Repeat([]byte{byte(i + 1)}, secretBytes), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	return image, keys[0], keys[1]
}
