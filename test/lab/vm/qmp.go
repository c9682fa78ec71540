// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
)

// errQMPGone is the end of QEMU, or of its monitor.
var errQMPGone = errors.New("QEMU is gone")

// maxQMPLine bounds one message of QEMU's.
const maxQMPLine = 1 << 20

// monitor speaks QMP, QEMU's control protocol.
type monitor struct {
	stream io.ReadWriteCloser
	done   chan struct{} // closed when the stream has ended

	sending sync.Mutex // a message at a time

	mu      sync.Mutex
	last    int
	calls   map[int]chan qmpMessage
	waiters map[*waiter]struct{}
}

// waiter collects the one event that somebody waits for.
type waiter struct {
	event  string
	device string
	seen   chan struct{}
}

// qmpMessage is whatever QEMU says: a greeting, a return, an error or an event.
type qmpMessage struct {
	QMP    json.RawMessage `json:"QMP"`
	ID     int             `json:"id"`
	Return json.RawMessage `json:"return"`
	Error  *qmpError       `json:"error"`
	Event  string          `json:"event"`
	Data   struct {
		Device string `json:"device"`
	} `json:"data"`
}

// qmpError is a refusal by QEMU. Its class hardly ever says more than its text.
type qmpError struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

func (e *qmpError) Error() string { return e.Desc }

// newMonitor owns the stream; it waits for QEMU's greeting and ends negotiation.
func newMonitor(ctx context.Context, stream io.ReadWriteCloser) (*monitor, error) {
	m := &monitor{stream: stream, done: make(chan struct{}), calls: map[int]chan qmpMessage{}, waiters: map[*waiter]struct{}{}}
	greeted := make(chan struct{})
	go m.read(greeted)
	select {
	case <-greeted:
	case <-m.done:
		return nil, fmt.Errorf("connect to QEMU: %w", errQMPGone)
	case <-ctx.Done():
		_ = m.close()
		return nil, fmt.Errorf("connect to QEMU: %w", ctx.Err())
	}
	if err := m.execute(ctx, "qmp_capabilities", nil); err != nil {
		_ = m.close()
		return nil, err
	}
	return m, nil
}

func (m *monitor) close() error {
	err := m.stream.Close()
	<-m.done
	return err
}

// execute runs one command of QMP.
func (m *monitor) execute(ctx context.Context, command string, arguments any) error {
	id, answer := m.begin()
	defer m.forget(id)
	if err := m.send(id, command, arguments); err != nil {
		return fmt.Errorf("QMP %s: %w", command, err)
	}
	select {
	case message := <-answer:
		if message.Error != nil {
			return fmt.Errorf("QMP %s: %w", command, message.Error)
		}
		return nil
	case <-m.done:
		return fmt.Errorf("QMP %s: %w", command, errQMPGone)
	case <-ctx.Done():
		return fmt.Errorf("QMP %s: %w", command, ctx.Err())
	}
}

func (m *monitor) begin() (int, <-chan qmpMessage) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last++
	answer := make(chan qmpMessage, 1)
	m.calls[m.last] = answer
	return m.last, answer
}

func (m *monitor) forget(id int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.calls, id)
}

func (m *monitor) send(id int, command string, arguments any) error {
	line, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        int    `json:"id"`
	}{command, arguments, id})
	if err != nil {
		return err
	}
	m.sending.Lock()
	defer m.sending.Unlock()
	if _, err := m.stream.Write(append(line, '\n')); err != nil {
		return errors.Join(errQMPGone, err)
	}
	return nil
}

// expect begins to wait for an event about a device, before whatever causes it.
// The channel is closed when it has been seen; forget must be called.
func (m *monitor) expect(event, device string) (seen <-chan struct{}, forget func()) {
	w := &waiter{event: event, device: device, seen: make(chan struct{})}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waiters[w] = struct{}{}
	return w.seen, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.waiters, w)
	}
}

func (m *monitor) read(greeted chan<- struct{}) {
	defer close(m.done)
	defer m.stream.Close()
	scanner := bufio.NewScanner(m.stream)
	scanner.Buffer(nil, maxQMPLine)
	for scanner.Scan() {
		var message qmpMessage
		if json.Unmarshal(scanner.Bytes(), &message) != nil {
			return // not QMP: whoever waits is told that QEMU is gone
		}
		switch {
		case message.QMP != nil && greeted != nil:
			close(greeted)
			greeted = nil
		case message.Event != "":
			m.tell(message)
		default:
			m.answer(message)
		}
	}
}

func (m *monitor) answer(message qmpMessage) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if call := m.calls[message.ID]; call != nil {
		call <- message // one answer a call, and room for it
		delete(m.calls, message.ID)
	}
}

func (m *monitor) tell(message qmpMessage) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for w := range m.waiters {
		if w.event == message.Event && w.device == message.Data.Device {
			close(w.seen)
			delete(m.waiters, w)
		}
	}
}

// refused reports whether QEMU refused with a text that contains all of words.
func refused(err error, words ...string) bool {
	var e *qmpError
	if !errors.As(err, &e) {
		return false
	}
	for _, word := range words {
		if !strings.Contains(e.Desc, word) {
			return false
		}
	}
	return true
}
