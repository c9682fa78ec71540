// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestWatch protects the reaction to a mount that somebody else makes or
// unmakes: each change of the table wakes, and the end of the context ends it.
func TestWatch(t *testing.T) {
	// A mount namespace of this thread's own; the thread is thrown away after.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		runtime.UnlockOSThread()
		t.Skipf("no mount namespace to be had: %v", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		t.Skipf("the mount namespace cannot be made private: %v", err)
	}
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	woken, ended := make(chan struct{}, 10), make(chan error, 1)
	mine := fmt.Sprintf("/proc/self/task/%d/mountinfo", unix.Gettid())
	go func() { ended <- watch(ctx, mine, func() { woken <- struct{}{} }) }()

	// The first mount may come before the watch does; repeated, one must be seen.
	for seen := false; !seen; {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			t.Skipf("nothing can be mounted here: %v", err)
		}
		if err := unix.Unmount(dir, 0); err != nil {
			t.Fatal(err)
		}
		select {
		case <-woken:
			seen = true
		case err := <-ended:
			t.Fatalf("watch ended: %v", err)
		default:
			runtime.Gosched()
		}
	}
	// From now on it is there, and each change counts: nobody else may take the
	// kernel's one word for it, as the Go runtime does for a file of its own.
	for i := range 50 {
		for len(woken) > 0 {
			<-woken
		}
		change := func() error { return unix.Mount("tmpfs", dir, "tmpfs", 0, "") }
		if i%2 == 1 {
			change = func() error { return unix.Unmount(dir, 0) }
		}
		if err := change(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-woken:
		case <-time.After(10 * time.Second):
			t.Fatalf("change %d woke nobody", i)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("watch: %v", err)
	}
}

// TestWatchMissing protects the agent from believing that it watches.
func TestWatchMissing(t *testing.T) {
	if err := watch(t.Context(), "/nowhere", func() {}); err == nil {
		t.Error("no error")
	}
}
