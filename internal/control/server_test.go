// SPDX-License-Identifier: Apache-2.0

package control_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/volseal/volseal/internal/control"
	"github.com/volseal/volseal/internal/control/controltest"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// as gives every peer the same permission.
func as(p control.Permission) func(control.Peer) control.Permission {
	return func(control.Peer) control.Permission { return p }
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func agentWith(volumes ...volume.Status) *controltest.Agent {
	a := &controltest.Agent{IsHealthy: true, IsReady: true}
	a.Set(volume.Snapshot{Volumes: volumes})
	return a
}

func orders() volume.Status {
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return volume.Status{Name: "orders", Phase: volume.Sealed, Since: &since, Wish: volume.WishMounted}
}

// raw makes one request without the client's manners.
func raw(t *testing.T, socket, method, target, body string, header map[string]string) (int, control.Error, string) {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequest(method, "http://volseal"+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		if k == "Host" {
			req.Host = v
		}
		req.Header.Set(k, v)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var e control.Error
	json.Unmarshal(text, &e)
	return resp.StatusCode, e, string(text)
}

// TestPermissionTable protects the whole matrix of who may do what: a new route
// must be entered here, with its permission, before it can be served.
func TestPermissionTable(t *testing.T) {
	want := map[string]control.Permission{
		"GET /v1/volumes":                  control.Read,
		"GET /v1/volumes/orders":           control.Read,
		"GET /v1/healthz":                  control.Read,
		"GET /v1/readyz":                   control.Read,
		"GET /v1/nothing":                  control.Read, // even that a path does not exist
		"PUT /v1/volumes":                  control.Read,
		"OPTIONS /v1/volumes":              control.Read,
		"POST /v1/volumes/orders/unlock":   control.Operate,
		"POST /v1/volumes/orders/lock":     control.Operate,
		"POST /v1/volumes/orders/reattach": control.Operate,
		"POST /v1/volumes/orders/release":  control.Operate,
		"POST /v1/volumes/absent/release":  control.Operate,
		"POST /v1/cache/flush":             control.Operate,
		"POST /v1/reload":                  control.Operate,
		"GET /v1/doctor":                   control.Operate,
		"POST /v1/keys/check":              control.Operate,
		"POST /v1/volumes/orders/init":     control.Destroy,
		"POST /v1/volumes/orders/create":   control.Destroy,
		"POST /v1/volumes/orders/restore":  control.Destroy,

		"POST /v1/volumes/orders/accept-header":  control.Destroy,
		"POST /v1/volumes/orders/rotate":         control.Destroy,
		"POST /v1/volumes/orders/header/verify":  control.Operate,
		"POST /v1/volumes/orders/header/backup":  control.Operate,
		"POST /v1/volumes/orders/header/restore": control.Destroy,
	}
	for _, verb := range control.Verbs() {
		request := map[string]string{
			"cache-flush": "POST /v1/cache/flush", "reload": "POST /v1/reload", "key-check": "POST /v1/keys/check", "doctor": "GET /v1/doctor",
		}[verb]
		if request == "" {
			request = "POST /v1/volumes/orders/" + strings.Replace(verb, "header-", "header/", 1)
		}
		if _, ok := want[request]; !ok {
			t.Errorf("the verb %s has no row in this table", verb)
		}
	}
	for _, may := range []control.Permission{control.None, control.Read, control.Operate, control.Destroy} {
		socket := controltest.Serve(t, control.Options{Agent: agentWith(orders()), Permit: as(may), Log: discard()})
		for request, needs := range want {
			method, path, _ := strings.Cut(request, " ")
			status, e, _ := raw(t, socket, method, path, "", nil)
			denied := status == http.StatusForbidden && e.Code == control.CodePermissionDenied && e.Hint != ""
			if denied != (may < needs) {
				t.Errorf("%s with %s: status %d %q, needs %s", request, may, status, e.Code, needs)
			}
		}
	}
}

// TestNobodyByDefault protects the default: a policy that was never filled in,
// or whose groups do not exist, admits root alone.
func TestNobodyByDefault(t *testing.T) {
	absent, err := control.NewPolicy("no-such-group-here", "nor-this-one")
	if err == nil {
		t.Error("missing groups were not reported")
	}
	for name, p := range map[string]control.Policy{"zero": {}, "absent": absent} {
		if got := p.Permit(control.Peer{UID: 1000, GID: 1000, Groups: []uint32{0, 4, 65534}}); got != control.None {
			t.Errorf("%s policy permits %s to a stranger", name, got)
		}
		if got := p.Permit(control.Peer{}); got != control.Destroy {
			t.Errorf("%s policy permits %s to root", name, got)
		}
	}
}

// TestPolicyGroups protects the meaning of the two groups.
func TestPolicyGroups(t *testing.T) {
	p, err := control.NewPolicy("4001", "4002")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		peer control.Peer
		want control.Permission
	}{
		{"stranger", control.Peer{UID: 1, GID: 1, Groups: []uint32{1, 2}}, control.None},
		{"reader by primary group", control.Peer{UID: 1, GID: 4001}, control.Read},
		{"reader by another group", control.Peer{UID: 1, GID: 1, Groups: []uint32{9, 4001}}, control.Read},
		{"operator", control.Peer{UID: 1, GID: 1, Groups: []uint32{4002}}, control.Operate},
		{"both", control.Peer{UID: 1, GID: 4001, Groups: []uint32{4002}}, control.Operate},
		{"the root group is not root", control.Peer{UID: 1, GID: 0}, control.None},
	} {
		if got := p.Permit(tt.peer); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	if _, err := control.NewPolicy("65534", ""); err == nil {
		t.Error("the overflow id was taken for a group")
	}
}

// TestRefusals protects against requests that nobody should send: each has its
// own clear answer, and none reaches the agent.
func TestRefusals(t *testing.T) {
	agent := agentWith(orders())
	socket := controltest.Serve(t, control.Options{Agent: agent, Permit: as(control.Destroy), Log: discard()})
	json := map[string]string{"Content-Type": "application/json"}
	for _, tt := range []struct {
		name, method, path, body string
		header                   map[string]string
		status                   int
		code                     control.Code
	}{
		{"unknown path", "GET", "/v2/volumes", "", nil, 404, control.CodeNotFound},
		{"root path", "GET", "/", "", nil, 404, control.CodeNotFound},
		{"unclean path", "GET", "/v1//volumes", "", nil, 404, control.CodeNotFound},
		{"path that climbs", "GET", "/v1/volumes/../volumes", "", nil, 404, control.CodeNotFound},
		{"unknown verb", "POST", "/v1/volumes/orders/explode", "", nil, 404, control.CodeNotFound},
		{"wrong method", "DELETE", "/v1/volumes/orders", "", nil, 405, control.CodeMethodNotAllowed},
		{"verb by GET", "GET", "/v1/volumes/orders/lock", "", nil, 405, control.CodeMethodNotAllowed},
		{"no such volume", "POST", "/v1/volumes/absent/lock", "", nil, 404, control.CodeNoSuchVolume},
		{"escaped name", "POST", "/v1/volumes/or%2Fders/lock", "", nil, 404, control.CodeNoSuchVolume},
		{"unknown field", "POST", "/v1/volumes/orders/lock", `{"force":true}`, json, 400, control.CodeBadRequest},
		{"a size in words", "POST", "/v1/volumes/orders/create", `{"size_gib":"ten"}`, json, 400, control.CodeBadRequest},
		{"half a GiB", "POST", "/v1/volumes/orders/create", `{"size_gib":0.5}`, json, 400, control.CodeBadRequest},
		{"a huge size", "POST", "/v1/volumes/orders/create", `{"size_gib":99999999999999999999}`, json, 400, control.CodeBadRequest},
		{"a verb within", "POST", "/v1/volumes/orders/create", `{"size_gib":1,"verb":"init"}`, json, 400, control.CodeBadRequest},
		{"not an object", "POST", "/v1/volumes/orders/lock", `null`, json, 400, control.CodeBadRequest},
		{"trailing data", "POST", "/v1/volumes/orders/lock", `{} {}`, json, 400, control.CodeBadRequest},
		{"a key by another name", "POST", "/v1/keys/check", `{"key":"x"}`, json, 400, control.CodeBadRequest},
		{"two keys", "POST", "/v1/keys/check", `{"arn":["x","y"]}`, json, 400, control.CodeBadRequest},
		{"an argument to what takes none", "GET", "/v1/doctor", `{"arn":"x"}`, json, 400, control.CodeBadRequest},
		{"a form", "POST", "/v1/volumes/orders/lock", `{}`, map[string]string{"Content-Type": "text/plain"}, 415, control.CodeUnsupportedMedia},
		{"large body", "POST", "/v1/volumes/orders/lock", strings.Repeat(" ", 65<<10), json, 413, control.CodeTooLarge},
		{"unknown parameter", "POST", "/v1/volumes/orders/lock?force=1", "", nil, 400, control.CodeBadRequest},
		{"parameter twice", "GET", "/v1/volumes?wait=1s&wait=2s", "", nil, 400, control.CodeBadRequest},
		{"endless wait", "GET", "/v1/volumes?wait=24h", "", nil, 400, control.CodeBadRequest},
		{"negative wait", "GET", "/v1/volumes?wait=-1s", "", nil, 400, control.CodeBadRequest},
		{"a page's request", "POST", "/v1/volumes/orders/lock", "", map[string]string{"Origin": "https://example.com"}, 403, control.CodePermissionDenied},
		{"a browser", "GET", "/v1/volumes", "", map[string]string{"Sec-Fetch-Site": "none"}, 403, control.CodePermissionDenied},
		{"a rebound name", "GET", "/v1/volumes", "", map[string]string{"Host": "evil.example.com"}, 403, control.CodePermissionDenied},
		{"a forwarded port", "GET", "/v1/volumes", "", map[string]string{"Host": "localhost:8080"}, 403, control.CodePermissionDenied},
	} {
		status, e, text := raw(t, socket, tt.method, tt.path, tt.body, tt.header)
		if status != tt.status || e.Code != tt.code || e.Message == "" {
			t.Errorf("%s: status %d, want %d %s: %s", tt.name, status, tt.status, tt.code, text)
		}
	}
	if calls := agent.Calls(); len(calls) != 0 {
		t.Errorf("refused requests reached the agent: %v", calls)
	}
}

// TestArguments protects that a verb's arguments arrive as they were sent, and
// that what the domain thinks of them is the caller's mistake.
func TestArguments(t *testing.T) {
	agent := agentWith(orders())
	agent.OnDo = func(_ *controltest.Agent, c controltest.Call, _ uint64) error { return c.Order.Validate() }
	c := client(t, controltest.Serve(t, control.Options{Agent: agent, Permit: as(control.Destroy), Log: discard()}))
	for _, order := range []volume.Order{
		{Verb: volume.VerbCreate, SizeGiB: 10},
		{Verb: volume.VerbRestore, Snapshot: "snap-0123456789abcdef0"},
		{Verb: volume.VerbRestore, Snapshot: "snap-0123456789abcdef0", KeyARN: "arn:aws:kms:us-east-1:111111111111:key/aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"},
	} {
		if _, err := c.Do(t.Context(), "orders", order); err != nil {
			t.Errorf("%+v: %v", order, err)
		}
		if calls := agent.Calls(); calls[len(calls)-1].Order != order {
			t.Errorf("%+v arrived as %+v", order, calls[len(calls)-1].Order)
		}
	}
	_, err := c.Do(t.Context(), "orders", volume.Order{Verb: volume.VerbLock, SizeGiB: 10})
	if codeOf(err) != control.CodeBadRequest || err.Error() != "size_gib is no argument of lock." {
		t.Errorf("an argument of another verb: %v", err)
	}
}

// TestVerbs protects that a verb is a recorded wish, told with who asked.
func TestVerbs(t *testing.T) {
	agent := agentWith(orders())
	socket := controltest.Serve(t, control.Options{Agent: agent, Permit: as(control.Destroy), Log: discard()})
	verbs := []string{"init", "unlock", "lock", "reattach", "release", "accept-header"}
	for _, verb := range verbs {
		status, _, text := raw(t, socket, "POST", "/v1/volumes/orders/"+verb, "{}", map[string]string{"Content-Type": "application/json"})
		if status != http.StatusAccepted {
			t.Errorf("%s: %d %s", verb, status, text)
		}
	}
	calls := agent.Calls()
	if len(calls) != len(verbs) {
		t.Fatalf("calls: %v", calls)
	}
	for i, c := range calls {
		if c.Name != "orders" || string(c.Verb) != verbs[i] || int(c.By.PID) != os.Getpid() || int(c.By.UID) != os.Getuid() {
			t.Errorf("call %d: %+v", i, c)
		}
	}
}

// TestErrorsFromAgent protects the translation of the agent's errors into
// codes, from which the CLI's exit codes follow.
func TestErrorsFromAgent(t *testing.T) {
	for _, tt := range []struct {
		err    error
		status int
		want   control.Error
	}{
		{&volume.ConflictError{Message: "m", Hint: "h"}, 409, control.Error{Code: control.CodeConflict, Message: "m", Hint: "h", Volume: "orders"}},
		{&fault.Error{Class: fault.Integrity, Cause: "c", Hint: "h"}, 422, control.Error{Code: control.CodeFailed, Message: "c", Hint: "h", Volume: "orders", Class: fault.Integrity}},
		{&fault.Error{Class: fault.Unreachable, Cause: "c"}, 503, control.Error{Code: control.CodeFailed, Message: "c", Volume: "orders", Class: fault.Unreachable}},
		{&control.Error{Code: control.CodeInvalidConfig, Message: "m"}, 422, control.Error{Code: control.CodeInvalidConfig, Message: "m", Volume: "orders"}},
		{context.DeadlineExceeded, 503, control.Error{Code: control.CodeUnavailable, Message: "The request was cut short.", Hint: "Try again.", Volume: "orders"}},
		{errors.New("odd"), 500, control.Error{Code: control.CodeInternal, Message: "odd", Volume: "orders", Class: fault.Unknown}},
	} {
		agent := agentWith(orders())
		agent.OnDo = func(*controltest.Agent, controltest.Call, uint64) error { return tt.err }
		socket := controltest.Serve(t, control.Options{Agent: agent, Permit: as(control.Destroy), Log: discard()})
		status, e, _ := raw(t, socket, "POST", "/v1/volumes/orders/unlock", "", nil)
		if diff := cmp.Diff(tt.want, e); diff != "" || status != tt.status {
			t.Errorf("%v: status %d, want %d; %s", tt.err, status, tt.status, diff)
		}
	}
}

// TestPanicIsContained protects the agent from a bug in one answer.
func TestPanicIsContained(t *testing.T) {
	agent := agentWith(orders())
	agent.OnDo = func(*controltest.Agent, controltest.Call, uint64) error { panic("bug") }
	socket := controltest.Serve(t, control.Options{Agent: agent, Permit: as(control.Destroy), Log: discard()})
	for range 2 {
		status, e, _ := raw(t, socket, "POST", "/v1/volumes/orders/unlock", "", nil)
		if status != 500 || e.Code != control.CodeInternal || strings.Contains(e.Message, "bug") {
			t.Errorf("status %d, %+v", status, e)
		}
	}
	if status, _, _ := raw(t, socket, "GET", "/v1/healthz", "", nil); status != 200 {
		t.Errorf("after a panic: %d", status)
	}
}

// TestAudit protects the record of who asked for what: one line for each verb,
// refused ones too, none for reading; and the count beside it.
func TestAudit(t *testing.T) {
	var (
		mu      sync.Mutex
		log     bytes.Buffer
		results []string
	)
	agent := agentWith(orders())
	permit := as(control.Operate)
	socket := controltest.Serve(t, control.Options{
		Agent: agent, Permit: permit,
		Log: slog.New(slog.NewJSONHandler(&log, nil)),
		Observe: func(verb, result string) {
			mu.Lock()
			defer mu.Unlock()
			results = append(results, verb+" "+result)
		},
	})
	for _, path := range []string{"/v1/volumes/orders/lock", "/v1/volumes/absent/lock", "/v1/volumes/orders/init", "/v1/reload"} {
		raw(t, socket, "POST", path, "", nil)
	}
	raw(t, socket, "GET", "/v1/volumes", "", nil)
	mu.Lock()
	defer mu.Unlock()
	want := []string{"lock accepted", "lock refused", "init denied", "reload accepted"}
	if diff := cmp.Diff(want, results); diff != "" {
		t.Errorf("results: %s", diff)
	}
	var lines []map[string]any
	for line := range strings.Lines(log.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		delete(m, "time")
		lines = append(lines, m)
	}
	pid, uid := float64(os.Getpid()), float64(os.Getuid())
	wantLines := []map[string]any{
		{"level": "INFO", "msg": "operator request", "verb": "lock", "volume": "orders", "pid": pid, "uid": uid, "outcome": "accepted"},
		{"level": "WARN", "msg": "operator request", "verb": "lock", "volume": "absent", "pid": pid, "uid": uid, "outcome": "no_such_volume"},
		{"level": "WARN", "msg": "operator request", "verb": "init", "volume": "orders", "pid": pid, "uid": uid, "outcome": "permission_denied"},
		{"level": "INFO", "msg": "operator request", "verb": "reload", "volume": "", "pid": pid, "uid": uid, "outcome": "accepted"},
	}
	if diff := cmp.Diff(wantLines, lines); diff != "" {
		t.Errorf("audit: %s", diff)
	}
}

// TestAuditOfDenied protects the journal: whoever may do nothing cannot fill it,
// and is counted all the same.
func TestAuditOfDenied(t *testing.T) {
	var (
		mu     sync.Mutex
		log    bytes.Buffer
		denied int
	)
	socket := controltest.Serve(t, control.Options{
		Agent: agentWith(orders()), Permit: as(control.None),
		Log: slog.New(slog.NewJSONHandler(&log, nil)),
		Observe: func(_, result string) {
			mu.Lock()
			defer mu.Unlock()
			if result == "denied" {
				denied++
			}
		},
	})
	const requests = 40
	for range requests {
		raw(t, socket, "POST", "/v1/volumes/orders/lock", "", nil)
	}
	mu.Lock()
	defer mu.Unlock()
	if n := strings.Count(log.String(), "operator request"); n == 0 || n > requests/2 || denied != requests {
		t.Errorf("%d lines and a count of %d for %d requests", n, denied, requests)
	}
}

// TestHealth protects the two probes' codes.
func TestHealth(t *testing.T) {
	agent := agentWith()
	agent.IsReady = false
	socket := controltest.Serve(t, control.Options{Agent: agent, Permit: as(control.Read), Log: discard()})
	if status, _, _ := raw(t, socket, "GET", "/v1/healthz", "", nil); status != 200 {
		t.Errorf("healthz: %d", status)
	}
	if status, e, _ := raw(t, socket, "GET", "/v1/readyz", "", nil); status != 503 || e.Code != control.CodeNotReady {
		t.Errorf("readyz: %d %s", status, e.Code)
	}
}

// TestEmptyLists protects scripts that iterate: no volumes is [], never null.
func TestEmptyLists(t *testing.T) {
	socket := controltest.Serve(t, control.Options{Agent: &controltest.Agent{}, Permit: as(control.Read), Log: discard()})
	_, _, text := raw(t, socket, "GET", "/v1/volumes", "", nil)
	if want := `{"volumes":[],"keys":[]}` + "\n"; text != want {
		t.Errorf("%s, want %s", text, want)
	}
}
