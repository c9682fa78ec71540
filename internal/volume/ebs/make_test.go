// SPDX-License-Identifier: Apache-2.0

package ebs_test

import (
	"strings"
	"testing"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
	"github.com/volseal/volseal/test/lab/aws"
	"github.com/volseal/volseal/test/lab/ec2"
)

func (l *lab) wanted(key string) volume.NewVolume {
	return volume.NewVolume{Token: "volseal-" + l.t.Name(), Name: "orders", Database: "db-7f3a", KeyARN: key, SizeGiB: 2}
}

func (l *lab) create(v volume.NewVolume) string {
	l.t.Helper()
	id, err := l.CreateVolume(l.t.Context(), v)
	l.must(err)
	return id
}

func (l *lab) snapshot(of string) string {
	l.t.Helper()
	id, err := l.ec2.CreateSnapshot(l.t.Context(), l.role, of)
	l.must(err)
	_, err = l.ec2.WaitSnapshot(l.t.Context(), id)
	l.must(err)
	return id
}

// TestCreateOnce: what is asked for is made, here, once for a token, and is
// found by it.
func TestCreateOnce(t *testing.T) {
	l := newLab(t)
	v := l.wanted(l.key())
	if id, err := l.FindVolume(t.Context(), v.Token); id != "" || err != nil {
		t.Errorf("before: %q, %v", id, err)
	}
	id := l.create(v)
	if again := l.create(v); again != id {
		t.Errorf("asked again, EC2 made %s beside %s", again, id)
	}
	l.settle(id)
	if again := l.create(v); again != id {
		t.Errorf("asked later, EC2 made %s beside %s", again, id)
	}
	if got := l.see(id); got.State != "available" || !got.Encrypted || got.KeyARN != v.KeyARN || got.Zone != "us-east-1a" {
		t.Errorf("made %+v", got)
	}
	if got, _ := l.ec2.Volume(id); got.SizeGiB != 2 {
		t.Errorf("made %+v", got)
	}
	found, err := l.FindVolume(t.Context(), v.Token)
	l.must(err)
	if found != id {
		t.Errorf("found %q, want %s", found, id)
	}
	v.SizeGiB = 3
	_, err = l.CreateVolume(t.Context(), v)
	l.refused(err, fault.Misconfigured, volume.ReasonTokenUsed)
}

// TestCreateUnderAnUnusableKey: EC2 says yes, the volume vanishes, and the old
// token goes on naming it.
func TestCreateUnderAnUnusableKey(t *testing.T) {
	l := newLab(t)
	v := l.wanted(l.key())
	l.must(l.kms.Deny(v.KeyARN, "GenerateDataKeyWithoutPlaintext"))
	id := l.create(v)
	_, err := l.ec2.WaitVolume(t.Context(), id)
	if err == nil {
		t.Fatal("the volume was made")
	}
	_, err = l.Volume(t.Context(), id)
	l.refused(err, fault.Misconfigured, volume.ReasonNoVolume)
	l.must(l.kms.Allow(v.KeyARN))
	if again := l.create(v); again != id {
		t.Errorf("the token of %s now names %s", id, again)
	}
	v.Token += "-anew"
	l.settle(l.create(v))

	l.must(l.kms.SetEnabled(v.KeyARN, false))
	l.must(l.ec2.KeepFailed(true))
	v.Token += "-broken"
	id = l.create(v)
	l.settle(id)
	if got := l.see(id); got.State != "error" || got.KeyARN != v.KeyARN {
		t.Errorf("made %+v", got)
	}
}

// TestCreateRefusals: what EC2 refuses at once.
func TestCreateRefusals(t *testing.T) {
	l := newLab(t)
	v := l.wanted(l.key())
	l.must(l.ec2.Deny("CreateVolume"))
	_, err := l.CreateVolume(t.Context(), v)
	l.refused(err, fault.Misconfigured, "UnauthorizedOperation")
	if !strings.Contains(err.Error(), "create a volume of 2 GiB") || !strings.Contains(fault.HintOf(err), "ec2:CreateVolume") {
		t.Errorf("%v; %s", err, fault.HintOf(err))
	}
	l.must(l.ec2.Deny())
	v.Snapshot = "snap-0123456789abcdef0"
	_, err = l.CreateVolume(t.Context(), v)
	l.refused(err, fault.Misconfigured, volume.ReasonNoSnapshot)
	_, err = l.Snapshot(t.Context(), v.Snapshot)
	l.refused(err, fault.Misconfigured, volume.ReasonNoSnapshot)
	_, err = l.CopySnapshot(t.Context(), volume.NewCopy{KeyARN: v.KeyARN, Snapshot: v.Snapshot})
	l.refused(err, fault.Misconfigured, volume.ReasonNoSnapshot)
}

