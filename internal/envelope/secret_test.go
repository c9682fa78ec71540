// SPDX-License-Identifier: Apache-2.0

package envelope

import (
	"bytes"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/volseal/volseal/internal/fault"
	"golang.org/x/sys/unix"
)

const loudKey = "0123456789abcdefSECRETSECRETSECR"

// No way of printing shows the bytes, by pointer, by value or inside a struct.
func TestSecretNeverPrints(t *testing.T) {
	s := secretOf(t, []byte(loudKey))
	type wrapper struct {
		Name string
		Key  *Secret
		key  *Secret
	}
	w := wrapper{"x", s, s}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%p", "%T", "%b", "%c", "%U", "%08.3s"} {
		fmt.Fprintf(&out, verb+" "+verb+" "+verb+"\n", s, w, &w)
	}
	fmt.Fprintln(&out, s, s.String(), s.GoString(), fmt.Errorf("key %v", s))
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("m", "key", s, "w", w, slog.Group("g", "key", s))
	}
	for _, form := range []string{loudKey, hex.EncodeToString([]byte(loudKey)), strings.ToUpper(hex.EncodeToString([]byte(loudKey))), "SECRET", "53 45 43", "[48 49 50", "4 5 6"} {
		if strings.Contains(out.String(), form) {
			t.Fatalf("%q shows in:\n%s", form, out.String())
		}
	}
	if !strings.Contains(out.String(), "key=[secret]") {
		t.Fatal(out.String())
	}
}

// Writing a key somewhere is refused, not done quietly.
func TestSecretRefusesEncoding(t *testing.T) {
	s := secretOf(t, []byte(loudKey))
	if _, err := json.Marshal(s); err == nil {
		t.Error("JSON")
	}
	if _, err := json.Marshal(map[string]any{"k": s}); err == nil {
		t.Error("JSON within")
	}
	if err := gob.NewEncoder(io.Discard).Encode(s); err == nil {
		t.Error("gob")
	}
	if _, err := s.MarshalText(); err == nil {
		t.Error("text")
	}
	if _, err := s.MarshalBinary(); err == nil {
		t.Error("binary")
	}
}

