// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// served is a socket with a server whose clients all may read. edit shortens its times.
func served(t *testing.T, edit func(*http.Server)) string {
	t.Helper()
	s := NewServer(Options{Agent: quiet{never: make(chan struct{})}, Permit: func(Peer) Permission { return Read }, Log: slog.New(slog.DiscardHandler)})
	socket := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	h := s.httpServer()
	edit(h)
	ended := make(chan error, 1)
	go func() { ended <- h.Serve(newLimiter(ln, s.identify)) }()
	t.Cleanup(func() {
		h.Close()
		<-ended
	})
	return socket
}

// speak sends bytes and returns all that comes back until the server closes.
func speak(t *testing.T, socket, bytes string) string {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, bytes) // the server may have enough before the end
	said, err := io.ReadAll(c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%.60q: the connection is still open; it said %q", bytes, said)
	}
	return string(said)
}

// TestRawBytes protects the agent from what is not HTTP, or is too much of it:
// each is answered with an error or cut off, and the next client is served.
func TestRawBytes(t *testing.T) {
	socket := served(t, func(h *http.Server) {
		h.ReadHeaderTimeout, h.ReadTimeout, h.IdleTimeout = 300*time.Millisecond, 300*time.Millisecond, 300*time.Millisecond
	})
	const get = "GET /v1/volumes HTTP/1.1\r\nHost: volseal\r\n"
	for _, tt := range []struct{ name, bytes, want string }{
		{"sound", get + "Connection: close\r\n\r\n", "HTTP/1.1 200"},
		{"nothing", "", ""},
		{"one line, and silence", "GET / HTTP/1.1\r\n", ""},
		{"a header without end", get + "X: ", ""},
		{"not HTTP", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "HTTP/1.1 400"},
		{"zeros", strings.Repeat("\x00", 1<<10) + "\r\n\r\n", "HTTP/1.1 400"},
		{"no host", "GET /v1/healthz HTTP/1.1\r\n\r\n", "HTTP/1.1 400"},
		{"two hosts", get + "Host: other\r\n\r\n", "HTTP/1.1 400"},
		{"a header with a blank in its name", get + "A B: c\r\n\r\n", "HTTP/1.1 400"},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.1 4"},
		{"HTTP/9", "GET / HTTP/9.9\r\n\r\n", "HTTP/1.1 505"},
		{"another's address", "GET http://evil.example/v1/healthz HTTP/1.1\r\nHost: volseal\r\nConnection: close\r\n\r\n", "HTTP/1.1 403"},
		{"CONNECT", "CONNECT volseal HTTP/1.1\r\nHost: volseal\r\nConnection: close\r\n\r\n", "HTTP/1.1 4"},
		{"headers of 64 KiB", get + "X: " + strings.Repeat("a", 64<<10) + "\r\n\r\n", "HTTP/1.1 431"},
		{"a path of 64 KiB", "GET /" + strings.Repeat("a", 64<<10) + " HTTP/1.1\r\n\r\n", "HTTP/1.1 431"},
		{"two lengths", get + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n", "HTTP/1.1 400"},
		{"a length below zero", get + "Content-Length: -1\r\n\r\n", "HTTP/1.1 400"},
		{"an odd encoding", get + "Transfer-Encoding: gzip\r\n\r\n", "HTTP/1.1 501"},
		{"a reader's body that never comes", get + "Content-Length: 10\r\n\r\n", "HTTP/1.1 400"},
		{"a reader's endless body", get + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "HTTP/1.1 400"},
		{"a verb's body that never comes, denied", "POST /v1/reload HTTP/1.1\r\nHost: volseal\r\nContent-Length: 10\r\n\r\n", "HTTP/1.1 403"},
	} {
		if said := speak(t, socket, tt.bytes); !strings.HasPrefix(said, tt.want) || tt.want == "" && said != "" {
			t.Errorf("%s: %.200q, want %q", tt.name, said, tt.want)
		}
	}
}

// TestPipelined protects the order: requests sent at once are answered one after
// the other, each by its own permission.
func TestPipelined(t *testing.T) {
	socket := served(t, func(*http.Server) {})
	one := func(method, path, more string) string {
		return method + " " + path + " HTTP/1.1\r\nHost: volseal\r\n" + more + "\r\n"
	}
	said := speak(t, socket, one("GET", "/v1/volumes", "")+one("POST", "/v1/reload", "")+one("GET", "/v1/volumes", "Connection: close\r\n"))
	r := bufio.NewReader(strings.NewReader(said))
	for _, want := range []int{200, 403, 200} {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("status %d, want %d", resp.StatusCode, want)
		}
	}
}

// TestRootIsHeard protects root from others: whatever places they hold, for
// requests and for waiting, root has places of its own.
func TestRootIsHeard(t *testing.T) {
	s := NewServer(Options{Agent: quiet{never: make(chan struct{})}, Permit: func(Peer) Permission { return Read }, Log: slog.New(slog.DiscardHandler)})
	others := caller{peer: Peer{UID: 1000}, may: Operate}
	for s.placesOf(others).requests.TryAcquire(1) {
	}
	for s.placesOf(others).waits.TryAcquire(1) {
	}
	root := caller{may: Destroy}
	for path, want := range map[string]int{"/v1/volumes": 200, "/v1/volumes?wait=1ms&cursor=" + s.cursor(1): 200} {
		if code := answerTo(s, path, root); code != want {
			t.Errorf("root: %s: %d", path, code)
		}
		if code := answerTo(s, path, others); code != http.StatusServiceUnavailable {
			t.Errorf("another: %s: %d", path, code)
		}
	}
}

// TestClientWaitsItsTurn protects an operator while strangers keep the socket's
// queue full: the kernel refuses at once whoever does not wait, so the client waits.
func TestClientWaitsItsTurn(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	fd := listenWithQueueOf(t, socket, 0)
	var held []net.Conn
	for { // until the queue is full
		c, err := net.Dial("unix", socket)
		if err != nil {
			break
		}
		defer c.Close()
		held = append(held, c)
	}
	if len(held) == 0 || len(held) > 2 {
		t.Fatalf("%d connections filled the queue", len(held))
	}
	answered := make(chan error, 1)
	c := NewClient(socket)
	defer c.Close()
	go func() {
		_, err := c.Status(t.Context())
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Fatalf("the client did not wait: %v", err)
	case <-time.After(50 * time.Millisecond): // it waits, or it will in a moment: both are well
	}
	serveOn(t, fd)
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

// TestClientWaitsNotForEver protects an operator's Ctrl-C, and a script's time.
func TestClientWaitsNotForEver(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	listenWithQueueOf(t, socket, 0)
	for {
		c, err := net.Dial("unix", socket)
		if err != nil {
			break
		}
		defer c.Close()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	c := NewClient(socket)
	defer c.Close()
	begin := time.Now()
	if _, err := c.Status(ctx); err == nil || ctx.Err() == nil || time.Since(begin) > 2*time.Second {
		t.Errorf("after %s: %v", time.Since(begin), err)
	}
}

// listenWithQueueOf is a socket that nobody accepts on yet.
func listenWithQueueOf(t *testing.T, socket string, n int) (fd int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: socket}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, n); err != nil {
		t.Fatal(err)
	}
	return fd
}

// serveOn has a server of a quiet agent accept on a listening socket.
func serveOn(t *testing.T, fd int) {
	t.Helper()
	dup, err := unix.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(dup), "listener")
	defer f.Close()
	ln, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(Options{Agent: quiet{never: make(chan struct{})}, Permit: func(Peer) Permission { return Read }, Log: slog.New(slog.DiscardHandler)})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		stop()
		<-ended
	})
}
