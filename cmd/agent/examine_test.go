// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"testing"

	"github.com/volseal/volseal/internal/config"
	"github.com/volseal/volseal/internal/control"
	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/volume"
)

const testKey = "arn:aws:kms:us-east-1:111111111111:key/aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"

// TestOddARNs protects KMS from questions about what is no key: whatever a
// client sends that is neither a key's ARN nor an alias's ends here.
func TestOddARNs(t *testing.T) {
	a := &agent{connector: &connector{}}
	for _, arn := range []string{
		"", "orders", "alias/orders", "arn:aws:kms:us-east-1:111111111111:key/", testKey + "\n", testKey + " " + testKey,
		"arn:aws:s3:::bucket", "arn:aws:kms:us-east-1:111111111111:alias/", "arn:aws:kms:us-east-1:111111111111:alias/a b",
	} {
		_, err := a.CheckKey(t.Context(), arn)
		var refused *control.Error
		if !errors.As(err, &refused) || refused.Code != control.CodeBadRequest || refused.Hint == "" {
			t.Errorf("%q: %v", arn, err)
		}
	}
}

// TestOneExamination protects KMS, and whoever waits, from many at a time.
func TestOneExamination(t *testing.T) {
	a := &agent{connector: &connector{}}
	a.examining.Lock()
	_, err1 := a.CheckKey(t.Context(), testKey)
	_, err2 := a.Doctor(t.Context())
	for _, err := range []error{err1, err2} {
		var refused *control.Error
		if !errors.As(err, &refused) || refused.Code != control.CodeConflict {
			t.Errorf("%v", err)
		}
	}
}

// TestWhatIsExamined protects the customers' quota and the truth: each key is
// asked about once, in the context of a volume under it; what somebody else
// attaches is not tried.
func TestWhatIsExamined(t *testing.T) {
	of := func(name string) envelope.Context { return envelope.Context{envelope.DatabaseKey: name} }
	cfg := config.Config{Volumes: []volume.Spec{
		{VolumeID: "vol-0", KeyARN: testKey, Context: of("a")},
		{KeyARN: testKey, Context: of("b"), Attach: true},
		{VolumeID: "vol-2", KeyARN: "other", Context: of("c"), Attach: true},
	}}
	if refs := keysOf(cfg); len(refs) != 2 || !refs[0].Context.Equal(of("a")) || !refs[1].Context.Equal(of("c")) {
		t.Errorf("%v", refs)
	}
	if got := attachable(cfg); got != "vol-2" {
		t.Errorf("attaches %q", got)
	}
	c := &connector{cfg: cfg}
	if got := c.contextFor("other"); !got.Equal(of("c")) {
		t.Errorf("context %v", got)
	}
	if got := c.contextFor("nobody's"); got[envelope.PurposeKey] != envelope.PurposeValue {
		t.Errorf("context %v: the role's policy asks for the purpose", got)
	}
}