// The source is wiped whether or not the move succeeds.
func TestSecretFromWipesItsSource(t *testing.T) {
	for _, n := range []int{1, 32, maxSecret, maxSecret + 1} {
		b := bytes.Repeat([]byte{7}, n)
		s, err := SecretFrom(b)
		if (err == nil) != (n <= maxSecret) {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if !bytes.Equal(b, make([]byte, n)) {
			t.Fatalf("%d bytes: the source is intact", n)
		}
		if err == nil && !bytes.Equal(s.Bytes(), bytes.Repeat([]byte{7}, n)) {
			t.Fatal("the secret is not the source")
		}
		s.Destroy()
	}
}

// Destroy is idempotent, nil-safe, seen by every copy, and ends equality.
func TestSecretDestroy(t *testing.T) {
	s := secretOf(t, []byte(loudKey))
	o := secretOf(t, []byte(loudKey))
	if !s.Equal(o) || !s.Equal(s) {
		t.Fatal("equal secrets differ")
	}
	same := &Secret{mem: s.mem}
	s.Destroy()
	s.Destroy()
	if s.Bytes() != nil || same.Bytes() != nil {
		t.Fatal("bytes after Destroy")
	}
	same.Destroy()
	if s.Equal(o) || o.Equal(s) || s.Equal(s) || s.Equal(nil) || (*Secret)(nil).Equal(nil) {
		t.Fatal("a destroyed secret equals something")
	}
	(*Secret)(nil).Destroy()
	if _, err := s.Clone(); err == nil {
		t.Fatal("a destroyed secret was cloned")
	}
}

// The fallback wipes before it unmaps, and both kinds are locked and undumpable.
func TestMemoryIsHardened(t *testing.T) {
	for name, mapIt := range map[string]func(int) (memory, error){
		"memfd_secret": func(n int) (memory, error) { at, err := mapSecretFile(n); return memory{at: at, n: n, size: n}, err },
		"anonymous":    func(n int) (memory, error) { at, err := mapLocked(n); return memory{at: at, n: n, size: n}, err },
	} {
		t.Run(name, func(t *testing.T) {
			m, err := mapIt(unix.Getpagesize())
			if err != nil {
				t.Skipf("this kernel has none: %v", err)
			}
			defer m.release()
			flags := vmFlags(t, fmt.Sprintf("%x-", uintptr(m.at)))
			for _, want := range []string{"lo", "dd"} { // locked, not dumped: proc_pid_smaps(5)
				if !strings.Contains(flags, " "+want) {
					t.Errorf("%s lacks %s", flags, want)
				}
			}
			if !strings.Contains(flags, " wf") && !strings.Contains(flags, " dc") {
				t.Errorf("%s: a forked child would see it", flags)
			}
		})
	}
}

// vmFlags returns the VmFlags line of the mapping whose line begins with at.
func vmFlags(t *testing.T, at string) string {
	t.Helper()
	raw, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut("\n"+string(raw), "\n"+at)
	if !found {
		t.Fatalf("no mapping at %s", at)
	}
	_, rest, _ = strings.Cut(rest, "VmFlags:")
	flags, _, _ := strings.Cut(rest, "\n")
	return flags
}

// memfd_secret, where the kernel has it, keeps the key even from whoever may read
// all of this process's memory through the kernel.
func TestSecretIsNotInProcMem(t *testing.T) {
	s := secretOf(t, []byte(loudKey))
	f, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Skip(err)
	}
	defer f.Close()
	if fd, err := unix.MemfdSecret(0); err != nil {
		t.Skipf("no memfd_secret: %v", err)
	} else {
		unix.Close(fd)
	}
	b := make([]byte, len(loudKey))
	if n, err := f.ReadAt(b, int64(uintptr(s.mem.at))); err == nil {
		t.Fatalf("read %d bytes through /proc/self/mem", n)
	}
}

// Running out of locked memory is told as what it is, with what to change.
func TestMemlockExhausted(t *testing.T) {
	runtime.LockOSThread() // never unlocked: the thread ends here, and its lost capability with it
	dropCapability(t, unix.CAP_IPC_LOCK)
	limitMemlock(t, 0)
	_, err := NewSecret(32)
	wantFault(t, err, fault.Misconfigured, "memlock")
	if !strings.Contains(fault.HintOf(err), "LimitMEMLOCK") {
		t.Fatal(fault.HintOf(err))
	}
}

// dropCapability takes a capability from this thread: with CAP_IPC_LOCK there is
// no limit to run into.
func dropCapability(t *testing.T, capability uint) {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		t.Fatal(err)
	}
	data[capability/32].Effective &^= 1 << (capability % 32)
	if err := unix.Capset(&header, &data[0]); err != nil {
		t.Fatal(err)
	}
}

func limitMemlock(t *testing.T, bytes uint64) {
	t.Helper()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &old); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Setrlimit(unix.RLIMIT_MEMLOCK, &old) })
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: bytes, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
}

// Each secret is one mapping, gone with it.
func TestSecretsLeaveNoMappings(t *testing.T) {
	before := mappings(t)
	var all []*Secret
	for range 100 {
		all = append(all, secretOf(t, []byte(loudKey)))
	}
	if n := mappings(t) - before; n != 100 && n != 0 { // 0: the fallback's neighbours merge
		t.Fatalf("%d mappings for 100 secrets", n)
	}
	for _, s := range all {
		s.Destroy()
	}
	if n := mappings(t) - before; n != 0 {
		t.Fatalf("%d mappings left", n)
	}
}

// mappings counts this process's memfd_secret mappings.
func mappings(t testing.TB) int {
	t.Helper()
	raw, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(raw), "secretmem")
}

func BenchmarkSecret(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		s, err := NewSecret(32)
		if err != nil {
			b.Fatal(err)
		}
		s.Destroy()
	}
}
