// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"syscall"
	"testing"
)

// TestUnanswered protects the difference between "not running" and "you may
// not", which call for different help.
func TestUnanswered(t *testing.T) {
	dial := func(errno syscall.Errno) error {
		return &url.Error{Op: "Get", URL: "http://volseal", Err: &net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", errno)}}
	}
	c := NewClient("/s")
	for _, tt := range []struct {
		err  error
		want Code
	}{
		{dial(syscall.EACCES), CodePermissionDenied},
		{dial(syscall.EPERM), CodePermissionDenied},
		{dial(syscall.ENOENT), CodeNotRunning},
		{dial(syscall.ECONNREFUSED), CodeNotRunning},
		{dial(syscall.ENOTSOCK), CodeNotRunning},
		{&url.Error{Op: "Get", URL: "u", Err: io.EOF}, CodeNotRunning},
	} {
		var e *Error
		if !errors.As(c.unanswered(t.Context(), tt.err), &e) || e.Code != tt.want || e.Hint == "" || e.Message == "" {
			t.Errorf("%v: %+v, want %s", tt.err, e, tt.want)
		}
	}
}
