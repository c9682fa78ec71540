// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestCrowd protects the attacks' own meaning: each reaches the socket and tells
// the answered from the refused. A crowd that never arrived would prove nothing.
func TestCrowd(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for n := 0; ; n++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			if n%2 == 0 { // every other one is turned away
				c.Read(make([]byte, 8))
				io.WriteString(c, "well")
			}
			c.Close()
		}
	}()
	c, err := crowdOf([]string{socket, "5", "1"}, strings.NewReader("ask"))
	if err != nil {
		t.Fatal(err)
	}
	c.duration = 50 * time.Millisecond
	c.each(t.Context(), c.knock)
	if c.answered.Load() == 0 || c.refused.Load() == 0 || c.connected.Load() < c.answered.Load()+c.refused.Load() {
		t.Errorf("connected %d, answered %d, refused %d", c.connected.Load(), c.answered.Load(), c.refused.Load())
	}
	for _, bad := range [][]string{{socket, "0", "1"}, {socket, "5", "3600"}, {socket, "many", "1"}, {socket}} {
		if _, err := crowdOf(bad, strings.NewReader("")); err == nil {
			t.Errorf("%q is taken for a crowd", bad)
		}
	}
}

// TestSpeak protects what the scenarios compare: all that came back, to the end.
func TestSpeak(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		c.Read(make([]byte, 8))
		io.WriteString(c, "one")
		io.WriteString(c, "two")
	}()
	var out bytes.Buffer
	if err := speak(socket, strings.NewReader("ask"), &out); err != nil || out.String() != "onetwo" {
		t.Errorf("%q, %v", out.String(), err)
	}
}
