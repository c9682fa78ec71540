// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Client drives a world. Errors are *Error where the world answered, anything
// else where it did not.
type Client struct {
	Find func() (base string, err error) // http://host:port, asked before each request
	HTTP *http.Client
}

// Call sends in (nil: nothing) as JSON and decodes the answer into out (nil:
// none expected).
func (c *Client) Call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(raw)
	}
	answer, err := c.Raw(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Close() }()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(answer).Decode(out); err != nil {
		return fmt.Errorf("decode the world's answer: %w", err)
	}
	return nil
}

// Raw sends a body as it is and returns the answer's, for the caller to close.
func (c *Client) Raw(ctx context.Context, method, path string, body io.Reader) (io.ReadCloser, error) {
	base, err := c.Find()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(base, "/")+path, body)
	if err != nil {
		return nil, fmt.Errorf("reach the world: %w", err)
	}
	answer, err := c.HTTP.Do(req)
	if err != nil {
		return nil, fmt.Errorf("reach the world: %w", err)
	}
	if answer.StatusCode < http.StatusBadRequest {
		return answer.Body, nil
	}
	defer func() { _ = answer.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	if err != nil {
		return nil, fmt.Errorf("read the world's answer: %w", err)
	}
	refused := &Error{}
	if json.Unmarshal(raw, refused) != nil || refused.Code == "" {
		return nil, &Error{Code: answer.Status, Message: strings.TrimSpace(string(raw))}
	}
	return nil, refused
}

// Path joins segments, each escaped: ids come from scripts.
func Path(segments ...string) string {
	var b strings.Builder
	for _, s := range segments {
		b.WriteString("/" + url.PathEscape(s))
	}
	return b.String()
}
