// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"net/http"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// Code is a stable word for what became of a request.
type Code string

// The codes. Those a client can act on have an exit code of their own in the CLI.
const (
	CodeBadRequest       Code = "bad_request"
	CodeNotFound         Code = "not_found" // no such path
	CodeMethodNotAllowed Code = "method_not_allowed"
	CodeTooLarge         Code = "too_large"
	CodeUnsupportedMedia Code = "unsupported_media_type"
	CodePermissionDenied Code = "permission_denied"
	CodeNoSuchVolume     Code = "no_such_volume"
	CodeConflict         Code = "conflict"
	CodeOverloaded       Code = "overloaded"     // too many requests at once
	CodeInvalidConfig    Code = "invalid_config" // the old configuration stays
	CodeNotReady         Code = "not_ready"
	CodeNotHealthy       Code = "not_healthy"
	CodeUnavailable      Code = "unavailable" // the agent is stopping
	CodeFailed           Code = "failed"      // the class says more
	CodeInternal         Code = "internal"

	// Never sent by the server: what the client found instead of an answer.
	CodeNotRunning Code = "not_running"
	CodeTimeout    Code = "timeout" // --wait ended and no class stands
)

// Error is a request's failure as it crosses the socket.
type Error struct {
	Code    Code        `json:"code"`    // a stable word
	Message string      `json:"message"` // what is wrong, a sentence
	Hint    string      `json:"hint"`    // what to do; may be ""
	Volume  string      `json:"volume"`  // "" if it is about none
	Class   fault.Class `json:"class"`   // "" if it is of none
	Err     error       `json:"-"`       // what lies beneath, on the side where it arose
}

func (e *Error) Error() string { return e.Message }

func (e *Error) Unwrap() error { return e.Err }

// errorFrom turns what an Agent returned into what crosses the socket.
func errorFrom(err error, name string) *Error {
	var (
		ours     *Error
		order    *volume.OrderError
		conflict *volume.ConflictError
		failure  *fault.Error
	)
	switch {
	case errors.As(err, &ours):
		e := *ours
		if e.Volume == "" {
			e.Volume = name
		}
		return &e
	case errors.Is(err, volume.ErrNoSuchVolume):
		return NoSuchVolume(name)
	case errors.As(err, &order):
		return &Error{Code: CodeBadRequest, Message: order.Message, Volume: name, Err: err}
	case errors.As(err, &conflict):
		return &Error{Code: CodeConflict, Message: conflict.Message, Hint: conflict.Hint, Volume: name, Err: err}
	case errors.As(err, &failure):
		return &Error{Code: CodeFailed, Message: failure.Cause, Hint: failure.Hint, Volume: name, Class: fault.ClassOf(err), Err: err}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &Error{Code: CodeUnavailable, Message: "The request was cut short.", Hint: "Try again.", Volume: name, Err: err}
	}
	return &Error{Code: CodeInternal, Message: err.Error(), Volume: name, Class: fault.Unknown, Err: err}
}

// NoSuchVolume is the error for a name that is not configured.
func NoSuchVolume(name string) *Error {
	return &Error{
		Code: CodeNoSuchVolume, Message: "No volume of that name is configured.",
		Hint: "See `volseal status` for the names, and reload after adding one.", Volume: name, Err: volume.ErrNoSuchVolume,
	}
}

func noSuchPath() *Error {
	return &Error{Code: CodeNotFound, Message: "There is no such path.", Hint: "The API is under /v1/."}
}

func badRequest(message string) *Error {
	return &Error{Code: CodeBadRequest, Message: message}
}

// status is the HTTP status of an error.
func (e *Error) status() int {
	switch e.Code {
	case CodeBadRequest:
		return http.StatusBadRequest
	case CodePermissionDenied:
		return http.StatusForbidden
	case CodeNotFound, CodeNoSuchVolume:
		return http.StatusNotFound
	case CodeMethodNotAllowed:
		return http.StatusMethodNotAllowed
	case CodeConflict:
		return http.StatusConflict
	case CodeTooLarge:
		return http.StatusRequestEntityTooLarge
	case CodeUnsupportedMedia:
		return http.StatusUnsupportedMediaType
	case CodeInvalidConfig:
		return http.StatusUnprocessableEntity
	case CodeOverloaded, CodeNotReady, CodeNotHealthy, CodeUnavailable:
		return http.StatusServiceUnavailable
	case CodeFailed:
		return classStatus(e.Class)
	default:
		return http.StatusInternalServerError
	}
}

func classStatus(c fault.Class) int {
	if c.WaitingHelps() {
		return http.StatusServiceUnavailable
	}
	return http.StatusUnprocessableEntity
}
