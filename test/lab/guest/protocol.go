// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Bounds of the protocol. A script that is passed as stdin must fit in a line.
const (
	maxLine  = 8 << 20  // bytes, either way
	maxChunk = 32 << 10 // bytes of output in one message
)

// Command is what to run. Every command has a time limit: a process in D state
// ignores SIGKILL and would otherwise hold its caller for ever.
type Command struct {
	Argv    []string      `json:"argv"`
	Env     []string      `json:"env,omitempty"` // K=V, added to the agent's own
	Dir     string        `json:"dir,omitempty"`
	Stdin   []byte        `json:"stdin,omitempty"`
	Timeout time.Duration `json:"timeout"` // nanoseconds; 0: one minute
}

// Result is how a command ended. At most one of Signal, TimedOut, Down and
// Error says more than Code does.
type Result struct {
	Code     int           `json:"code"`             // exit status; 128+n for a signal, 124 when out of time, 127 when not started
	Signal   string        `json:"signal,omitempty"` // what killed it
	TimedOut bool          `json:"timed_out,omitempty"`
	Down     bool          `json:"down,omitempty"`  // the machine went down, as somebody asked
	Error    string        `json:"error,omitempty"` // why it was not run, or not to its end
	Duration time.Duration `json:"duration"`        // nanoseconds, by the guest's clock
}

// Exit codes that no program of the guest chose, as timeout(1) and sh(1) use them.
const (
	CodeTimedOut   = 124
	CodeNotStarted = 127
)

// Hello is the first message of a server, once per connection.
type Hello struct {
	BootID string `json:"boot_id"`
}

// request goes to the server: a command to start, or the wish to kill one.
type request struct {
	ID      uint64   `json:"id"`
	Command *Command `json:"command,omitempty"`
	Kill    bool     `json:"kill,omitempty"`
}

// reply comes from the server: its hello, a piece of output, or a result.
type reply struct {
	Hello  *Hello  `json:"hello,omitempty"`
	ID     uint64  `json:"id,omitempty"`
	Stdout []byte  `json:"stdout,omitempty"`
	Stderr []byte  `json:"stderr,omitempty"`
	Result *Result `json:"result,omitempty"`
}

// lineWriter sends one message a line, from several goroutines.
type lineWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lineWriter) send(message any) error {
	line, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	if len(line) >= maxLine {
		return fmt.Errorf("send message: %d bytes are more than a line may have", len(line))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.w.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("send message: %w", err)
	}
	return nil
}

// readLines hands every line of r to handle until r ends, a line is too long or
// handle refuses one. The end of r is no error.
func readLines(r io.Reader, handle func(line []byte) error) error {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(make([]byte, 64<<10), maxLine)
	for scanner.Scan() {
		if len(scanner.Bytes()) == 0 {
			continue
		}
		if err := handle(scanner.Bytes()); err != nil {
			return err
		}
	}
	if err := scanner.Err(); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		return fmt.Errorf("read message: %w", err)
	}
	return nil
}
