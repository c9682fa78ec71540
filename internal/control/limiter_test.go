// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/volseal/volseal/internal/volume"
)

func admitAll(l *limiter, who caller, n int) (admitted int) {
	for range n {
		if l.admit(who) {
			admitted++
		}
	}
	return admitted
}

// TestLimiter protects the socket from being held shut: nobody without a
// permission, and no one user, can take the places of others, and root always
// gets in.
func TestLimiter(t *testing.T) {
	l := newLimiter(nil, nil)
	nobody := caller{peer: Peer{UID: 1000}}
	if got := admitAll(l, nobody, 100); got != maxConnsOfNobody {
		t.Errorf("nobody holds %d connections", got)
	}
	total := 0
	for uid := range uint32(10) {
		got := admitAll(l, caller{peer: Peer{UID: 2000 + uid}, may: Read}, 100)
		if got > maxConnsOfOne {
			t.Errorf("one user holds %d connections", got)
		}
		total += got
	}
	if total != maxConns {
		t.Errorf("users hold %d connections, want %d", total, maxConns)
	}
	if !l.admit(caller{may: Destroy}) {
		t.Error("root was shut out")
	}
	l.leave(nobody)
	if !l.admit(nobody) || l.admit(nobody) {
		t.Error("a place given back was not one place")
	}
	one := caller{peer: Peer{UID: 2000}, may: Read}
	for range maxConnsOfOne {
		l.leave(one)
	}
	if len(l.byUID) != maxConns/maxConnsOfOne-1 || l.total != maxConns-maxConnsOfOne {
		t.Errorf("after a user left: %d users, %d connections", len(l.byUID), l.total)
	}
}

// TestConnectionBounds protects the same on a real socket: a connection beyond
// the bound is closed, and closing one makes room.
func TestConnectionBounds(t *testing.T) {
	s := NewServer(Options{Agent: nil, Permit: func(Peer) Permission { return None }, Log: slog.New(slog.DiscardHandler)})
	socket := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(t.Context(), ln) }()
	// Served one after the other: each is known to be admitted before the next.
	ask := func(c net.Conn) error {
		c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Write([]byte("GET /v1/healthz HTTP/1.1\r\nHost: volseal\r\n\r\n")); err != nil {
			return err
		}
		_, err := c.Read(make([]byte, 1024))
		return err
	}
	var held []net.Conn
	for range maxConnsOfNobody {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := ask(c); err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	extra, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer extra.Close()
	if err := ask(extra); err == nil {
		t.Error("a connection beyond the bound was answered")
	}
	held[0].Close()
	// The server learns of the close in its own time; each refused try is an event to wait for.
	for end := time.Now().Add(10 * time.Second); ; {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		err = ask(c)
		c.Close()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal("closing a connection made no room")
		}
	}
}

// quiet is an agent in which nothing changes.
type quiet struct {
	Agent
	never chan struct{}
}

func (q quiet) Status() volume.Snapshot                 { return volume.Snapshot{} }
func (q quiet) Changes() (uint64, <-chan struct{})      { return 1, q.never }
func (q quiet) Volume(string) (_ volume.Status, _ bool) { return volume.Status{}, true }

// TestWaitOutlastsReadTimeout protects waiting readers from net/http, which
// takes the end of the time to read a request for a lost connection.
func TestWaitOutlastsReadTimeout(t *testing.T) {
	s := NewServer(Options{Agent: quiet{never: make(chan struct{})}, Permit: func(Peer) Permission { return Read }, Log: slog.New(slog.DiscardHandler)})
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	h := s.httpServer()
	h.ReadTimeout = 20 * time.Millisecond
	go h.Serve(newLimiter(ln, s.identify))
	t.Cleanup(func() { h.Close() })
	c := NewClient(ln.Addr().String())
	defer c.Close()
	_, m, err := c.volume(t.Context(), "x", moment{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, _, err := c.volume(t.Context(), "x", m, 200*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 200*time.Millisecond {
		t.Errorf("the wait ended after %s", took)
	}
}

// TestTooMany protects verbs from readers: when all places for waiting are
// taken, one more is refused, and a plain request is still answered.
func TestTooMany(t *testing.T) {
	s := NewServer(Options{Agent: quiet{never: make(chan struct{})}, Permit: func(Peer) Permission { return Read }, Log: slog.New(slog.DiscardHandler)})
	if !s.others.waits.TryAcquire(maxWaiting) {
		t.Fatal("places for waiting are taken")
	}
	reader := caller{peer: Peer{UID: 1000}, may: Read}
	path := "/v1/volumes?wait=1s&cursor=" + s.cursor(1)
	if code := answerTo(s, path, reader); code != http.StatusServiceUnavailable {
		t.Errorf("one reader too many: %d", code)
	}
	if code := answerTo(s, "/v1/volumes", reader); code != http.StatusOK {
		t.Errorf("a plain request beside them: %d", code)
	}
	if !s.others.requests.TryAcquire(maxRequests) {
		t.Fatal("a request kept its place")
	}
	if code := answerTo(s, "/v1/volumes", reader); code != http.StatusServiceUnavailable {
		t.Errorf("one request too many: %d", code)
	}
}

func answerTo(s *Server, path string, who caller) int {
	r := httptest.NewRequest(http.MethodGet, path, http.NoBody)
	r.Host = "volseal"
	w := httptest.NewRecorder()
	ctx := context.WithValue(r.Context(), connKey{}, who)
	s.guard(s.mux()).ServeHTTP(w, r.WithContext(ctx))
	return w.Code
}
