// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/volseal/volseal/test/lab/world/control"
)

func (w *World) setFault(ctx context.Context, c call[control.Fault]) (none, error) {
	return none{}, w.SetFault(ctx, c.path("service"), c.in.Fault)
}

func (w *World) denyEC2(_ context.Context, c call[control.Deny]) (none, error) {
	return none{}, w.EC2.Deny(c.in.Actions...)
}

// setCredentials lets the session that IMDS hands out expire: to the services;
// IMDS goes on to call it good, as a broken role would have it.
func (w *World) setCredentials(_ context.Context, c call[control.Credentials]) (none, error) {
	w.Credentials.SetExpired(w.Session.AccessKeyID, c.in.Expired)
	return none{}, nil
}

func (w *World) mark(context.Context, call[none]) (control.Mark, error) {
	return control.Mark{Mark: w.Calls.Mark()}, nil
}

// listCalls answers with one JSON object a line: GET /calls/kms?since=MARK.
func (w *World) listCalls(rw http.ResponseWriter, r *http.Request) {
	service := r.PathValue("service")
	if service != "kms" && service != "ec2" {
		fail(rw, refuse(http.StatusNotFound, "NoSuchService", "calls of %q are not logged: want kms or ec2", service))
		return
	}
	since := int64(0)
	if r.URL.Query().Has("since") {
		var err error
		if since, err = number(r, "since"); err != nil {
			fail(rw, err)
			return
		}
	}
	rw.Header().Set("Content-Type", "application/x-ndjson")
	enc := json.NewEncoder(rw)
	for _, c := range w.Calls.Since(since) {
		if c.Service == service && enc.Encode(c) != nil {
			return // the caller has gone
		}
	}
}

// power answers before the machine goes down: who asked is inside it.
func (w *World) power(act func(Machine, context.Context) error) func(context.Context, call[none]) (none, error) {
	return func(context.Context, call[none]) (none, error) {
		if w.opts.Machine == nil {
			return none{}, noMachine()
		}
		w.tasks.Go(func() {
			if err := act(w.opts.Machine, w.ctx); err != nil {
				w.log.Error("the machine did not come back", "error", err)
			}
		})
		return none{}, nil
	}
}

func (w *World) runOnHost(rw http.ResponseWriter, r *http.Request) {
	if w.opts.Machine == nil {
		fail(rw, noMachine())
		return
	}
	var in control.HostCommand
	if err := json.NewDecoder(http.MaxBytesReader(rw, r.Body, maxBody)).Decode(&in); err != nil || len(in.Args) == 0 {
		fail(rw, refuse(http.StatusBadRequest, "BadRequest", "want a command"))
		return
	}
	out, err := w.opts.Machine.Host(r.Context(), in.Args...)
	if err != nil {
		fail(rw, refuse(http.StatusConflict, "HostCommandFailed", "%v: %s", err, out))
		return
	}
	_, _ = rw.Write(out) // a caller who has gone is nobody's error
}

func noMachine() error {
	return refuse(http.StatusNotImplemented, "NoMachine", "this world has no machine: it was started by lab cloud")
}
