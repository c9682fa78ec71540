// SPDX-License-Identifier: Apache-2.0

package ec2_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"github.com/volseal/volseal/test/lab/aws"
	"github.com/volseal/volseal/test/lab/ec2"
	"github.com/volseal/volseal/test/lab/kms"
)

const (
	zone    = "us-east-1a"
	account = "916150859591"
	goodKey = "arn:aws:kms:us-east-1:111111111111:key/aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
	newKey  = "arn:aws:kms:us-east-1:111111111111:key/11111111-2222-3333-4444-555555555555"
)

var errKMS = &aws.Error{Code: "AccessDeniedException", Message: "no", Status: 400}

// fakeKMS wraps by writing key and context down, and refuses what it is told to.
type fakeKMS struct {
	mu      sync.Mutex
	refused []string // keys, or "grant"
}

func (k *fakeKMS) refuse(what ...string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refused = what
}

func (k *fakeKMS) check(what ...string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, w := range what {
		if slices.Contains(k.refused, w) {
			return errKMS
		}
	}
	return nil
}

func (k *fakeKMS) EBSGenerateDataKeyWithoutPlaintext(_ aws.Principal, key, id string) ([]byte, error) {
	return []byte(key + "|" + id), k.check(key)
}

func (k *fakeKMS) EBSCreateGrant(_ aws.Principal, key, _ string) error { return k.check(key, "grant") }

func (k *fakeKMS) EBSDecrypt(_ aws.Principal, key, id string, wrapped []byte) error {
	if string(wrapped) != key+"|"+id {
		return fmt.Errorf("blob %q is not of %s|%s", wrapped, key, id)
	}
	return k.check(key)
}

func (k *fakeKMS) EBSRetireGrant(aws.Principal, string, string) error { return nil }

// Describe knows one alias.
func (k *fakeKMS) Describe(arn string) (kms.KeyInfo, error) {
	if strings.HasSuffix(arn, ":alias/orders") {
		arn = goodKey
	}
	return kms.KeyInfo{ARN: arn}, nil
}

func (k *fakeKMS) EBSReEncrypt(p aws.Principal, from, to, fromID, toID string, wrapped []byte) ([]byte, error) {
	if err := k.EBSDecrypt(p, from, fromID, wrapped); err != nil {
		return nil, err
	}
	return []byte(to + "|" + toID), k.check(to)
}

// fakeMachine remembers what is plugged and says in use when told to.
type fakeMachine struct {
	mu      sync.Mutex
	plugged map[string]string
	used    bool
	down    bool
	paused  int
}

func (m *fakeMachine) Plug(_ context.Context, id, path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return errors.New("machine is down")
	}
	m.plugged[id] = path
	return nil
}

func (m *fakeMachine) Unplug(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.plugged, id)
	return nil
}

func (m *fakeMachine) InUse(context.Context, string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used, nil
}

func (m *fakeMachine) Pause(context.Context) error  { m.set(func() { m.paused++ }); return nil }
func (m *fakeMachine) Resume(context.Context) error { m.set(func() { m.paused-- }); return nil }

func (m *fakeMachine) set(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

func (m *fakeMachine) has(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.plugged[id] != ""
}

// lab is an emulator with all its parts, and a real client of it.
type lab struct {
	*ec2.Server
	t       *testing.T
	opts    ec2.Options
	kms     *fakeKMS
	machine *fakeMachine
	faults  *aws.Faults
	calls   *aws.CallLog
	client  *sdk.Client
	url     string
	role    aws.Principal
}

func newLab(t *testing.T, adjust ...func(*ec2.Options)) *lab {
	t.Helper()
	l := &lab{
		t:       t,
		kms:     &fakeKMS{},
		machine: &fakeMachine{plugged: map[string]string{}},
		faults:  aws.NewFaults(),
		calls:   aws.NewCallLog(),
		role:    aws.AssumedRole(account, "volseal-host", ec2.OurInstance),
	}
	creds := aws.NewCredentials()
	creds.Add(aws.Credential{AccessKeyID: "ASIALAB", SecretAccessKey: "secret", SessionToken: "token", Principal: l.role})
	l.opts = ec2.Options{
		Dir: t.TempDir(), KMS: l.kms, Credentials: creds, Calls: l.calls, Faults: l.faults, Plugger: l.machine,
		Latency: ec2.Latency{Min: time.Millisecond, Max: 3 * time.Millisecond},
	}
	for _, a := range adjust {
		a(&l.opts)
	}
	l.start()
	return l
}

func (l *lab) start() {
	l.t.Helper()
	var err error
	if l.Server, err = ec2.New(l.opts); err != nil {
		l.t.Fatal(err)
	}
	web := httptest.NewServer(l.Server)
	l.t.Cleanup(func() {
		web.Close()
		_ = l.Close()
	})
	l.url = web.URL
	l.client = l.clientWith("secret")
}

// restart is a crash and a new start on the same directory.
func (l *lab) restart() {
	l.t.Helper()
	_ = l.Close()
	l.start()
}

func (l *lab) clientWith(secret string) *sdk.Client {
	return sdk.New(sdk.Options{
		Region:           "us-east-1",
		BaseEndpoint:     awssdk.String(l.url),
		Credentials:      credentials.NewStaticCredentialsProvider("ASIALAB", secret, "token"),
		RetryMaxAttempts: 1,
	})
}

// volume makes an available one.
func (l *lab) volume(adjust ...func(*ec2.VolumeSpec)) string {
	l.t.Helper()
	spec := ec2.VolumeSpec{Size: 1, Zone: zone, Encrypted: true, Key: goodKey}
	for _, a := range adjust {
		a(&spec)
	}
	id, err := l.CreateVolume(l.role, spec)
	if err != nil {
		l.t.Fatal(err)
	}
	l.rest(id, "available")
	return id
}

// rest waits until a volume has come to rest and checks in what state: of its
// first attachment where it has one.
func (l *lab) rest(id, want string) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 20*time.Second)
	defer cancel()
	v, err := l.WaitVolume(ctx, id)
	if err != nil {
		l.t.Fatalf("wait for %s: %v", id, err)
	}
	got := v.State
	if len(v.Attachments) > 0 {
		got = v.Attachments[0].State
	}
	if got != want {
		l.t.Fatalf("%s came to rest in %s, want %s", id, got, want)
	}
}

func (l *lab) attached(id string) {
	l.t.Helper()
	if err := l.Attach(l.role, id, ec2.OurInstance); err != nil {
		l.t.Fatal(err)
	}
	l.rest(id, "attached")
}

func (l *lab) image(id string) string { return filepath.Join(l.opts.Dir, "volumes", id+".raw") }

// wantCode checks the code of an error that came over the wire or from a method.
func wantCode(t *testing.T, err error, want string) {
	t.Helper()
	var api smithy.APIError
	var own *aws.Error
	got := ""
	switch {
	case errors.As(err, &api):
		got = api.ErrorCode()
	case errors.As(err, &own):
		got = own.Code
	}
	if got != want {
		t.Errorf("error is %v, want code %q", err, want)
	}
}

func filter(name string, values ...string) types.Filter {
	return types.Filter{Name: &name, Values: values}
}
