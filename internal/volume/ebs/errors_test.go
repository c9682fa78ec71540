// SPDX-License-Identifier: Apache-2.0

package ebs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"

	"github.com/volseal/volseal/internal/fault"
)

// TestUnlistedAnswers: what no row names must still end in a class, by the HTTP status or as Unknown.
func TestUnlistedAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
		class  fault.Class
		reason string
	}{
		"unknown code":           {400, errorXML("BrandNewCode", "What&#10;now?"), fault.Unknown, "BrandNewCode"},
		"invalid parameter":      {400, errorXML("InvalidParameterValue", "Value (x) is invalid"), fault.Misconfigured, "InvalidParameterValue"},
		"missing parameter":      {400, errorXML("MissingParameter", "No volume"), fault.Misconfigured, "MissingParameter"},
		"unknown code, 5xx":      {503, errorXML("Whatever", "Sorry"), fault.Unreachable, "Whatever"},
		"throttled with a 503":   {503, errorXML("RequestLimitExceeded", "Request limit exceeded."), fault.Throttled, "RequestLimitExceeded"},
		"unknown code, 429":      {429, errorXML("Whatever", "Slow"), fault.Throttled, "Whatever"},
		"code out of its mind":   {400, errorXML("no <!-- x --> code; rm -rf", "x"), fault.Unknown, "unreadable-code"},
		"endless code":           {400, errorXML(strings.Repeat("a", 4096), "x"), fault.Unknown, "unreadable-code"},
		"load balancer's page":   {502, "<html><body>Bad Gateway</body></html>", fault.Unreachable, "UnknownError"},
		"captive portal, 403":    {403, "<!doctype html><html><p>Log in", fault.Unreachable, "garbled"},
		"captive portal, 200":    {200, "<!doctype html><html><p>Log in", fault.Unreachable, "garbled"},
		"no body, 500":           {500, "", fault.Unreachable, "UnknownError"},
		"another volume":         {200, volumesXML(volumeXML("vol-0aaaaaaaaaaaaaaaa", "available")), fault.Unknown, "answer-mismatch"},
		"no volume":              {200, volumesXML(), fault.Unknown, "answer-mismatch"},
		"twice the right volume": {200, volumesXML(volumeXML(vol, "available"), volumeXML(vol, "available")), fault.Unknown, "answer-mismatch"},
	} {
		t.Run(name, func(t *testing.T) {
			e := serve(t, func(url.Values) (int, string) { return c.status, c.body })
			_, err := adapter(t, configFor(e.url)).Volume(t.Context(), vol)
			expect(t, err, c.class, c.reason)
			if len(err.Error()) > 500 || strings.ContainsAny(err.Error(), "\x00\r\n") {
				t.Errorf("the cause is not fit for a log line: %q", err)
			}
		})
	}
}

// TestNoAnswer: whatever goes wrong on the way to EC2 is Unreachable, and never revocation.
func TestNoAnswer(t *testing.T) {
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	cut := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "4096")
		_, _ = io.WriteString(w, `<?xml version="1.0"?><DescribeVolumesResponse>`)
		panic(http.ErrAbortHandler)
	}))
	defer cut.Close()
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	defer untrusted.Close()
	noName := awshttp.NewBuildableClient().WithTransportOptions(func(tr *http.Transport) {
		tr.DialContext = func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "ec2.us-east-1.amazonaws.com", IsNotFound: true}}
		}
	})

	for name, c := range map[string]struct {
		url    string
		client aws.HTTPClient
		reason string
	}{
		"refused":       {closed.URL, nil, "network"},
		"cut off":       {cut.URL, nil, "network"},
		"untrusted TLS": {untrusted.URL, nil, "network"},
		"no such host":  {"http://ec2.test", noName, "network"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := configFor(c.url)
			cfg.HTTPClient = c.client
			_, err := adapter(t, cfg).Volume(t.Context(), vol)
			expect(t, err, fault.Unreachable, c.reason)
		})
	}
}

