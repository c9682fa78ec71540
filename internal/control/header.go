// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"net/http"
	"time"

	"github.com/volseal/volseal/internal/volume"
)

// workLimit is how long an agent may work on a request that is answered only when
// it is done. The answer must then still be written within WriteTimeout.
const workLimit = MaxWait

// work runs what is done when it is answered. It takes one of the places of those
// who wait, and goes on when the client leaves: a header is never half written
// because somebody pressed Ctrl-C. (Nor could it tell: net/http takes the end of the time
// for reading a request for a lost connection.)
func (s *Server) work(r *http.Request, do func(ctx context.Context, name string) (any, error)) (answer, error) {
	waits := s.placesOf(connOf(r.Context())).waits
	if !waits.TryAcquire(1) {
		return answer{}, overloaded()
	}
	defer waits.Release(1)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), workLimit)
	defer cancel()
	body, err := do(ctx, r.PathValue("name"))
	return answer{body: body}, err
}

func (s *Server) verifyHeader(r *http.Request) (answer, error) {
	return s.work(r, func(ctx context.Context, name string) (any, error) { return s.agent.VerifyHeader(ctx, name) })
}

func (s *Server) backUpHeader(r *http.Request) (answer, error) {
	return s.work(r, func(ctx context.Context, name string) (any, error) { return s.agent.BackUpHeader(ctx, name) })
}

func (s *Server) restoreHeader(r *http.Request) (answer, error) {
	var order volume.HeaderOrder
	if err := decodeBody(r, &order); err != nil {
		return answer{}, err
	}
	return s.work(r, func(ctx context.Context, name string) (any, error) { return s.agent.RestoreHeader(ctx, name, order) })
}

// VerifyHeader has the agent look at a volume's header.
func (c *Client) VerifyHeader(ctx context.Context, name string) (report volume.HeaderReport, err error) {
	return report, c.askWork(ctx, name, "header/verify", nil, &report)
}

// BackUpHeader has the agent keep a copy of a volume's header.
func (c *Client) BackUpHeader(ctx context.Context, name string) (backup volume.HeaderBackup, err error) {
	return backup, c.askWork(ctx, name, "header/backup", nil, &backup)
}

// RestoreHeader has the agent put a header back.
func (c *Client) RestoreHeader(ctx context.Context, name string, order volume.HeaderOrder) (done volume.HeaderRestored, err error) {
	return done, c.askWork(ctx, name, "header/restore", order, &done)
}

// askWork waits for as long as the agent may work.
func (c *Client) askWork(ctx context.Context, name, path string, arguments, into any) error {
	if err := checkName(name); err != nil {
		return err
	}
	_, err := c.ask(ctx, request{
		method: http.MethodPost, path: volumePath(name) + "/" + path, body: arguments, works: true,
	}, into)
	return err
}

// workTimeout is when a client gives up on such an answer.
const workTimeout = workLimit + 30*time.Second
