// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go"
	"github.com/volseal/volseal/internal/fault"
)

// Every row is complete: a class, somebody who acts, and cause and hint that are sentences.
func TestTablesAreComplete(t *testing.T) {
	var rows []verdict
	for _, v := range byCode {
		rows = append(rows, v)
	}
	for _, r := range slices.Concat(stateTexts, keyStoreTexts, deniedTexts) {
		rows = append(rows, r.v)
	}
	rows = append(rows, judgeNotFound(true), judgeNotFound(false), judgeDenied(""), judgeState(""), serverFailed(500), credentialsMissing, gaveUp, tooSlow, nameUnknown, tlsFailed, networkFailed, requestInvalid, notUnderstood)
	for _, v := range rows {
		if v.class == fault.None || len(v.who) == 0 || !strings.HasSuffix(v.cause, ".") || !strings.HasSuffix(strings.TrimSuffix(v.hint, ")"), ".") && !strings.HasSuffix(v.hint, ").") {
			t.Errorf("%+v", v)
		}
	}
}

// Answers that are not KMS's JSON: what stands before KMS says nothing about the key.
func TestAnswersFromSomethingElse(t *testing.T) {
	html := http.Header{"Content-Type": {"text/html"}}
	for name, c := range map[string]struct {
		a      reply
		class  fault.Class
		reason string
	}{
		"proxy's 403":         {reply{403, html, "<html>Forbidden</html>"}, fault.Unknown, "not-understood"},
		"proxy's 502":         {reply{502, html, "<html>Bad Gateway</html>"}, fault.Unreachable, "http-502"},
		"proxy's 504":         {reply{504, html, "<html>"}, fault.Unreachable, "http-504"},
		"proxy's 429":         {reply{429, html, "<html>"}, fault.Throttled, "http-429"},
		"empty 503":           {reply{503, nil, ""}, fault.Unreachable, "http-503"},
		"empty 403":           {reply{403, nil, ""}, fault.Unknown, "UnknownError"},
		"new code with a 500": {says(500, "BrandNewException", ""), fault.Unreachable, "http-500"},
		"new code with a 429": {says(429, "BrandNewException", ""), fault.Throttled, "BrandNewException"},
		"code in the header":  {reply{400, http.Header{"X-Amzn-Errortype": {"DisabledException"}}, "{}"}, fault.Revoked, "DisabledException"},
		"code with a prefix":  {says(400, "com.amazonaws.kms#DisabledException", ""), fault.Revoked, "DisabledException"},
		"code with a suffix":  {says(400, "DisabledException:http://internal.amazon.com/coral/", ""), fault.Revoked, "DisabledException"},
		"hostile code":        {says(400, "<b>"+strings.Repeat("x", 500)+"\n", ""), fault.Unknown, "b" + strings.Repeat("x", 63)},
		"200 of HTML":         {reply{200, html, "<html>Log in</html>"}, fault.Unknown, "not-understood"},
		"200 cut off":         {reply{200, http.Header{"Content-Length": {"1000"}}, `{"KeyId":"`}, fault.Unreachable, "network"},
		"400 cut off":         {reply{400, http.Header{"Content-Length": {"1000"}}, `{"__type":"`}, fault.Unreachable, "network"},
		"redirect":            {reply{302, http.Header{"Location": {"http://127.0.0.1:1/"}}, ""}, fault.Unknown, "UnknownError"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := serve(t, c.a).Decrypt(t.Context(), testARN, testContext, blob)
			wantFault(t, err, c.class, c.reason)
		})
	}
}

// A wire that fails is unreachable, whichever way.
func TestWireFailures(t *testing.T) {
	within := func(t *testing.T, timeout time.Duration, url string) error {
		t.Helper()
		_, err := New(NewClient(config(url)), Options{Timeout: timeout}).Decrypt(t.Context(), testARN, testContext, blob)
		return err
	}
	decrypt := func(t *testing.T, url string) error {
		t.Helper()
		return within(t, time.Minute, url)
	}
	t.Run("refused", func(t *testing.T) {
		wantFault(t, decrypt(t, "http://"+closedPort(t)), fault.Unreachable, "network")
	})
	t.Run("reset", func(t *testing.T) {
		wantFault(t, decrypt(t, "http://"+listen(t, func(c net.Conn) {
			_, _ = c.Read(make([]byte, 1))
			_ = c.(*net.TCPConn).SetLinger(0)
		})), fault.Unreachable, "network")
	})
	t.Run("closed", func(t *testing.T) {
		wantFault(t, decrypt(t, "http://"+listen(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 1<<16)) })), fault.Unreachable, "network")
	})
	t.Run("silent", func(t *testing.T) {
		wantFault(t, within(t, 50*time.Millisecond, "http://"+listen(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })), fault.Unreachable, "timeout")
	})
	t.Run("slow body", func(t *testing.T) {
		wantFault(t, within(t, 200*time.Millisecond, "http://"+listen(t, func(c net.Conn) {
			_, _ = c.Read(make([]byte, 1<<16))
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
			_, _ = io.Copy(io.Discard, c)
		})), fault.Unreachable, "timeout")
	})
	t.Run("no such name", func(t *testing.T) {
		wantFault(t, decrypt(t, "http://kms.invalid"), fault.Unreachable, "dns")
	})
	t.Run("unknown authority", func(t *testing.T) {
		s := httptest.NewUnstartedServer(good(testARN, plainKey, nil))
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		s.StartTLS()
		t.Cleanup(s.Close)
		wantFault(t, decrypt(t, s.URL), fault.Unreachable, "tls")
	})
	t.Run("no TLS at all", func(t *testing.T) {
		s := httptest.NewServer(good(testARN, plainKey, nil))
		t.Cleanup(s.Close)
		wantFault(t, decrypt(t, strings.Replace(s.URL, "http:", "https:", 1)), fault.Unreachable, "tls")
	})
	t.Run("not HTTP", func(t *testing.T) {
		wantFault(t, decrypt(t, "http://"+listen(t, func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-x\r\n\r\n\r\n") })), fault.Unreachable, "network")
	})
}

func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// listen serves each connection with f, then closes it.
func listen(t *testing.T, f func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				f(c)
			}()
		}
	}()
	return l.Addr().String()
}

