// SPDX-License-Identifier: Apache-2.0

package controltest

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"github.com/volseal/volseal/internal/control"
)

// Listen answers on a socket at this path. The function it returns stops the
// server, waits for its end and returns its error; calls after the first do nothing.
func Listen(socket string, o control.Options) (stop func() error, err error) {
	ln, err := net.Listen("unix", socket)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- control.NewServer(o).Serve(ctx, ln) }()
	return sync.OnceValue(func() error {
		cancel()
		return <-ended
	}), nil
}

// Serve answers on a socket of its own until the test ends, and returns the
// socket's path. A server that fails, or does not stop, fails the test.
func Serve(t testing.TB, o control.Options) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	stop, err := Listen(socket, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("server: %v", err)
		}
	})
	return socket
}
