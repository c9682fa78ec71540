// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
)

// What scenarios decide by must be what the server said, over a socket as over
// TCP; and no answer must ever pass for a value.
func TestQuestionsAreAnsweredByTheServer(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v", func(w http.ResponseWriter, r *http.Request) {
		if r.Host == "socket" == (r.Context().Value(http.LocalAddrContextKey).(net.Addr).Network() == "tcp") {
			http.Error(w, r.Host, http.StatusForbidden)
			return
		}
		fmt.Fprint(w, `{"phase":"Mounted","n":12345678901234567890,"yes":true,"no":null,"in":{"a":[1, 2],"two":"a\nb"},"empty":""}`)
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "# HELP up x\nup_total 3\nup{a=\"b c\"} 1\nup 0.5\n")
	})
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	overSocket := &http.Server{Handler: mux}
	go overSocket.Serve(l)
	t.Cleanup(func() { overSocket.Close() })
	overTCP := httptest.NewServer(mux)
	t.Cleanup(overTCP.Close)

	for question, want := range map[string]string{
		"json %s /v phase":             "+Mounted",
		"json %s /v n":                 "+12345678901234567890",
		"json %s /v yes":               "+true",
		"json %s /v no":                "+null",
		"json %s /v absent":            "+null",
		"json %s /v no.deeper":         "+null",
		"json %s /v in.a":              "+[1,2]",
		"json %s /v in.two":            "+a b",
		"json %s /v empty":             "+",
		"line %s /metrics up":          "+0.5",
		`line %s /metrics up{a="b c"}`: "+1",
		"line %s /metrics gone":        "+",
		"json %s /absent phase":        "-404 Not Found",
		"what %s /v phase":             `-nobody knows what "what" asks`,
	} {
		for _, where := range []string{socket, overTCP.Listener.Addr().String()} {
			if got := ask(t, fmt.Sprintf(question, where)); got != want {
				t.Errorf("%s: got %q, want %q", question, got, want)
			}
		}
	}
	for _, question := range []string{"json /absent.sock /v phase", "json " + socket + " /v phase.x", "json", "json " + socket + " /metrics up"} {
		if got := ask(t, question); got == "" || got[0] != '-' {
			t.Errorf("%s: got %q, want a refusal", question, got)
		}
	}
}

func ask(t *testing.T, question string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go newAsker().serve(t.Context(), l)
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintln(conn, question)
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return answer[:len(answer)-1]
}
