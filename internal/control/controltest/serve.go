// SPDX-License-Identifier: Apache-2.0

package controltest

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"

	"github.com/volseal/volseal/internal/control"
)

// Serve answers on a socket of its own until the test ends, and returns the
// socket's path. A server that fails, or does not stop, fails the test.
func Serve(t testing.TB, o control.Options) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	ServeAt(t, socket, o)
	return socket
}

// ServeAt is Serve at a path of the caller's. The function it returns stops the
// server and waits for its end; it need not be called.
func ServeAt(t testing.TB, socket string, o control.Options) (stop func()) {
	t.Helper()
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- control.NewServer(o).Serve(ctx, ln) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("server: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}
