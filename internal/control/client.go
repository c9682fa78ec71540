// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/volseal/volseal/internal/volume"
)

const (
	maxAnswer     = 8 << 20          // a status of many thousand volumes
	answerTimeout = 30 * time.Second // beyond what the request itself asks to wait
)

// Client speaks to the agent. It is the only client of the API. Every error it
// returns for a request is an *Error, unless ctx ended: then it is ctx's.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient makes a client for the socket at this path. It does not connect yet.
func NewClient(socket string) *Client {
	return &Client{
		socket: socket,
		http: &http.Client{Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dial(ctx, socket)
			},
			DisableCompression: true,
			MaxIdleConns:       1,
		}},
	}
}

// Close gives the connection back.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// moment says when an answer was true: its run of the agent, and a cursor in it.
type moment struct{ run, cursor string }

// Status is everything that is known now.
func (c *Client) Status(ctx context.Context) (volume.Snapshot, error) {
	s, _, err := c.status(ctx, moment{})
	return s, err
}

// Watch calls show with the status now and after each change, until ctx ends or
// an error; show's own error ends it too. An agent that has answered once and is
// away is looked for, for a while: a restart of it is what many watch for.
func (c *Client) Watch(ctx context.Context, show func(volume.Snapshot) error) error {
	var seen moment
	lost := 0
	for {
		asked := time.Now()
		s, m, err := c.status(ctx, seen)
		if isLost(err) && seen != (moment{}) && lost < lostTries {
			lost++
			if err := pause(ctx, lostPause); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		lost = 0
		if m == seen {
			if err := pace(ctx, asked, MaxWait); err != nil {
				return err
			}
			continue
		}
		seen = m
		if err := show(s); err != nil {
			return err
		}
	}
}

// Volume is the status of one volume.
func (c *Client) Volume(ctx context.Context, name string) (volume.Status, error) {
	s, _, err := c.volume(ctx, name, moment{}, 0)
	return s, err
}

// Do records a wish.
func (c *Client) Do(ctx context.Context, name string, order volume.Order) (Accepted, error) {
	var a Accepted
	if err := checkName(name); err != nil {
		return a, err
	}
	m, err := c.ask(ctx, request{method: http.MethodPost, path: volumePath(name) + "/" + string(order.Verb), body: order}, &a)
	a.run = m.run
	return a, err
}

// FlushCache has the agent forget every cached data key.
func (c *Client) FlushCache(ctx context.Context) error {
	_, err := c.ask(ctx, request{method: http.MethodPost, path: "/v1/cache/flush"}, new(Done))
	return err
}

// Reload has the agent read its configuration anew.
func (c *Client) Reload(ctx context.Context) error {
	_, err := c.ask(ctx, request{method: http.MethodPost, path: "/v1/reload"}, new(Done))
	return err
}

// CheckKey has the agent find out whether a CMK can be used for volumes.
func (c *Client) CheckKey(ctx context.Context, arn string) (KeyReport, error) {
	var r KeyReport
	_, err := c.ask(ctx, request{method: http.MethodPost, path: "/v1/keys/check", body: keyQuestion{arn}}, &r)
	return r, err
}

// Doctor is the agent's part of an examination of the host.
func (c *Client) Doctor(ctx context.Context) (Report, error) {
	var r Report
	_, err := c.ask(ctx, request{method: http.MethodGet, path: "/v1/doctor"}, &r)
	return r, err
}

func (c *Client) status(ctx context.Context, after moment) (s volume.Snapshot, m moment, err error) {
	m, err = c.ask(ctx, request{method: http.MethodGet, path: "/v1/volumes", after: after, wait: MaxWait}, &s)
	return s, m, err
}

func (c *Client) volume(ctx context.Context, name string, after moment, wait time.Duration) (s volume.Status, m moment, err error) {
	if err := checkName(name); err != nil {
		return s, m, err
	}
	m, err = c.ask(ctx, request{method: http.MethodGet, path: volumePath(name), after: after, wait: wait}, &s)
	return s, m, err
}

// checkName refuses what would name another path, or fill the request's line.
func checkName(name string) error {
	const longest = 1 << 10
	if name == "" || name == "." || name == ".." || len(name) > longest {
		return NoSuchVolume(clip(name))
	}
	return nil
}

func volumePath(name string) string { return "/v1/volumes/" + url.PathEscape(name) }

// request is one request. With after it is answered once there is something
// newer, or after wait.
type request struct {
	method, path string
	body         any // its arguments, nil for none
	after        moment
	wait         time.Duration
	works        bool // it is answered only when the agent has done it
}

// limit is how long an answer may take in all.
func (r request) limit() time.Duration {
	if r.works {
		return workTimeout
	}
	if r.after.cursor == "" {
		return answerTimeout
	}
	return min(r.wait, MaxWait) + answerTimeout
}

func (r request) url() string {
	u := "http://volseal" + r.path
	if r.after.cursor != "" {
		u += "?" + url.Values{"cursor": {r.after.cursor}, "wait": {min(r.wait, MaxWait).String()}}.Encode()
	}
	return u
}

func (r request) make(ctx context.Context) (*http.Request, error) {
	var arguments []byte
	var err error
	if r.body != nil {
		arguments, err = json.Marshal(r.body)
	}
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, r.url(), bytes.NewReader(arguments))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	if len(arguments) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, nil
}