type failing struct{ err error }

func (f failing) Retrieve(context.Context) (aws.Credentials, error) { return aws.Credentials{}, f.err }

// No failure to get credentials is ever read as the customer's word, even where
// it contains another service's AccessDenied.
func TestCredentialFailures(t *testing.T) {
	denied := &smithy.GenericAPIError{Code: "AccessDeniedException", Message: "not authorized to perform: sts:AssumeRole"}
	for name, err := range map[string]error{
		"plain":             errors.New("no credentials"),
		"STS says no":       &smithy.OperationError{ServiceID: "STS", OperationName: "AssumeRole", Err: denied},
		"IMDS unreachable":  &smithy.OperationError{ServiceID: "ec2imds", OperationName: "GetMetadata", Err: &net.OpError{Op: "dial", Err: errors.New("no route to host")}},
		"IMDS disabled key": &smithy.OperationError{ServiceID: "ec2imds", Err: &smithy.GenericAPIError{Code: "DisabledException"}},
		"IMDS slow":         context.DeadlineExceeded,
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config("http://127.0.0.1:1")
			cfg.Credentials = aws.NewCredentialsCache(failing{err})
			_, got := New(NewClient(cfg), Options{}).Decrypt(t.Context(), testARN, testContext, blob)
			wantFault(t, got, fault.Identity, "credentials")
			if !errors.Is(got, err) {
				t.Errorf("%v hides its cause", got)
			}
			// The same without NewClient's mark, for those that have a type of their own.
			if op, is := errors.AsType[*smithy.OperationError](err); is {
				wantFault(t, Classify(t.Context(), &smithy.OperationError{ServiceID: "KMS", Err: fmt.Errorf("get identity: %w", op)}), fault.Identity, "credentials")
			}
		})
	}
}

// Slow KMS and an impatient caller look alike in the error: the context tells.
func TestTimeoutOrGivenUp(t *testing.T) {
	silent := "http://" + listen(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	c := New(NewClient(config(silent)), Options{Timeout: 50 * time.Millisecond})

	_, err := c.Decrypt(t.Context(), testARN, testContext, blob)
	wantFault(t, err, fault.Unreachable, "timeout")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = c.Decrypt(ctx, testARN, testContext, blob)
	wantFault(t, err, fault.Unreachable, "gave-up")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v hides the cancellation", err)
	}

	// A caller who leaves while credentials are fetched blames nobody.
	cfg := config(silent)
	cfg.Credentials = failing{context.Canceled}
	_, err = New(NewClient(cfg), Options{}).Decrypt(ctx, testARN, testContext, blob)
	wantFault(t, err, fault.Unreachable, "gave-up")

	// An answer that arrived counts, though the caller has left meanwhile.
	answered := &smithy.OperationError{ServiceID: "KMS", Err: &smithy.GenericAPIError{Code: "DisabledException"}}
	wantFault(t, Classify(ctx, answered), fault.Revoked, "DisabledException")
}

// Classify is total, keeps what is already classified, and reads a dry run's yes as one.
func TestClassifyEdges(t *testing.T) {
	if f := Classify(t.Context(), nil); f != nil {
		t.Error(f)
	}
	if f := Classify(t.Context(), &smithy.GenericAPIError{Code: "DryRunOperationException"}); f != nil {
		t.Error(f)
	}
	already := &fault.Error{Class: fault.Misconfigured, Reason: "memlock", Cause: "x."}
	if f := Classify(t.Context(), fmt.Errorf("wrapped: %w", already)); f != already {
		t.Error(f)
	}
	wantFault(t, Classify(t.Context(), errors.New("anything")), fault.Unknown, "not-understood")
	wantFault(t, Classify(t.Context(), &smithy.SerializationError{Err: errors.New("x")}), fault.Misconfigured, "request")
}
