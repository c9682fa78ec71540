// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"
)

// ErrGone is the end of the stream: the machine, or the lab around it, is no
// longer there.
var ErrGone = errors.New("the guest is gone")

// killGrace is how long a killed command may take to be reported.
const killGrace = 5 * time.Second

// Client runs commands on the other side of a stream. It is safe for concurrent
// use.
type Client struct {
	stream io.ReadWriteCloser
	out    *lineWriter
	hello  chan Hello    // one, when the server has greeted
	done   chan struct{} // closed when the stream has ended

	mu    sync.Mutex
	last  uint64
	calls map[uint64]*call
}

// call is a command under way. Its messages queue here, so that one reader who
// dawdles does not hold up the others until the queue is full.
type call struct {
	replies chan reply
	gone    chan struct{} // closed when nobody reads replies any more
}

// NewClient owns the stream from here on.
func NewClient(stream io.ReadWriteCloser) *Client {
	c := &Client{
		stream: stream, out: &lineWriter{w: stream},
		hello: make(chan Hello, 1), done: make(chan struct{}),
		calls: map[uint64]*call{},
	}
	go func() {
		defer close(c.done)
		// However it ends, the callers see ErrGone; and no one can use the rest.
		_ = readLines(stream, c.handle)
		_ = stream.Close()
	}()
	return c
}

// Close ends the stream and with it every command under way.
func (c *Client) Close() error {
	err := c.stream.Close()
	<-c.done
	return err
}

// Ready waits for the server's hello. It answers one caller.
func (c *Client) Ready(ctx context.Context) (Hello, error) {
	select {
	case hello := <-c.hello:
		return hello, nil
	case <-c.done:
		return Hello{}, ErrGone
	case <-ctx.Done():
		return Hello{}, ctx.Err()
	}
}

// Exec runs one command and copies its output; a nil writer drops it. The error is ErrGone, that of
// ctx, or of a writer; a command that failed is a Result.
func (c *Client) Exec(ctx context.Context, cmd Command, stdout, stderr io.Writer) (Result, error) {
	id, call := c.begin()
	defer c.end(id, call)
	if err := c.out.send(request{ID: id, Command: &cmd}); err != nil {
		select {
		case <-c.done:
			return Result{}, ErrGone
		default:
			return Result{}, err
		}
	}
	for {
		select {
		case r := <-call.replies:
			if r.Result != nil {
				return *r.Result, nil
			}
			if err := write(r, stdout, stderr); err != nil {
				c.kill(id)
				return Result{}, fmt.Errorf("write output of command: %w", err)
			}
		case <-c.done:
			return c.drain(call, stdout, stderr)
		case <-ctx.Done():
			c.kill(id)
			return Result{}, c.awaitEnd(call, ctx.Err())
		}
	}
}

// Interrupt kills every command under way; each ends with its Result.
func (c *Client) Interrupt() {
	c.mu.Lock()
	ids := slices.Collect(maps.Keys(c.calls))
	c.mu.Unlock()
	for _, id := range ids {
		c.kill(id)
	}
}

// drain empties the queue of a call whose stream has ended: the result may have
// arrived just before.
func (c *Client) drain(call *call, stdout, stderr io.Writer) (Result, error) {
	for {
		select {
		case r := <-call.replies:
			if r.Result != nil {
				return *r.Result, nil
			}
			if err := write(r, stdout, stderr); err != nil {
				return Result{}, fmt.Errorf("write output of command: %w", err)
			}
		default:
			return Result{}, ErrGone
		}
	}
}

// awaitEnd gives a killed command the time to end, and returns why it was killed.
func (c *Client) awaitEnd(call *call, why error) error {
	grace := time.NewTimer(killGrace)
	defer grace.Stop()
	for {
		select {
		case r := <-call.replies:
			if r.Result != nil {
				return why
			}
		case <-c.done:
			return why
		case <-grace.C:
			return why
		}
	}
}

func (c *Client) begin() (uint64, *call) {
	call := &call{replies: make(chan reply, 1024), gone: make(chan struct{})}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	c.calls[c.last] = call
	return c.last, call
}

func (c *Client) end(id uint64, call *call) {
	close(call.gone)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.calls, id)
}

// kill asks for the end of a command. When the request cannot be sent the
// stream is broken, and the reader says so.
func (c *Client) kill(id uint64) { _ = c.out.send(request{ID: id, Kill: true}) }

func (c *Client) handle(line []byte) error {
	var r reply
	if err := json.Unmarshal(line, &r); err != nil {
		return fmt.Errorf("decode reply: %w", err)
	}
	if r.Hello != nil {
		select {
		case c.hello <- *r.Hello:
			return nil
		default:
			// An agent that was started anew knows nothing of our commands.
			return errors.New("the guest agent restarted")
		}
	}
	c.mu.Lock()
	call := c.calls[r.ID]
	c.mu.Unlock()
	if call == nil {
		return nil // its caller has given up
	}
	select {
	case call.replies <- r:
	case <-call.gone:
	}
	return nil
}

func write(r reply, stdout, stderr io.Writer) error {
	to, data := stdout, r.Stdout
	if len(r.Stderr) > 0 {
		to, data = stderr, r.Stderr
	}
	if to == nil {
		return nil
	}
	_, err := to.Write(data)
	return err
}
