// SPDX-License-Identifier: Apache-2.0

package ebs_test

import (
	"context"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
	"github.com/volseal/volseal/internal/volume/ebs"
	"github.com/volseal/volseal/test/lab/aws"
	"github.com/volseal/volseal/test/lab/ec2"
	"github.com/volseal/volseal/test/lab/kms"
)

const accessKey = "ASIALAB"

// lab is the adapter against the emulated EC2 and KMS, signatures and all.
type lab struct {
	*ebs.Adapter
	t      *testing.T
	ec2    *ec2.Server
	kms    *kms.Server
	creds  *aws.Credentials
	faults *aws.Faults
	role   aws.Principal
	inUse  *atomic.Bool // the guest has every disk in use
}

type machine struct {
	ec2.NoMachine
	inUse *atomic.Bool
}

func (m machine) InUse(context.Context, string) (bool, error) { return m.inUse.Load(), nil }

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{
		t: t, creds: aws.NewCredentials(), faults: aws.NewFaults(), inUse: &atomic.Bool{},
		role: aws.AssumedRole(aws.PlatformAccount, "volseal-host", ec2.OurInstance),
	}
	l.creds.Add(aws.Credential{AccessKeyID: accessKey, SecretAccessKey: "secret", SessionToken: "token", Principal: l.role})
	l.kms = kms.New(kms.Options{Credentials: l.creds, Calls: aws.NewCallLog(), Faults: l.faults})
	var err error
	l.ec2, err = ec2.New(ec2.Options{
		Dir: t.TempDir(), KMS: l.kms, Credentials: l.creds, Faults: l.faults, AttachLimit: 2,
		Plugger: machine{inUse: l.inUse}, Latency: ec2.Latency{Min: time.Millisecond, Max: 2 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(l.ec2)
	t.Cleanup(func() {
		web.Close()
		_ = l.ec2.Close()
	})
	l.Adapter, err = ebs.New(awssdk.Config{
		Region:       "us-east-1",
		BaseEndpoint: awssdk.String(web.URL),
		Credentials:  credentials.NewStaticCredentialsProvider(accessKey, "secret", "token"),
	}, ebs.Options{InstanceID: ec2.OurInstance, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *lab) key() string {
	l.t.Helper()
	arn, err := l.kms.CreateKey(aws.CustomerAccount, "us-east-1", "", "", true)
	if err != nil {
		l.t.Fatal(err)
	}
	return arn
}

func (l *lab) volume(key, zone string) string {
	l.t.Helper()
	id, err := l.ec2.CreateVolume(l.role, ec2.VolumeSpec{Size: 1, Zone: zone, Encrypted: true, Key: key})
	if err != nil {
		l.t.Fatal(err)
	}
	l.settle(id)
	return id
}

// settle waits until the volume has come to rest.
func (l *lab) settle(id string) {
	l.t.Helper()
	if _, err := l.ec2.WaitVolume(l.t.Context(), id); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) see(id string) volume.CloudVolume {
	l.t.Helper()
	v, err := l.Volume(l.t.Context(), id)
	if err != nil {
		l.t.Fatal(err)
	}
	return v
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) refused(err error, class fault.Class, reason string) {
	l.t.Helper()
	if fault.ClassOf(err) != class || fault.ReasonOf(err) != reason {
		l.t.Errorf("got %s %s (%v), want %s %s", fault.ClassOf(err), fault.ReasonOf(err), err, class, reason)
	}
}

// TestRoundTrip: a volume's ordinary life, each wish said twice.
func TestRoundTrip(t *testing.T) {
	l := newLab(t)
	key := l.key()
	id := l.volume(key, "us-east-1a")

	if v := l.see(id); v.State != "available" || !v.Encrypted || v.KeyARN != key || v.Attachment != "" || v.Elsewhere != "" {
		t.Errorf("before: %+v", v)
	}
	l.must(l.Attach(t.Context(), id))
	l.must(l.Attach(t.Context(), id))
	l.settle(id)
	l.must(l.Attach(t.Context(), id))
	if v := l.see(id); v.Attachment != "attached" || v.Since.IsZero() || v.Elsewhere != "" {
		t.Errorf("attached: %+v", v)
	}
	l.must(l.Detach(t.Context(), id))
	l.settle(id)
	l.must(l.Detach(t.Context(), id))
	if v := l.see(id); v.State != "available" || v.Attachment != "" {
		t.Errorf("after: %+v", v)
	}
}

// TestBusyDetach: a device in use is reported as such, and comes off when it is let go.
func TestBusyDetach(t *testing.T) {
	l := newLab(t)
	id := l.volume(l.key(), "us-east-1a")
	l.must(l.Attach(t.Context(), id))
	l.settle(id)
	l.inUse.Store(true)
	l.must(l.Detach(t.Context(), id))
	l.settle(id)
	if v := l.see(id); v.Attachment != "busy" {
		t.Fatalf("attachment %s, want busy", v.Attachment)
	}
	l.refused(l.Detach(t.Context(), id), fault.Unknown, "busy")
}

// TestRefusals: what EC2 refuses, as EC2 says it.
func TestRefusals(t *testing.T) {
	l := newLab(t)
	key := l.key()
	id := l.volume(key, "us-east-1a")

	l.refused(l.Attach(t.Context(), "vol-00000000000000000"), fault.Misconfigured, "InvalidVolume.NotFound")
	l.refused(l.Attach(t.Context(), l.volume(key, "us-east-1b")), fault.Misconfigured, "InvalidVolume.ZoneMismatch")

	l.must(l.kms.SetEnabled(key, false))
	l.refused(l.Attach(t.Context(), id), fault.Unknown, "CustomerKeyHasBeenRevoked")
	l.must(l.kms.SetEnabled(key, true))
	l.must(l.kms.Deny(key, "kms:CreateGrant"))
	l.refused(l.Attach(t.Context(), id), fault.Unknown, "CustomerKeyHasBeenRevoked")
	l.must(l.kms.Allow(key))

	l.must(l.ec2.Deny("AttachVolume"))
	l.refused(l.Attach(t.Context(), id), fault.Misconfigured, "UnauthorizedOperation")
	l.must(l.ec2.Deny())

	l.creds.SetExpired(accessKey, true)
	l.refused(l.Attach(t.Context(), id), fault.Identity, "RequestExpired")
	l.creds.SetExpired(accessKey, false)

	l.must(l.faults.Set("ec2", "throttle"))
	l.refused(l.Attach(t.Context(), id), fault.Throttled, "RequestLimitExceeded")
	l.must(l.faults.Set("ec2", "off"))

	// Attached elsewhere is told with the holder's name, and never taken away.
	l.must(l.ec2.Attach(l.role, id, ec2.OtherInstance))
	l.settle(id)
	if v := l.see(id); v.Elsewhere != ec2.OtherInstance || v.Attachment != "" {
		t.Errorf("attached elsewhere: %+v", v)
	}
	l.refused(l.Attach(t.Context(), id), fault.Misconfigured, "VolumeInUse")
	l.must(l.Detach(t.Context(), id))
	l.settle(id)
	if v := l.see(id); v.Elsewhere != ec2.OtherInstance {
		t.Error("the volume was taken away from another host")
	}
	l.must(l.ec2.Detach(id, ec2.OtherInstance, false))
	l.settle(id)

	for range 2 {
		l.must(l.Attach(t.Context(), l.volume(key, "us-east-1a")))
	}
	l.refused(l.Attach(t.Context(), id), fault.Misconfigured, "AttachmentLimitExceeded")
}
