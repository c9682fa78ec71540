// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// fakeQEMU answers QMP commands by script: a list of lines for each command.
// "ID" in a line becomes the command's id.
type fakeQEMU struct {
	answer func(command string) []string
	seen   chan string // "command arguments"
}

func (f *fakeQEMU) connect(t *testing.T) *monitor {
	t.Helper()
	near, far := net.Pipe()
	f.seen = make(chan string, 100)
	go f.serve(far)
	m, err := newMonitor(t.Context(), near)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.close() })
	if got := <-f.seen; got != "qmp_capabilities null" {
		t.Errorf("first command %q", got)
	}
	return m
}

func (f *fakeQEMU) serve(far net.Conn) {
	defer far.Close()
	_, _ = io.WriteString(far, `{"QMP": {"version": {}, "capabilities": ["oob"]}}`+"\r\n")
	scanner := bufio.NewScanner(far)
	for scanner.Scan() {
		var request struct {
			Execute   string
			Arguments any
			ID        json.Number
		}
		if json.Unmarshal(scanner.Bytes(), &request) != nil {
			return
		}
		arguments, _ := json.Marshal(request.Arguments)
		f.seen <- request.Execute + " " + string(arguments)
		lines := []string{`{"return": {}, "id": ID}`}
		if f.answer != nil && request.Execute != "qmp_capabilities" {
			lines = f.answer(request.Execute)
		}
		for _, line := range lines {
			if line == "" {
				return // the end of QEMU
			}
			_, _ = io.WriteString(far, strings.ReplaceAll(line, "ID", request.ID.String())+"\r\n")
		}
	}
}

// QEMU's refusal is an error with its words, and the monitor stays usable.
func TestMonitorRefusal(t *testing.T) {
	f := &fakeQEMU{answer: func(command string) []string {
		if command == "device_add" {
			return []string{`{"event": "RTC_CHANGE", "data": {"offset": 0}}`, `{"id": ID, "error": {"class": "GenericError", "desc": "Bus 'port99' not found"}}`}
		}
		return []string{`{"id": ID, "return": {}}`}
	}}
	m := f.connect(t)
	err := m.execute(t.Context(), "device_add", map[string]string{"bus": "port99"})
	if !refused(err, "port99", "not found") || refused(err, "found", "elsewhere") {
		t.Errorf("error %v", err)
	}
	if got := <-f.seen; got != `device_add {"bus":"port99"}` {
		t.Errorf("command %s", got)
	}
	if err := m.execute(t.Context(), "stop", nil); err != nil {
		t.Error(err)
	}
}

// Who waits for QEMU when it ends is told, then and later.
func TestMonitorGone(t *testing.T) {
	f := &fakeQEMU{answer: func(string) []string { return []string{""} }}
	m := f.connect(t)
	for range 2 {
		if err := m.execute(t.Context(), "stop", nil); !errors.Is(err, errQMPGone) {
			t.Errorf("error %v", err)
		}
	}
}

// A QEMU that does not answer holds nobody longer than their context.
func TestMonitorSilent(t *testing.T) {
	f := &fakeQEMU{answer: func(string) []string { return nil }}
	m := f.connect(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := m.execute(ctx, "stop", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

func TestMonitorNeedsAGreeting(t *testing.T) {
	near, far := net.Pipe()
	go func() {
		_, _ = io.WriteString(far, "qemu: no such machine\n")
		_ = far.Close()
	}()
	if _, err := newMonitor(t.Context(), near); !errors.Is(err, errQMPGone) {
		t.Errorf("error %v", err)
	}
}

// The image is released only after the guest has let go of its own disk, not of
// another one, and asking twice is no error.
func TestRemoveDiskWaitsForTheGuest(t *testing.T) {
	const deleted = `{"event": "DEVICE_DELETED", "data": {"device": "NAME", "path": "/machine"}}`
	f := &fakeQEMU{answer: func(command string) []string {
		if command == "device_del" {
			return []string{
				`{"id": ID, "error": {"class": "GenericError", "desc": "Device vol01234567 is already in the process of unplug"}}`,
				strings.ReplaceAll(deleted, "NAME", "vol76543210"), strings.ReplaceAll(deleted, "NAME", "vol01234567"),
			}
		}
		return []string{`{"id": ID, "return": {}}`}
	}}
	m := f.connect(t)
	if err := removeDisk(t.Context(), m, "vol01234567"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`device_del {"id":"vol01234567"}`, `blockdev-del {"node-name":"vol01234567"}`} {
		if got := <-f.seen; got != want {
			t.Errorf("command %s, want %s", got, want)
		}
	}
	if len(m.waiters) != 0 {
		t.Errorf("%d waiters were left", len(m.waiters))
	}
}

// A guest that never lets go is an error, and the image stays where it is.
func TestRemoveDiskGivesUp(t *testing.T) {
	f := &fakeQEMU{}
	m := f.connect(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := removeDisk(ctx, m, "vol01234567"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if got := <-f.seen; !strings.HasPrefix(got, "device_del") || len(f.seen) > 0 {
		t.Errorf("command %s, then %d more", got, len(f.seen))
	}
}
