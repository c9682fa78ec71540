// SPDX-License-Identifier: Apache-2.0

package ebs

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/volseal/volseal/internal/fault"
)

const (
	here  = "i-0123456789abcdef0"
	there = "i-0fedcba9876543210"
	vol   = "vol-0123456789abcdef0"
)

// endpoint answers EC2 requests with what a test lays down for each action, and
// records what was asked.
type endpoint struct {
	t      *testing.T
	url    string
	answer func(form url.Values) (status int, body string)

	mu    sync.Mutex
	asked []url.Values
}

func serve(t *testing.T, answer func(url.Values) (int, string)) *endpoint {
	t.Helper()
	e := &endpoint{t: t, answer: answer}
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	e.url = server.URL
	return e
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		e.t.Errorf("read request: %v", err)
	}
	e.mu.Lock()
	e.asked = append(e.asked, r.PostForm)
	e.mu.Unlock()
	status, body := e.answer(r.PostForm)
	w.Header().Set("Content-Type", "text/xml;charset=UTF-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body))
}

// requests returns the requests of one action, so far.
func (e *endpoint) requests(action string) []url.Values {
	e.mu.Lock()
	defer e.mu.Unlock()
	var found []url.Values
	for _, form := range e.asked {
		if form.Get("Action") == action {
			found = append(found, form)
		}
	}
	return found
}

func configFor(url string) aws.Config {
	return aws.Config{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(url),
		Credentials:  credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
	}
}

func adapter(t *testing.T, cfg aws.Config) *Adapter {
	t.Helper()
	a, err := New(cfg, Options{InstanceID: here, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// answers serves canned answers by action, whatever else is asked.
func answers(t *testing.T, byAction map[string]string) *endpoint {
	t.Helper()
	return serve(t, func(form url.Values) (int, string) {
		body, ok := byAction[form.Get("Action")]
		if !ok {
			t.Errorf("unexpected request %s", form.Get("Action"))
		}
		if strings.Contains(body, "<Errors>") {
			return http.StatusBadRequest, body
		}
		return http.StatusOK, body
	})
}

func errorXML(code, message string) string {
	return fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?>
<Response><Errors><Error><Code>%s</Code><Message>%s</Message></Error></Errors><RequestID>ea966190-f9aa-478e-9ede-example</RequestID></Response>`, code, message)
}

func volumesXML(volumes ...string) string {
	return `<?xml version="1.0" encoding="UTF-8"?>
<DescribeVolumesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>59dbff89-35bd-4eac-99ed-be587EXAMPLE</requestId><volumeSet>` +
		strings.Join(volumes, "") + `</volumeSet></DescribeVolumesResponse>`
}

func volumeXML(id, state string, attachments ...string) string {
	return fmt.Sprintf(`<item><volumeId>%s</volumeId><size>8</size><availabilityZone>us-east-1a</availabilityZone><status>%s</status>`+
		`<attachmentSet>%s</attachmentSet><encrypted>true</encrypted>`+
		`<kmsKeyId>arn:aws:kms:us-east-1:111111111111:key/aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee</kmsKeyId>`+
		`<multiAttachEnabled>false</multiAttachEnabled></item>`, id, state, strings.Join(attachments, ""))
}

func attachmentXML(instance, state, device string) string {
	return fmt.Sprintf(`<item><volumeId>%s</volumeId><instanceId>%s</instanceId><device>%s</device><status>%s</status>`+
		`<attachTime>2026-03-01T10:00:00.000Z</attachTime></item>`, vol, instance, device, state)
}

const (
	attachedXML = `<?xml version="1.0" encoding="UTF-8"?>
<AttachVolumeResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><volumeId>` + vol + `</volumeId><status>attaching</status></AttachVolumeResponse>`
	detachedXML = `<?xml version="1.0" encoding="UTF-8"?>
<DetachVolumeResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><volumeId>` + vol + `</volumeId><status>detaching</status></DetachVolumeResponse>`
)

// roundTrip is an HTTP client made of a function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) Do(r *http.Request) (*http.Response, error) { return f(r) }

// failingCredentials is a provider that has none.
type failingCredentials struct{ err error }

func (f failingCredentials) Retrieve(context.Context) (aws.Credentials, error) {
	return aws.Credentials{}, f.err
}

// expect fails unless err is a *fault.Error of that class and reason which reads
// as sentences and tells the operator what to do.
func expect(t *testing.T, err error, class fault.Class, reason string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %s %s", class, reason)
	}
	if got := fault.ClassOf(err); got != class {
		t.Errorf("class %s, want %s (%v)", got, class, err)
	}
	if got := fault.ReasonOf(err); got != reason {
		t.Errorf("reason %s, want %s (%v)", got, reason, err)
	}
	for what, text := range map[string]string{"cause": err.Error(), "hint": fault.HintOf(err)} {
		if !strings.HasSuffix(text, ".") {
			t.Errorf("the %s is no sentence: %q", what, text)
		}
	}
}
