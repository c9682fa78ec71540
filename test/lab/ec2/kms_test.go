// SPDX-License-Identifier: Apache-2.0

package ec2_test

import (
	"testing"

	"github.com/volseal/volseal/test/lab/aws"
	"github.com/volseal/volseal/test/lab/ec2"
	"github.com/volseal/volseal/test/lab/kms"
)

// The emulated EBS gets from the emulated KMS what a customer's key gives EBS on
// AWS, and no more: the fake of the other tests must not be what makes them pass.
func TestWithTheEmulatedKMS(t *testing.T) {
	server := kms.New(kms.Options{})
	l := newLab(t, func(o *ec2.Options) { o.KMS = server })
	shared := func(share bool) string {
		arn, err := server.CreateKey("111111111111", "us-east-1", "", "", share)
		if err != nil {
			t.Fatal(err)
		}
		return arn
	}
	arn := shared(true)
	under := func(key string) func(*ec2.VolumeSpec) { return func(s *ec2.VolumeSpec) { s.Key = key } }
	id := l.volume(under(arn))
	l.attached(id)
	if info, _ := server.Describe(arn); info.Grants != 1 {
		t.Errorf("an attached volume has %d grants, want 1", info.Grants)
	}
	if err := l.Detach(id, "", false); err != nil {
		t.Fatal(err)
	}
	l.rest(id, "available")

	must(t, server.Deny(arn, "CreateGrant"))
	wantCode(t, l.Attach(l.role, id, ec2.OurInstance), "CustomerKeyHasBeenRevoked")
	must(t, server.Allow(arn))
	must(t, server.SetEnabled(arn, false))
	wantCode(t, l.Attach(l.role, id, ec2.OurInstance), "CustomerKeyHasBeenRevoked")
	must(t, server.SetEnabled(arn, true))
	l.attached(id)

	gone, err := l.CreateVolume(l.role, ec2.VolumeSpec{Size: 1, Zone: zone, Encrypted: true, Key: shared(false)})
	must(t, err)
	_, err = l.WaitVolume(t.Context(), gone)
	wantCode(t, err, "InvalidVolume.NotFound")

	snap, err := l.CreateSnapshot(t.Context(), l.role, id)
	must(t, err)
	_, err = l.WaitSnapshot(t.Context(), snap)
	must(t, err)
	next := shared(true)
	moved := l.volume(func(s *ec2.VolumeSpec) { s.Snapshot, s.Key = snap, next })
	must(t, server.Delete(arn))
	must(t, l.Attach(aws.AssumedRole(account, "other", "session"), moved, ec2.OurInstance))
	l.rest(moved, "attached")
}

// A request may name an alias; the volume knows the key behind it.
func TestKeyByAlias(t *testing.T) {
	l := newLab(t)
	id := l.volume(func(s *ec2.VolumeSpec) { s.Key = "alias/orders" })
	if v, _ := l.Volume(id); v.KeyARN != goodKey {
		t.Errorf("the volume's key is %s", v.KeyARN)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
