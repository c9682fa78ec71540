// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/volseal/volseal/internal/control/peercred"
)

// The bounds of a request. Bodies are empty in truth; the limit is what a
// confused client may send before it is told so.
const (
	maxBody          = 64 << 10
	maxHeader        = 8 << 10
	headerTimeout    = 5 * time.Second
	requestTimeout   = 10 * time.Second // to read it, and to write the answer
	idleTimeout      = 2 * time.Minute
	shutdownPatience = 2 * time.Second
)

// Requests in progress. Waiting readers may hold half of them, so that they
// never stand in the way of a verb. Root has as many of its own.
const (
	maxRequests = 128
	maxWaiting  = 64
)

// places bound what is in progress at once.
type places struct{ requests, waits *semaphore.Weighted }

func newPlaces() places {
	return places{requests: semaphore.NewWeighted(maxRequests), waits: semaphore.NewWeighted(maxWaiting)}
}

// Options are what a server is made of; all but Observe are required.
type Options struct {
	Agent  Agent
	Permit func(Peer) Permission // asked once for each connection
	Log    *slog.Logger
	// Observe is told of each verb and its result, one of Results.
	Observe func(verb, result string)
}

// Server answers operators.
type Server struct {
	agent    Agent
	permit   func(Peer) Permission
	log      *slog.Logger
	observe  func(verb, result string)
	run      string // distinguishes cursors and wishes of this run of the agent
	roots    places
	others   places
	denials  *denials
	stopping chan struct{}
}

// NewServer makes a server; Serve starts it.
func NewServer(o Options) *Server {
	if o.Observe == nil {
		o.Observe = func(string, string) {}
	}
	return &Server{
		agent: o.Agent, permit: o.Permit, log: o.Log, observe: o.Observe,
		run:      rand.Text(),
		roots:    newPlaces(),
		others:   newPlaces(),
		denials:  newDenials(),
		stopping: make(chan struct{}),
	}
}

// placesOf are those that a caller's requests take.
func (s *Server) placesOf(who caller) places {
	if who.may != None && who.peer.UID == 0 {
		return s.roots
	}
	return s.others
}

// Serve answers on ln, a Unix socket, until ctx ends; it closes ln. Requests in
// progress are given a moment to finish. It may be called once.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	h := s.httpServer()
	stopped := context.AfterFunc(ctx, func() {
		close(s.stopping)
		patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownPatience)
		defer cancel()
		if h.Shutdown(patience) != nil {
			_ = h.Close() // out of patience: what is left is cut off
		}
	})
	defer stopped()
	err := h.Serve(newLimiter(ln, s.identify))
	if errors.Is(err, http.ErrServerClosed) && ctx.Err() != nil {
		return nil
	}
	return err
}

func (s *Server) httpServer() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // one request at a time on a connection
	return &http.Server{
		Handler:           s.guard(s.mux()),
		Protocols:         protocols,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      MaxWait + requestTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ConnContext:       withConn,
		// OPTIONS is a path like any other: without permission, no answer.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

// identify asks the kernel who is there. Who cannot be told is nobody.
func (s *Server) identify(c net.Conn) caller {
	p, err := peercred.Of(c)
	if err != nil {
		s.log.Error("refusing a connection", "error", err)
		return caller{}
	}
	return caller{peer: p, may: s.permit(p)}
}
