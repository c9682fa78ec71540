// SPDX-License-Identifier: Apache-2.0

package control_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/volseal/volseal/internal/control"
	"github.com/volseal/volseal/internal/control/controltest"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// TestHeaderRequests: what is asked arrives as it was meant, and what the agent
// found comes back whole; a field that is not known is refused, not left out.
func TestHeaderRequests(t *testing.T) {
	agent := agentWith(orders())
	order := volume.HeaderOrder{From: "g1.img", AcceptOlder: true}
	report := volume.HeaderReport{Volume: "orders", Checks: []fault.Check{{Name: "mac", Status: fault.CheckFailed, Class: fault.Integrity, Detail: "x"}}}
	agent.OnHeader = func(verb, _ string, asked volume.HeaderOrder) (any, error) {
		switch verb {
		case "verify":
			return report, nil
		case "backup":
			return nil, &volume.ConflictError{Message: "at work"}
		}
		if asked != order {
			t.Errorf("asked for %+v", asked)
		}
		return volume.HeaderRestored{Volume: "orders", Written: true}, nil
	}
	socket := controltest.Serve(t, control.Options{Agent: agent, Permit: as(control.Destroy), Log: discard()})
	c := control.NewClient(socket)
	defer c.Close()
	if got, err := c.VerifyHeader(t.Context(), "orders"); err != nil || len(got.Checks) != 1 || got.Checks[0].Status != fault.CheckFailed || got.Checks[0].Class != fault.Integrity {
		t.Errorf("verify: %+v, %v", got, err)
	}
	var refusal *control.Error
	if _, err := c.BackUpHeader(t.Context(), "orders"); !errors.As(err, &refusal) || refusal.Code != control.CodeConflict {
		t.Errorf("backup: %v", err)
	}
	if got, err := c.RestoreHeader(t.Context(), "orders", order); err != nil || !got.Written {
		t.Errorf("restore: %+v, %v", got, err)
	}
	if _, err := c.RestoreHeader(t.Context(), "..", order); err == nil {
		t.Error("a name that leads elsewhere was sent")
	}
	for _, body := range []string{`{"path":"/etc/shadow"}`, `{"generation":"1"}`, `[]`} {
		status, _, _ := raw(t, socket, "POST", "/v1/volumes/orders/header/restore", body, map[string]string{"Content-Type": "application/json"})
		if status != http.StatusBadRequest {
			t.Errorf("%s: status %d", body, status)
		}
	}
}

// TestWorkOutlivesItsClient: a header is not half written because somebody
// pressed Ctrl-C.
func TestWorkOutlivesItsClient(t *testing.T) {
	agent := agentWith(orders())
	begun, left, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	agent.OnHeaderContext = func(ctx context.Context) {
		close(begun)
		<-left
		select {
		case <-ctx.Done():
			ended <- ctx.Err()
		case <-time.After(100 * time.Millisecond): // a context of the connection would have ended by then
			ended <- nil
		}
	}
	socket := controltest.Serve(t, control.Options{Agent: agent, Permit: as(control.Destroy), Log: discard()})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-begun; cancel() }()
	c := control.NewClient(socket)
	if _, err := c.RestoreHeader(ctx, "orders", volume.HeaderOrder{}); !errors.Is(err, context.Canceled) {
		t.Errorf("the client: %v", err)
	}
	c.Close()
	close(left)
	if err := <-ended; err != nil {
		t.Errorf("the work ended with its client: %v", err)
	}
}
