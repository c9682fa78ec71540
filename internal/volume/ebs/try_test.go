// SPDX-License-Identifier: Apache-2.0

package ebs_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume/ebs"
)

// TestMay protects the examination of a host: each permission is asked for by
// itself, and neither a yes nor a no does anything.
func TestMay(t *testing.T) {
	l := newLab(t)
	vol := l.volume(l.key(), "us-east-1a")
	asks := map[string]func() error{
		"AttachVolume": func() error { return l.MayAttach(t.Context(), vol) },
		"DetachVolume": func() error { return l.MayDetach(t.Context(), vol) },
		"CreateVolume": func() error { return l.MayCreate(t.Context(), "us-east-1a") },
	}
	for denied := range asks {
		if err := l.ec2.Deny(denied); err != nil {
			t.Fatal(err)
		}
		for name, ask := range asks {
			err := ask()
			if (err != nil) != (name == denied) || err != nil && fault.ReasonOf(err) != "UnauthorizedOperation" {
				t.Errorf("%s denied: %s: %v", denied, name, err)
			}
		}
	}
	if v, err := l.Volume(t.Context(), vol); err != nil || v.Attachment != "" {
		t.Errorf("%+v, %v", v, err)
	}
}

// TestClock protects from chasing signatures when it is the clock: it is told
// also by an answer that refuses.
func TestClock(t *testing.T) {
	l := newLab(t)
	if ahead, known, err := l.Clock(t.Context()); err != nil || !known || ahead.Abs() > 3*time.Second {
		t.Errorf("%v %v %v", ahead, known, err)
	}
	l.must(l.faults.Set("ec2", "error=RequestExpired:1"))
	if _, known, err := l.Clock(t.Context()); fault.ClassOf(err) != fault.Identity || !known {
		t.Errorf("known %v of a refusal, %v", known, err)
	}
}

// TestMayOfWhatIgnoresIt protects from something before EC2 that drops the flag
// of a dry run.
func TestMayOfWhatIgnoresIt(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `<AttachVolumeResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><status>attaching</status></AttachVolumeResponse>`)
	}))
	defer web.Close()
	a, err := ebs.New(awssdk.Config{
		Region: "us-east-1", BaseEndpoint: &web.URL, Credentials: credentials.NewStaticCredentialsProvider("A", "secret", ""),
	}, ebs.Options{InstanceID: "i-0123456789abcdef0", Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.MayAttach(t.Context(), "vol-0123456789abcdef0"); fault.ReasonOf(err) != "answer-dry-run" {
		t.Errorf("%v", err)
	}
}
