// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"net/http"

	"github.com/volseal/volseal/internal/volume"
)

// rotate records a rotation. KMS is asked first, so that the answer takes the
// place and the time of work.
func (s *Server) rotate(r *http.Request) (answer, error) {
	var order volume.RotateOrder
	if err := decodeBody(r, &order); err != nil {
		return answer{}, err
	}
	return s.work(r, func(ctx context.Context, name string) (any, error) {
		a, err := s.agent.Rotate(ctx, name, order, connOf(r.Context()).peer)
		return Accepted{Volume: name, Verb: volume.VerbRotate, Wish: a.Wish, Generation: a.Generation}, err
	})
}

// Rotate records a rotation, to be awaited like a wish.
func (c *Client) Rotate(ctx context.Context, name string, order volume.RotateOrder) (Accepted, error) {
	var a Accepted
	if err := checkName(name); err != nil {
		return a, err
	}
	m, err := c.ask(ctx, request{
		method: http.MethodPost, path: volumePath(name) + "/" + string(volume.VerbRotate), body: order, works: true,
	}, &a)
	a.run = m.run
	return a, err
}
