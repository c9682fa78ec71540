// SPDX-License-Identifier: Apache-2.0

package device

import (
	"context"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestConcernsBlock(t *testing.T) {
	for event, want := range map[string]bool{
		"add@/devices/pci0000:00/nvme/nvme1/nvme1n1\x00ACTION=add\x00DEVPATH=/x\x00SUBSYSTEM=block\x00SEQNUM=7\x00": true,
		"add@/devices/pci0000:00/nvme/nvme1\x00ACTION=add\x00SUBSYSTEM=nvme\x00":                                    false,
		"add@/x\x00SUBSYSTEM=blocks\x00":    false,
		"add@/x\x00DEVPATH=SUBSYSTEM=block": false,
		"libudev\x00\xfe\xed\xca\xfe":       false,
		"":                                  false,
	} {
		if got := concernsBlock([]byte(event)); got != want {
			t.Errorf("%q: %v, want %v", event, got, want)
		}
	}
}

// pair stands for the kernel's side of the socket: SOCK_SEQPACKET keeps
// messages apart as netlink does.
func pair(t *testing.T) (*socket, int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := &socket{f: os.NewFile(uintptr(fds[0]), "uevent"), buf: make([]byte, maxEvent)}
	t.Cleanup(func() { s.f.Close(); unix.Close(fds[1]) })
	return s, fds[1]
}

// TestForgedEventIsIgnored: what does not come from the kernel must not be able
// to keep the agent busy.
func TestForgedEventIsIgnored(t *testing.T) {
	s, kernel := pair(t)
	if _, err := unix.Write(kernel, []byte("add@/x\x00SUBSYSTEM=block\x00")); err != nil {
		t.Fatal(err)
	}
	if relevant, err := s.await(); relevant || err != nil {
		t.Errorf("relevant %v, %v", relevant, err)
	}
}

// TestWatchWakes on the real socket: writing to a device's uevent attribute has
// the kernel send an event.
func TestWatchWakes(t *testing.T) {
	const trigger = "/sys/block/loop0/uevent"
	if f, err := os.OpenFile(trigger, os.O_WRONLY, 0); err != nil {
		t.Skip("no block device to trigger an event on:", err)
	} else {
		f.Close()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	woken, done := make(chan struct{}, 1), make(chan error, 1)
	go func() {
		done <- Watch(ctx, func() {
			select {
			case woken <- struct{}{}:
			default:
			}
		})
	}()
	// The socket may not be bound yet: ask again until it answers.
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for waiting := true; waiting; {
		if err := os.WriteFile(trigger, []byte("change"), 0); err != nil {
			t.Skip("the kernel does not take a trigger here:", err)
		}
		select {
		case <-woken:
			waiting = false
		case <-again.C:
		case <-ctx.Done():
			t.Fatal("no event wakes")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error("Watch ended with", err)
	}
}

// TestWatchEndsWithItsContext, even when nothing ever happens.
func TestWatchEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Watch(ctx, func() {}) }()
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("still watching")
	}
}

// TestLostEventsWake: after the kernel dropped events nobody knows what they
// were, and the only safe reading is that they mattered.
func TestLostEventsWake(t *testing.T) {
	s, err := listen()
	if err != nil {
		t.Skip("no uevent socket here:", err)
	}
	defer s.f.Close()
	raw, err := s.f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var setErr error
	if err := raw.Control(func(fd uintptr) { setErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1) }); err != nil || setErr != nil {
		t.Fatal(err, setErr)
	}
	// More than the smallest buffer holds, of a device that is no block device:
	// only the loss itself can make them matter.
	for range 200 {
		if err := os.WriteFile("/sys/class/mem/null/uevent", []byte("change"), 0); err != nil {
			t.Skip("the kernel does not take a trigger here:", err)
		}
	}
	if relevant, err := s.await(); !relevant || err != nil {
		t.Errorf("relevant %v, %v", relevant, err)
	}
}
