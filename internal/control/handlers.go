// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/volseal/volseal/internal/volume"
)

func (s *Server) listVolumes(r *http.Request) (answer, error) {
	cursor, err := s.await(r)
	if err != nil {
		return answer{}, err
	}
	snapshot := s.agent.Status()
	if snapshot.Volumes == nil {
		snapshot.Volumes = []volume.Status{}
	}
	if snapshot.Keys == nil {
		snapshot.Keys = []volume.KeyStatus{}
	}
	return answer{snapshot, cursor}, nil
}

func (s *Server) showVolume(r *http.Request) (answer, error) {
	name := r.PathValue("name")
	if _, ok := s.agent.Volume(name); !ok {
		return answer{}, NoSuchVolume(clip(name)) // at once: nothing will change about it soon
	}
	cursor, err := s.await(r)
	if err != nil {
		return answer{}, err
	}
	status, ok := s.agent.Volume(name)
	if !ok {
		return answer{}, NoSuchVolume(clip(name))
	}
	return answer{status, cursor}, nil
}

// await returns the cursor of now; with wait= and a cursor of this run, only
// once there is something newer, or the wait is over. The revision is read
// before the status, so that a change between the two is told again, not missed.
func (s *Server) await(r *http.Request) (string, error) {
	wait, err := waitOf(r)
	if err != nil {
		return "", err
	}
	revision, changed := s.agent.Changes()
	if wait == 0 || r.URL.Query().Get("cursor") != s.cursor(revision) {
		return s.cursor(revision), nil
	}
	waits := s.placesOf(connOf(r.Context())).waits
	if !waits.TryAcquire(1) {
		return "", overloaded()
	}
	defer waits.Release(1)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-s.stopping:
	case <-r.Context().Done():
	}
	revision, _ = s.agent.Changes()
	return s.cursor(revision), nil
}

func (s *Server) cursor(revision uint64) string {
	return s.run + "-" + strconv.FormatUint(revision, 10)
}

func waitOf(r *http.Request) (time.Duration, error) {
	text := r.URL.Query().Get("wait")
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > MaxWait {
		return 0, badRequest(fmt.Sprintf("wait must be a duration from 0s to %s.", MaxWait))
	}
	return d, nil
}

// wish records an order of this verb; its arguments are the body.
func wish(verb volume.Verb) func(*Server, *http.Request) (answer, error) {
	return func(s *Server, r *http.Request) (answer, error) {
		order := volume.Order{Verb: verb}
		if err := decodeBody(r, &order); err != nil {
			return answer{}, err
		}
		name := r.PathValue("name")
		seq, err := s.agent.Do(r.Context(), name, order, connOf(r.Context()).peer)
		if err != nil {
			return answer{}, err
		}
		return answer{body: Accepted{Volume: name, Verb: verb, Wish: seq}}, nil
	}
}

func (s *Server) flushCache(r *http.Request) (answer, error) {
	return answer{body: Done{OK: true}}, s.agent.FlushCache(r.Context())
}

func (s *Server) reload(r *http.Request) (answer, error) {
	return answer{body: Done{OK: true}}, s.agent.Reload(r.Context())
}

func (s *Server) checkKey(r *http.Request) (answer, error) {
	var q keyQuestion
	if err := decodeBody(r, &q); err != nil {
		return answer{}, err
	}
	report, err := s.agent.CheckKey(r.Context(), q.ARN)
	return answer{body: report}, err
}

func (s *Server) doctor(r *http.Request) (answer, error) {
	report, err := s.agent.Doctor(r.Context())
	return answer{body: report}, err
}

func (s *Server) healthz(*http.Request) (answer, error) {
	if !s.agent.Healthy() {
		return answer{}, &Error{Code: CodeNotHealthy, Message: "The agent's loop does not turn.", Hint: "The watchdog restarts it; mounted volumes are not disturbed."}
	}
	return answer{body: Done{OK: true}}, nil
}

func (s *Server) readyz(*http.Request) (answer, error) {
	if !s.agent.Ready() {
		return answer{}, &Error{Code: CodeNotReady, Message: "Not every volume is mounted.", Hint: "See `volseal status`."}
	}
	return answer{body: Done{OK: true}}, nil
}
