// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
)

// Policies compare these ARNs: their form is what AWS prints.
func TestPrincipals(t *testing.T) {
	if got := host.ARN; got != "arn:aws:sts::916150859591:assumed-role/volseal-host/i-0123456789abcdef0" {
		t.Errorf("session ARN %s", got)
	}
	if got := host.RoleARN(); got != "arn:aws:iam::916150859591:role/volseal-host" {
		t.Errorf("role ARN %s", got)
	}
	if root := Root("111111111111"); !root.IsRoot() || root.RoleARN() != "" || host.IsRoot() {
		t.Errorf("root is mistaken: %+v", root)
	}
}

func TestParseARN(t *testing.T) {
	const key = "arn:aws:kms:us-east-1:111111111111:key/a:b"
	a, ok := ParseARN(key)
	if !ok || a.Service != "kms" || a.Region != "us-east-1" || a.Account != "111111111111" || a.Resource != "key/a:b" || a.String() != key {
		t.Errorf("ParseARN(%q) = %+v, %v", key, a, ok)
	}
	for _, s := range []string{"", "arn", "arn:aws:kms:us-east-1:111111111111", "urn:aws:kms:us-east-1:111111111111:key/a", "arn:aws:kms:us-east-1:111111111111:"} {
		if a, ok := ParseARN(s); ok {
			t.Errorf("ParseARN(%q) = %+v", s, a)
		}
	}
}

// A mark taken before an action delimits exactly the calls of that action, also
// after the log has dropped its oldest half.
func TestCallLogMarks(t *testing.T) {
	l := NewCallLog()
	l.Add(Call{Operation: "before"})
	mark := l.Mark()
	l.Add(Call{Operation: "after"})
	if got := l.Since(mark); len(got) != 1 || got[0].Operation != "after" || got[0].Time.IsZero() {
		t.Fatalf("Since(mark) = %+v", got)
	}
	for range maxCalls {
		l.Add(Call{})
	}
	mark = l.Mark()
	l.Add(Call{Operation: "last"})
	if got := l.Since(mark); len(got) != 1 || got[0].Operation != "last" {
		t.Fatalf("Since(mark) after the bound = %d calls", len(got))
	}
	if got := len(l.Since(0)); got > maxCalls {
		t.Fatalf("the log holds %d calls", got)
	}
	if got := l.Since(mark + 100); len(got) != 0 {
		t.Fatalf("Since(future) = %+v", got)
	}
}

// Faults last exactly as long as they were asked to, and only in their service.
func TestFaults(t *testing.T) {
	f := NewFaults()
	set := func(spec string) {
		t.Helper()
		if err := f.Set("kms", spec); err != nil {
			t.Fatal(err)
		}
	}
	next := func(want string, status int) {
		t.Helper()
		if e := f.Next("kms"); e == nil && want != "" || e != nil && (e.Code != want || e.Status != status || e.Message == "") {
			t.Fatalf("Next = %+v, want %s", e, want)
		}
	}
	next("", 0)
	set("throttle")
	next("ThrottlingException", 400)
	next("ThrottlingException", 400)
	if e := f.Next("ec2"); e != nil {
		t.Fatalf("another service got %v", e)
	}
	set("error=KMSInternalException:2")
	next("KMSInternalException", 500)
	next("KMSInternalException", 500)
	next("", 0)
	set("error=DependencyTimeoutException")
	next("DependencyTimeoutException", 503)
	set("off")
	next("", 0)
	set("error=KMSInvalidStateException:1:some text: with a colon")
	if e := f.Next("kms"); e == nil || e.Message != "some text: with a colon" {
		t.Fatalf("message: %+v", e)
	}
	set("error=NewCodeException:0")
	next("NewCodeException", 400)
	for _, bad := range []string{"", "error=", "error=X:many", "error=X:-1", "latency=1s", "blackhole"} {
		if f.Set("kms", bad) == nil {
			t.Errorf("Set(%q) is accepted", bad)
		}
	}
}

func TestReadBodyIsBounded(t *testing.T) {
	r := httptest.NewRequest("POST", "/", strings.NewReader("12345"))
	if body, err := ReadBody(r, 5); err != nil || string(body) != "12345" {
		t.Fatalf("ReadBody = %q, %v", body, err)
	}
	var e *Error
	if _, err := ReadBody(httptest.NewRequest("POST", "/", strings.NewReader("123456")), 5); !errors.As(err, &e) || e.Status != 413 {
		t.Fatalf("too long: %v", err)
	}
	if _, err := ReadBody(httptest.NewRequest("POST", "/", iotest.ErrReader(errors.New("cut off"))), 5); err == nil {
		t.Fatal("a broken body is read")
	}
}

func TestUUIDsDiffer(t *testing.T) {
	a, b := NewUUID(), NewUUID()
	if a == b || len(a) != 36 || a[14] != '4' || strings.Count(a, "-") != 4 {
		t.Errorf("%s %s", a, b)
	}
}