// TestUnknownWhereabouts: without a zone nothing is asked for.
func TestUnknownWhereabouts(t *testing.T) {
	l := newLab(t)
	l.must(l.ec2.Deny("DescribeInstances"))
	_, err := l.CreateVolume(t.Context(), l.wanted(l.key()))
	l.refused(err, fault.Misconfigured, "UnauthorizedOperation")
	_, err = l.Snapshot(t.Context(), "snap-0123456789abcdef0")
	l.refused(err, fault.Misconfigured, "UnauthorizedOperation")
}

// TestRestoreFromSnapshots: our own snapshot moves to another key by itself, one
// that another account shares by a copy.
func TestRestoreFromSnapshots(t *testing.T) {
	l := newLab(t)
	old, next := l.key(), l.key()
	snap := l.snapshot(l.volume(old, "us-east-1a"))
	s, err := l.Snapshot(t.Context(), snap)
	l.must(err)
	if s != (volume.CloudSnapshot{ID: snap, State: "completed", Progress: "100%", Encrypted: true, KeyARN: old, SizeGiB: 1, Ours: true}) {
		t.Errorf("described %+v", s)
	}
	v := l.wanted(next)
	v.Snapshot, v.SizeGiB = snap, 1
	id := l.create(v)
	l.settle(id)
	if got := l.see(id); got.KeyARN != next {
		t.Errorf("made %+v", got)
	}

	l.must(l.ec2.ShareFrom(aws.CustomerAccount, snap))
	s, err = l.Snapshot(t.Context(), snap)
	l.must(err)
	if s.Ours {
		t.Error("a snapshot of another account counts as ours")
	}
	v.Token += "-foreign"
	if _, err := l.ec2.WaitVolume(t.Context(), l.create(v)); err == nil {
		t.Fatal("the emulator moved a foreign snapshot by itself")
	}
	c := volume.NewCopy{Token: v.Token, Name: v.Name, Database: v.Database, KeyARN: next, Snapshot: snap}
	v.Token, v.Snapshot = v.Token+"-by-copy", l.copied(c)
	id = l.create(v)
	l.settle(id)
	if got := l.see(id); got.State != "available" || got.KeyARN != next {
		t.Errorf("made %+v", got)
	}
}

// copied makes a copy, finds it by its token, and waits for it.
func (l *lab) copied(c volume.NewCopy) string {
	l.t.Helper()
	id, err := l.CopySnapshot(l.t.Context(), c)
	l.must(err)
	found, err := l.FindCopy(l.t.Context(), c.Token)
	l.must(err)
	if found != id {
		l.t.Errorf("found %q, want %s", found, id)
	}
	_, err = l.ec2.WaitSnapshot(l.t.Context(), id)
	l.must(err)
	s, err := l.Snapshot(l.t.Context(), id)
	l.must(err)
	if s.State != "completed" || s.KeyARN != c.KeyARN || !s.Ours {
		l.t.Errorf("copy %+v", s)
	}
	return id
}

// TestCopyFailsSilently: that a copy has failed shows in its state alone.
func TestCopyFailsSilently(t *testing.T) {
	l := newLab(t)
	snap := l.snapshot(l.volume(l.key(), "us-east-1a"))
	unusable := l.key()
	l.must(l.kms.SetEnabled(unusable, false))
	id, err := l.CopySnapshot(t.Context(), volume.NewCopy{Token: "t", Name: "orders", Database: "db", KeyARN: unusable, Snapshot: snap})
	l.must(err)
	_, err = l.ec2.WaitSnapshot(t.Context(), id)
	l.must(err)
	s, err := l.Snapshot(t.Context(), id)
	l.must(err)
	if s.State != "error" || s.Message != "Given key ID is not accessible." {
		t.Errorf("described %+v", s)
	}
}

// TestTagsShared: a tag that somebody copied must not decide which volume is ours.
func TestTagsShared(t *testing.T) {
	l := newLab(t)
	v := l.wanted(l.key())
	l.create(v)
	if _, err := l.ec2.CreateVolume(l.role, ec2.VolumeSpec{Size: 1, Zone: "us-east-1a", Encrypted: true, Key: v.KeyARN, Tags: map[string]string{"volseal:token": v.Token}}); err != nil {
		t.Fatal(err)
	}
	_, err := l.FindVolume(t.Context(), v.Token)
	l.refused(err, fault.Unknown, "token-shared")
}