// TestTimeoutIsOurs: both limits end in context.DeadlineExceeded, but only ours
// says anything about EC2.
func TestTimeoutIsOurs(t *testing.T) {
	released := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-released:
		}
	}))
	defer silent.Close()
	defer close(released)

	a := adapter(t, configFor(silent.URL))
	a.timeout = 50 * time.Millisecond
	_, err := a.Volume(t.Context(), vol)
	expect(t, err, fault.Unreachable, "timeout")

	observed := 0
	a.timeout = time.Minute
	a.observe = func(string, fault.Class, time.Duration) { observed++ }
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = a.Volume(ctx, vol)
	expect(t, err, fault.Unknown, "abandoned")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("errors.Is does not find the caller's deadline in %v", err)
	}
	if observed != 0 {
		t.Error("an abandoned request was counted as EC2's failure")
	}
}

// TestNoCredentials: an identity outage is never an EC2 outage and never a
// refusal, whichever way the metadata service fails.
func TestNoCredentials(t *testing.T) {
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	noRole := httptest.NewServer(http.NotFoundHandler())
	defer noRole.Close()
	fromIMDS := func(url string) aws.CredentialsProvider {
		return ec2rolecreds.New(func(o *ec2rolecreds.Options) {
			o.Client = imds.New(imds.Options{Endpoint: url, Retryer: aws.NopRetryer{}})
		})
	}
	for name, provider := range map[string]aws.CredentialsProvider{
		"metadata unreachable": fromIMDS(closed.URL),
		"no role":              fromIMDS(noRole.URL),
		"denied by a service":  failingCredentials{fmt.Errorf("assume role: %w", &fault.Error{Class: fault.Revoked, Cause: "no"})},
	} {
		t.Run(name, func(t *testing.T) {
			e := answers(t, nil)
			cfg := configFor(e.url)
			cfg.Credentials = aws.NewCredentialsCache(provider)
			_, err := adapter(t, cfg).Volume(t.Context(), vol)
			expect(t, err, fault.Identity, "no-credentials")
		})
	}
}

// TestOneAttempt: the reconciler owns the retrying, so one call is one request.
func TestOneAttempt(t *testing.T) {
	e := serve(t, func(url.Values) (int, string) { return 503, errorXML("Unavailable", "x") })
	_, err := adapter(t, configFor(e.url)).Volume(t.Context(), vol)
	expect(t, err, fault.Unreachable, "Unavailable")
	if n := len(e.requests("DescribeVolumes")); n != 1 {
		t.Errorf("%d requests for one call", n)
	}
}

// TestUnsentRequest: what fails before anything is sent is not EC2's silence.
func TestUnsentRequest(t *testing.T) {
	cfg := configFor("http://127.0.0.1")
	cfg.Region = ""
	cfg.BaseEndpoint = nil
	cfg.HTTPClient = roundTrip(func(*http.Request) (*http.Response, error) {
		t.Error("a request without a region was sent")
		return nil, io.EOF
	})
	_, err := adapter(t, cfg).Volume(t.Context(), vol)
	expect(t, err, fault.Unknown, "unsent")
}

// TestObserver: metrics see each request once, by operation and class.
func TestObserver(t *testing.T) {
	e := answers(t, map[string]string{
		"DescribeVolumes": volumesXML(),
		"AttachVolume":    errorXML("AttachmentLimitExceeded", "x"),
	})
	var seen []string
	a := adapter(t, configFor(e.url))
	a.observe = func(operation string, class fault.Class, took time.Duration) {
		if took <= 0 {
			t.Error("no duration")
		}
		seen = append(seen, operation+" "+string(class))
	}
	expect(t, a.Attach(t.Context(), vol), fault.Misconfigured, "AttachmentLimitExceeded")
	if got := strings.Join(seen, ", "); got != "DescribeVolumes , AttachVolume misconfigured" {
		t.Errorf("observed %s", got)
	}
}

// TestNewRefuses: an adapter that lacks anything is not made.
func TestNewRefuses(t *testing.T) {
	good := configFor("http://127.0.0.1")
	bare := good
	bare.Credentials = nil
	for name, c := range map[string]struct {
		cfg  aws.Config
		opts Options
	}{
		"no instance":    {good, Options{Timeout: time.Second}},
		"no timeout":     {good, Options{InstanceID: here}},
		"no credentials": {bare, Options{InstanceID: here, Timeout: time.Second}},
	} {
		if _, err := New(c.cfg, c.opts); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
