// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/volseal/volseal/test/lab/aws"
	"github.com/volseal/volseal/test/lab/world/control"
)

// maxBody bounds a request of the control API: a raw write, with room to spare.
const maxBody = 65 << 20

// routes is the control API, all of it. It listens on loopback and asks nobody
// who he is: whoever can reach it owns the world.
func (w *World) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /keys", answers(w.createKey))
	mux.Handle("POST /keys/show", answers(w.showKey))
	mux.Handle("POST /keys/change", answers(w.changeKey))
	mux.Handle("POST /keys/policy", answers(w.setKeyPolicy))
	mux.Handle("POST /keys/deny", answers(w.denyKey))
	mux.Handle("POST /keys/allow", answers(w.allowKey))
	mux.Handle("POST /keys/unwrap", answers(w.unwrapKey))

	mux.Handle("POST /volumes", answers(w.createVolume))
	mux.Handle("GET /volumes", answers(w.listVolumes))
	mux.Handle("GET /volumes/{id}", answers(w.showVolume))
	mux.Handle("GET /volumes/{id}/image", answers(w.volumeImage))
	mux.Handle("POST /volumes/{id}/attach", answers(w.attachVolume))
	mux.Handle("POST /volumes/{id}/detach", answers(w.detachVolume(false)))
	mux.Handle("POST /volumes/{id}/force-detach", answers(w.detachVolume(true)))
	mux.Handle("POST /volumes/{id}/delete", answers(w.deleteVolume))
	mux.Handle("POST /volumes/{id}/stick", answers(w.stickVolume))
	mux.Handle("POST /volumes/{id}/multi-attach", answers(w.setMultiAttach))
	mux.HandleFunc("PUT /volumes/{id}/data", w.writeVolume)
	mux.HandleFunc("GET /volumes/{id}/data", w.readVolume)

	mux.Handle("POST /snapshots", answers(w.createSnapshot))
	mux.Handle("GET /snapshots/{id}", answers(w.showSnapshot))
	mux.Handle("POST /snapshots/{id}/copy", answers(w.copySnapshot))
	mux.Handle("POST /snapshots/{id}/delete", answers(w.deleteSnapshot))

	mux.Handle("POST /faults/{service}", answers(w.setFault))
	mux.Handle("POST /ec2/deny", answers(w.denyEC2))
	mux.Handle("POST /credentials", answers(w.setCredentials))
	mux.HandleFunc("GET /calls/{service}", w.listCalls)
	mux.Handle("GET /mark", answers(w.mark))

	mux.Handle("POST /host/reboot", answers(w.power(Machine.Reboot)))
	mux.Handle("POST /host/power-cut", answers(w.power(Machine.PowerCut)))
	mux.HandleFunc("POST /host/run", w.runOnHost)
	return mux
}

// none is the body of a request or an answer that has none.
type none struct{}

// call is a request of the control API, decoded.
type call[In any] struct {
	in   In
	path func(name string) string // a segment of the path
}

// answers makes a handler of a function from JSON to JSON.
func answers[In, Out any](serve func(context.Context, call[In]) (Out, error)) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		c := call[In]{path: r.PathValue}
		if r.Method == http.MethodPost {
			dec := json.NewDecoder(http.MaxBytesReader(rw, r.Body, maxBody))
			dec.DisallowUnknownFields()
			if err := dec.Decode(&c.in); err != nil {
				fail(rw, &aws.Error{Code: "BadRequest", Message: "decode request: " + err.Error(), Status: http.StatusBadRequest})
				return
			}
		}
		out, err := serve(r.Context(), c)
		if err != nil {
			fail(rw, err)
			return
		}
		write(rw, http.StatusOK, out)
	})
}

func write(rw http.ResponseWriter, status int, body any) {
	raw, err := json.Marshal(body)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusInternalServerError)
		return
	}
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(status)
	_, _ = rw.Write(append(raw, '\n')) // a caller who has gone is nobody's error
}

func fail(rw http.ResponseWriter, err error) {
	var known *aws.Error
	switch {
	case errors.As(err, &known):
		write(rw, known.Status, control.Error{Code: known.Code, Message: known.Message})
	case errors.Is(err, context.DeadlineExceeded):
		write(rw, http.StatusGatewayTimeout, control.Error{Code: "TimedOut", Message: err.Error()})
	default:
		write(rw, http.StatusInternalServerError, control.Error{Code: "Internal", Message: err.Error()})
	}
}

func refuse(status int, code, format string, args ...any) error {
	return &aws.Error{Code: code, Message: fmt.Sprintf(format, args...), Status: status}
}
