// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"path"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// The results of a verb, for metrics. Few, so that a dashboard can name them.
const (
	resultAccepted = "accepted"
	resultDenied   = "denied"  // no permission
	resultRefused  = "refused" // the request does not fit
	resultFailed   = "failed"  // our fault, or the world's
)

// Results lists the results of a verb.
func Results() []string {
	return []string{resultAccepted, resultDenied, resultRefused, resultFailed}
}

// guard stands before every route: it contains panics, refuses browsers and
// bounds how much is in progress.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer s.contain(w)
		if err := refuseBrowser(r); err != nil {
			s.fail(w, err)
			return
		}
		if p := r.URL.EscapedPath(); path.Clean(p) != p {
			s.fail(w, noSuchPath()) // the mux would redirect, which no client of ours follows
			return
		}
		if r.Method == http.MethodGet && r.ContentLength != 0 {
			// Reading it would hold a place for as long as the client likes.
			w.Header().Set("Connection", "close")
			s.fail(w, badRequest("A GET has no body."))
			return
		}
		requests := s.placesOf(connOf(r.Context())).requests
		if !requests.TryAcquire(1) {
			s.fail(w, overloaded())
			return
		}
		defer requests.Release(1)
		if r.Method == http.MethodGet {
			// The deadline for reading the request would also end the wait of a
			// reader: net/http takes its passing for a lost connection.
			_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r)
	})
}

// contain keeps one request's bug from ending the agent that others depend on.
func (s *Server) contain(w http.ResponseWriter) {
	p := recover()
	if p == nil {
		return
	}
	s.log.Error("request panicked", "panic", p, "stack", string(debug.Stack()))
	s.fail(w, &Error{Code: CodeInternal, Message: "The agent failed to answer; its log says more.", Hint: "See `journalctl -u volseal`."})
}

// refuseBrowser turns away what only a browser sends. A page cannot reach a
// Unix socket, but it can reach a port that somebody forwarded to one: such a
// request names its origin, or a host with a domain, an address or a port.
func refuseBrowser(r *http.Request) *Error {
	browser := r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" || strings.ContainsAny(r.Host, ".:")
	if !browser {
		return nil
	}
	return &Error{Code: CodePermissionDenied, Message: "Requests from browsers are refused.", Hint: "Use the volseal command, or a client with a one-word host such as http://volseal/."}
}

func overloaded() *Error {
	return &Error{Code: CodeOverloaded, Message: "Too many requests are in progress.", Hint: "Try again in a moment."}
}

// serveRoute checks a route's permission and shape, runs it, and audits it.
func (s *Server) serveRoute(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, name := connOf(r.Context()), clip(r.PathValue("name"))
		a, err := s.runRoute(rt, who, r)
		var failure *Error
		if err != nil {
			failure = errorFrom(err, name)
		}
		s.audit(r.Context(), rt, who, name, failure)
		if failure != nil {
			s.fail(w, failure)
			return
		}
		w.Header().Set(runHeader, s.run)
		if a.cursor != "" {
			w.Header().Set(cursorHeader, a.cursor)
		}
		writeJSON(w, rt.status, a.body)
	})
}

// runRoute refuses first by permission: who may not read learns nothing, not
// even which paths and volumes exist.
func (s *Server) runRoute(rt route, who caller, r *http.Request) (answer, error) {
	if who.may < rt.needs || rt.needs == None {
		return answer{}, denied(rt.needs)
	}
	if err := checkQuery(r, rt.query); err != nil {
		return answer{}, err
	}
	if !rt.takes {
		if err := decodeBody(r, &struct{}{}); err != nil {
			return answer{}, err
		}
	}
	return rt.handle(s, r)
}

func denied(needs Permission) *Error {
	hints := map[Permission]string{
		Read:    "Run it as root, or as a member of the group volseal or of the operator group.",
		Operate: "Run it as root, or as a member of the operator group (operator_group in volseal.yaml).",
		Destroy: "Run it as root: it cannot be undone.",
	}
	return &Error{Code: CodePermissionDenied, Message: "You have no permission to do this; it needs “" + needs.String() + "”.", Hint: hints[needs]}
}

func checkQuery(r *http.Request, known []string) error {
	for name, values := range r.URL.Query() {
		if !slices.Contains(known, name) {
			return badRequest("A query parameter is unknown here.")
		}
		if len(values) > 1 {
			return badRequest("A query parameter is given twice.")
		}
	}
	return nil
}

// audit writes one line for each verb: who asked for what, and what came of it;
// of denied ones, as many as denials allows.
func (s *Server) audit(ctx context.Context, rt route, who caller, name string, failure *Error) {
	if rt.verb == "" {
		return
	}
	level, outcome := slog.LevelInfo, "accepted"
	if failure != nil {
		level, outcome = slog.LevelWarn, string(failure.Code)
	}
	s.observe(rt.verb, resultOf(failure))
	log := s.log
	if resultOf(failure) == resultDenied {
		unlogged, ok := s.denials.log(who.peer.UID, time.Now())
		if !ok {
			return
		}
		if unlogged > 0 {
			log = log.With("unlogged", unlogged)
		}
	}
	log.Log(ctx, level, "operator request", "verb", rt.verb, "volume", name,
		"pid", who.peer.PID, "uid", who.peer.UID, "outcome", outcome)
}

// clip bounds what a request can write into a log and into its own error.
func clip(name string) string {
	const longest = 64 // of any sound name, twice over
	if len(name) > longest {
		return strings.ToValidUTF8(name[:longest], "") + "…"
	}
	return name
}

func resultOf(failure *Error) string {
	if failure == nil {
		return resultAccepted
	}
	switch failure.Code {
	case CodePermissionDenied:
		return resultDenied
	case CodeFailed, CodeInternal, CodeUnavailable:
		return resultFailed
	default:
		return resultRefused
	}
}

func (s *Server) fail(w http.ResponseWriter, e *Error) {
	w.Header().Set(runHeader, s.run)
	writeJSON(w, e.status(), e)
}

// writeJSON marshals before it writes, so that a failure is still an answer of
// status 500 and never half a body.
func writeJSON(w http.ResponseWriter, status int, body any) {
	raw, err := json.Marshal(body)
	if err != nil {
		status, raw = http.StatusInternalServerError, []byte(`{"code":"internal","message":"The answer cannot be encoded.","hint":"","volume":"","class":"unknown"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(raw, '\n')) // a client that left is no error of ours
}
