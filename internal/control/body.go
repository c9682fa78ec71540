// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// decodeBody reads a request's arguments: one JSON object with the fields of
// into and no others. No body is an empty object. What the values mean is for
// others to judge.
func decodeBody(r *http.Request, into any) error {
	raw, err := readBody(r)
	if err != nil || len(raw) == 0 {
		return err
	}
	if t, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); t != "application/json" {
		return &Error{Code: CodeUnsupportedMedia, Message: "A body must be application/json."}
	}
	if raw[0] != '{' {
		return badRequest("The body must be one JSON object.")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return badRequest("The body does not fit: " + clip(strings.TrimPrefix(err.Error(), "json: ")) + ".")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return badRequest("The body must be one JSON object.")
	}
	return nil
}

// readBody is the body without the space around it; its size is bounded by the guard.
func readBody(r *http.Request) ([]byte, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	raw, err := io.ReadAll(r.Body)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, &Error{Code: CodeTooLarge, Message: fmt.Sprintf("The body is larger than %d bytes.", large.Limit)}
	case err != nil:
		return nil, fmt.Errorf("read request: %w", cutShort(err))
	}
	return bytes.TrimSpace(raw), nil
}

// cutShort marks a body that could not be read as the client's doing.
func cutShort(err error) error {
	return errors.Join(context.Canceled, err)
}