// ask makes one request and decodes its answer. Unknown fields are accepted: a
// newer agent may say more.
func (c *Client) ask(ctx context.Context, r request, into any) (moment, error) {
	bounded, cancel := context.WithTimeout(ctx, r.limit())
	defer cancel()
	req, err := r.make(bounded)
	if err != nil {
		return moment{}, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return moment{}, c.unanswered(ctx, err)
	}
	defer resp.Body.Close()
	m := moment{run: resp.Header.Get(runHeader), cursor: resp.Header.Get(cursorHeader)}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return m, c.unanswered(ctx, err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return m, refusalOf(resp, raw)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return m, strangeAnswer(fmt.Errorf("decode answer: %w", err))
	}
	return m, nil
}

// refusalOf is the agent's own error.
func refusalOf(resp *http.Response, raw []byte) error {
	var e Error
	if err := json.Unmarshal(raw, &e); err != nil || e.Code == "" {
		return strangeAnswer(fmt.Errorf("status %s", resp.Status))
	}
	return &e
}

func strangeAnswer(err error) *Error {
	return &Error{
		Code: CodeInternal, Message: "The agent's answer makes no sense: " + err.Error() + ".",
		Hint: "Is another program listening on the socket, or is the agent of another version?", Err: err,
	}
}

// unanswered tells the ways apart in which no answer comes.
func (c *Client) unanswered(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	e := &Error{Code: CodeNotRunning, Err: err}
	switch {
	case errors.Is(err, fs.ErrPermission):
		e.Code, e.Message = CodePermissionDenied, "You have no permission to use the socket "+c.socket+"."
		e.Hint = "Run it as root, or as a member of the group volseal or of the operator group."
	case errors.Is(err, fs.ErrNotExist):
		e.Message = "The agent is not running: there is no socket " + c.socket + "."
		e.Hint = c.startHint()
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Message = "The agent is not running: nothing listens on " + c.socket + "."
		e.Hint = c.startHint()
	case c.socket != DefaultSocket && isDial(err):
		e.Message = "The agent cannot be reached by " + strconv.Quote(c.socket) + ": " + plain(err) + "."
		e.Hint = c.startHint()
	default:
		e.Message = "The agent did not answer: " + plain(err) + "."
		e.Hint = "See `systemctl status volseal` and `journalctl -u volseal`."
	}
	return e
}

func isDial(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// startHint begins with the likelier mistake: another socket was named.
func (c *Client) startHint() string {
	const start = "Start it with `systemctl start volseal.socket volseal.service`."
	if c.socket == DefaultSocket {
		return start
	}
	return "The agent's own socket is " + DefaultSocket + ". " + start
}

// plain strips the request's line from a transport error.
func plain(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "it closed the connection"
	}
	return strings.TrimSuffix(err.Error(), ".")
}
