// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
)

// maxCommands bounds what runs at once on one connection.
const maxCommands = 64

// Runner runs one command to its end. It must return soon after ctx is done.
type Runner func(ctx context.Context, cmd Command, stdout, stderr io.Writer) Result

// Serve greets, then runs what the other side asks for until the stream ends or
// ctx is done; it returns after the last command has. The stream is not closed.
func Serve(ctx context.Context, stream io.ReadWriter, hello Hello, run Runner) error {
	ctx, cancel := context.WithCancel(ctx)
	s := &server{ctx: ctx, out: &lineWriter{w: stream}, run: run, kill: map[uint64]context.CancelFunc{}}
	defer s.wg.Wait()
	defer cancel() // before the wait: nobody is left to read the rest
	if err := s.out.send(reply{Hello: &hello}); err != nil {
		return err
	}
	return readLines(stream, s.handle)
}

type server struct {
	ctx context.Context
	out *lineWriter
	run Runner
	wg  sync.WaitGroup

	mu   sync.Mutex
	kill map[uint64]context.CancelFunc // of the commands under way
}

func (s *server) handle(line []byte) error {
	var req request
	if err := json.Unmarshal(line, &req); err != nil {
		return fmt.Errorf("decode request: %w", err)
	}
	switch {
	case req.Kill:
		s.mu.Lock()
		defer s.mu.Unlock()
		if kill := s.kill[req.ID]; kill != nil {
			kill()
		}
		return nil
	case req.Command == nil || len(req.Command.Argv) == 0:
		return s.refuse(req.ID, "no command")
	}
	return s.start(req.ID, *req.Command)
}

func (s *server) start(id uint64, cmd Command) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kill[id] != nil {
		return fmt.Errorf("start command: id %d is in use", id)
	}
	if len(s.kill) >= maxCommands {
		return s.refuse(id, "too many commands at once")
	}
	ctx, cancel := context.WithCancel(s.ctx)
	s.kill[id] = cancel
	s.wg.Go(func() {
		defer cancel()
		result := s.run(ctx, cmd, chunks{s.out, id, false}, chunks{s.out, id, true})
		s.mu.Lock()
		delete(s.kill, id)
		s.mu.Unlock()
		// An error means that the stream is broken: the reader sees it too.
		_ = s.out.send(reply{ID: id, Result: &result})
	})
	return nil
}

func (s *server) refuse(id uint64, why string) error {
	return s.out.send(reply{ID: id, Result: &Result{Code: CodeNotStarted, Error: why}})
}

// chunks sends what is written to it as output of one command.
type chunks struct {
	out    *lineWriter
	id     uint64
	stderr bool
}

func (c chunks) Write(p []byte) (int, error) {
	for sent := 0; sent < len(p); sent += maxChunk {
		part := p[sent:min(sent+maxChunk, len(p))]
		message := reply{ID: c.id, Stdout: part}
		if c.stderr {
			message = reply{ID: c.id, Stderr: part}
		}
		if err := c.out.send(message); err != nil {
			return sent, err
		}
	}
	return len(p), nil
}
