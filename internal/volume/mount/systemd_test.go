// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/godbus/dbus/v5"
)

// pid1 speaks enough of D-Bus to be taken for systemd on its private socket.
type pid1 struct {
	t      *testing.T
	socket string
	calls  chan string

	serving sync.WaitGroup // connections

	mu     sync.Mutex
	state  string                                                     // of the manager
	units  map[string]dbus.Variant                                    // properties of every unit
	answer func(method, unit string) (result string, err *dbus.Error) // result "": the job does not end
	conns  []net.Conn
	serial uint32
	jobs   uint32
}

func newPID1(t *testing.T) *pid1 {
	t.Helper()
	p := &pid1{
		t: t, socket: filepath.Join(t.TempDir(), "private"), state: "running", calls: make(chan string, 100),
		answer: func(string, string) (string, *dbus.Error) { return "done", nil },
	}
	l, err := net.Listen("unix", p.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); p.hangUp() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.conns = append(p.conns, conn)
			p.mu.Unlock()
			p.serving.Go(func() { p.serve(conn) })
		}
	}()
	return p
}

// answers sets how requests for jobs end from now on.
func (p *pid1) answers(result string, errorName string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = func(string, string) (string, *dbus.Error) {
		if errorName != "" {
			return "", &dbus.Error{Name: errorName}
		}
		return result, nil
	}
}

// is sets the state of the manager.
func (p *pid1) is(state string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = state
}

// has sets the properties of every unit.
func (p *pid1) has(properties map[string]dbus.Variant) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.units = properties
}

func (p *pid1) facts() (state string, units map[string]dbus.Variant) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state, p.units
}

func (p *pid1) ask(method, unit string) (string, *dbus.Error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.answer(method, unit)
}

// hangUp is what clients see of systemctl daemon-reexec.
func (p *pid1) hangUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

func (p *pid1) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	if !greet(in, conn) {
		return
	}
	for {
		m, err := dbus.DecodeMessage(in)
		if err != nil {
			return
		}
		p.handle(conn, m)
	}
}

// greet is the server's side of the SASL exchange.
func greet(in *bufio.Reader, conn net.Conn) bool {
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return false
		}
		answer := "ERROR\r\n"
		switch words := strings.Fields(strings.TrimLeft(line, "\x00")); {
		case len(words) == 1 && words[0] == "AUTH":
			answer = "REJECTED EXTERNAL\r\n"
		case words[0] == "AUTH":
			answer = "OK 0123456789abcdef0123456789abcdef\r\n"
		case words[0] == "NEGOTIATE_UNIX_FD":
			answer = "AGREE_UNIX_FD\r\n"
		case words[0] == "BEGIN":
			return true
		}
		if _, err := conn.Write([]byte(answer)); err != nil {
			return false
		}
	}
}

func (p *pid1) handle(conn net.Conn, m *dbus.Message) {
	member, _ := m.Headers[dbus.FieldMember].Value().(string)
	state, units := p.facts()
	switch member {
	case "Get":
		p.reply(conn, m, dbus.MakeVariant(state))
	case "GetAll":
		p.reply(conn, m, units)
	case "Reload":
		p.calls <- "Reload"
		if _, err := p.ask(member, ""); err != nil {
			p.fail(conn, m, err)
			return
		}
		p.reply(conn, m)
	case "StartUnit", "StopUnit", "StartTransientUnit":
		p.job(conn, m, member)
	default:
		p.fail(conn, m, &dbus.Error{Name: "org.freedesktop.DBus.Error.UnknownMethod"})
	}
}

func (p *pid1) job(conn net.Conn, m *dbus.Message, member string) {
	unit, _ := m.Body[0].(string)
	mode, _ := m.Body[1].(string)
	result, derr := p.ask(member, unit)
	if derr != nil {
		p.fail(conn, m, derr)
		p.calls <- member + " " + unit + " " + mode
		return
	}
	p.mu.Lock()
	p.jobs++
	id := p.jobs
	conns := append([]net.Conn(nil), p.conns...)
	p.mu.Unlock()
	path := dbus.ObjectPath(fmt.Sprintf("/org/freedesktop/systemd1/job/%d", id))
	p.reply(conn, m, path)
	if result != "" {
		for _, c := range conns {
			p.signal(c, id, path, unit, result)
		}
	}
	p.calls <- member + " " + unit + " " + mode
}

func (p *pid1) signal(conn net.Conn, body ...any) {
	p.send(conn, &dbus.Message{Type: dbus.TypeSignal, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath:      dbus.MakeVariant(dbus.ObjectPath("/org/freedesktop/systemd1")),
		dbus.FieldInterface: dbus.MakeVariant("org.freedesktop.systemd1.Manager"),
		dbus.FieldMember:    dbus.MakeVariant("JobRemoved"),
		dbus.FieldSender:    dbus.MakeVariant("org.freedesktop.systemd1"),
	}})
}

func (p *pid1) reply(conn net.Conn, to *dbus.Message, body ...any) {
	p.send(conn, &dbus.Message{Type: dbus.TypeMethodReply, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldReplySerial: dbus.MakeVariant(to.Serial()),
	}})
}

func (p *pid1) fail(conn net.Conn, to *dbus.Message, e *dbus.Error) {
	p.send(conn, &dbus.Message{Type: dbus.TypeError, Body: e.Body, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldReplySerial: dbus.MakeVariant(to.Serial()),
		dbus.FieldErrorName:   dbus.MakeVariant(e.Name),
	}})
}

func (p *pid1) send(conn net.Conn, m *dbus.Message) {
	if len(m.Body) > 0 {
		m.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(m.Body...))
	}
	var b bytes.Buffer
	if err := m.EncodeTo(&b, binary.LittleEndian); err != nil {
		p.t.Errorf("encode: %v", err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.serial++
	binary.LittleEndian.PutUint32(b.Bytes()[8:12], p.serial) // the library leaves it to the connection
	_, _ = conn.Write(b.Bytes())
}
