// SPDX-License-Identifier: Apache-2.0

package ec2_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/volseal/volseal/test/lab/ec2"
)

// EBS checks the key after it has answered: the volume is there, and then not.
func TestVolumeUnderUnusableKeyVanishes(t *testing.T) {
	l := newLab(t)
	l.kms.refuse(goodKey)
	for _, key := range []string{goodKey, "arn:aws:kms:eu-west-1:111111111111:key/elsewhere"} {
		made, err := l.client.CreateVolume(t.Context(), &sdk.CreateVolumeInput{
			AvailabilityZone: awssdk.String(zone), Size: awssdk.Int32(1), Encrypted: awssdk.Bool(true), KmsKeyId: &key,
		})
		if err != nil || made.State != types.VolumeStateCreating {
			t.Fatalf("create: %v, %v; want creating", made, err)
		}
		_, err = l.WaitVolume(t.Context(), *made.VolumeId)
		wantCode(t, err, "InvalidVolume.NotFound")
		if _, err := os.Stat(l.image(*made.VolumeId)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("its image is there: %v", err)
		}
	}
}

// A missing grant and an unusable key look the same at attach, and leave the
// volume as it was.
func TestAttachWithoutKeyOrGrant(t *testing.T) {
	l := newLab(t)
	id := l.volume()
	for _, refused := range []string{goodKey, "grant"} {
		l.kms.refuse(refused)
		wantCode(t, l.Attach(l.role, id, ec2.OurInstance), "CustomerKeyHasBeenRevoked")
		l.rest(id, "available")
	}
	l.kms.refuse()
	l.attached(id)
	l.kms.refuse(goodKey)
	l.rest(id, "attached") // the key is in the hypervisor now
}

// The guest's mount keeps a volume busy until it lets go; force does not ask.
func TestDetachWhileInUse(t *testing.T) {
	l := newLab(t)
	id := l.volume()
	l.attached(id)
	l.machine.set(func() { l.machine.used = true })
	if err := l.Detach(id, "", false); err != nil {
		t.Fatal(err)
	}
	l.rest(id, "busy")
	if !l.machine.has(id) {
		t.Fatal("a busy volume was unplugged")
	}
	if err := l.Detach(id, "", false); err != nil { // asking again changes nothing
		t.Fatal(err)
	}
	l.rest(id, "busy")
	l.machine.set(func() { l.machine.used = false })
	l.until(id, "available")

	l.attached(id)
	l.machine.set(func() { l.machine.used = true })
	if err := l.Detach(id, ec2.OurInstance, true); err != nil {
		t.Fatal(err)
	}
	l.rest(id, "available")
	if l.machine.has(id) {
		t.Error("after a forced detach the disk is still plugged")
	}
}

// until waits for a volume's state, past busy.
func (l *lab) until(id, state string) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 20*time.Second)
	defer cancel()
	for {
		v, err := l.WaitVolume(ctx, id)
		if err != nil {
			l.t.Fatal(err)
		}
		if v.State == state {
			return
		}
		time.Sleep(time.Millisecond) // busy has no event: the guest sends none
	}
}

// What sticks attaching is freed by a detach, and the next attach succeeds: the
// cure that AWS's own CSI driver uses.
func TestStuckAttaching(t *testing.T) {
	l := newLab(t)
	id := l.volume()
	if err := l.Stick(id, "attaching"); err != nil {
		t.Fatal(err)
	}
	if err := l.Attach(l.role, id, ec2.OurInstance); err != nil {
		t.Fatal(err)
	}
	l.rest(id, "attaching")
	l.restart()
	l.rest(id, "attaching")
	if err := l.Detach(id, "", false); err != nil {
		t.Fatal(err)
	}
	l.rest(id, "available")
	l.attached(id)
}

func TestStuckDetaching(t *testing.T) {
	l := newLab(t)
	id := l.volume()
	for name, free := range map[string]func() error{
		"off":   func() error { return l.Stick(id, "off") },
		"force": func() error { return l.Detach(id, "", true) },
	} {
		l.attached(id)
		if err := l.Stick(id, "detaching"); err != nil {
			t.Fatal(err)
		}
		if err := l.Detach(id, "", false); err != nil {
			t.Fatal(err)
		}
		l.rest(id, "detaching")
		if err := free(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		l.rest(id, "available")
	}
	wantCode(t, l.Stick(id, "sideways"), "InvalidParameterValue")
}

// While the machine is down a volume stays attaching; it is plugged when the
// machine takes it.
func TestAttachWhileTheMachineIsDown(t *testing.T) {
	l := newLab(t)
	id := l.volume()
	l.machine.set(func() { l.machine.down = true })
	if err := l.Attach(l.role, id, ec2.OurInstance); err != nil {
		t.Fatal(err)
	}
	if disks := l.Disks(); len(disks) != 0 {
		t.Errorf("the machine would boot with %v", disks)
	}
	l.machine.set(func() { l.machine.down = false })
	l.rest(id, "attached")
}

// Attachments outlive the emulator and the machine, in order; what was under
// way goes on.
func TestRestart(t *testing.T) {
	l := newLab(t)
	first, second, moving := l.volume(), l.volume(), l.volume()
	l.attached(first)
	l.attached(second)
	l.machine.set(func() { l.machine.down = true })
	if err := l.Attach(l.role, moving, ec2.OurInstance); err != nil {
		t.Fatal(err)
	}
	stray := l.image("vol-00000000")
	if err := os.WriteFile(stray, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	l.machine.set(func() { l.machine.plugged = map[string]string{} })
	l.start()
	disks := l.Disks()
	if len(disks) != 2 || disks[0].VolumeID != first || disks[1].VolumeID != second || disks[0].ImagePath != l.image(first) {
		t.Errorf("the machine boots with %v, want %s and %s", disks, first, second)
	}
	l.machine.set(func() { l.machine.down = false })
	l.rest(moving, "attached")
	if !l.machine.has(moving) {
		t.Error("what was attaching at the crash was not plugged after it")
	}
	if _, err := os.Stat(stray); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an image without a record stays: %v", err)
	}
}

// A state file of another version, or with what we do not know, is not guessed at.
func TestUnknownStateIsRefused(t *testing.T) {
	for _, content := range []string{`{"version":2}`, `{"version":1,"colour":"red"}`, `{`} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "state.json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		l := newLab(t)
		l.opts.Dir = dir
		if s, err := ec2.New(l.opts); err == nil {
			_ = s.Close()
			t.Errorf("state %s was accepted", content)
		}
	}
}

// Another instance can have the volume; only a Multi-Attach one both.
func TestTwoInstances(t *testing.T) {
	l := newLab(t)
	id := l.volume()
	if err := l.Attach(l.role, id, ec2.OtherInstance); err != nil {
		t.Fatal(err)
	}
	l.rest(id, "attached")
	if l.machine.has(id) {
		t.Error("another instance's volume was plugged into our machine")
	}
	wantCode(t, l.Attach(l.role, id, ec2.OurInstance), "VolumeInUse")
	if err := l.SetMultiAttach(id, true); err != nil {
		t.Fatal(err)
	}
	l.attached(id)
	wantCode(t, l.Detach(id, "", false), "MissingParameter")
	if err := l.Detach(id, ec2.OtherInstance, false); err != nil {
		t.Fatal(err)
	}
	l.rest(id, "attached")
	if v, _ := l.Volume(id); len(v.Attachments) != 1 || v.Attachments[0].Instance != ec2.OurInstance {
		t.Errorf("after the other's detach: %+v", v)
	}
}

// An attacker has the raw bytes of a detached volume, and of no attached one.
func TestRawAccess(t *testing.T) {
	l := newLab(t)
	id := l.volume()
	if err := l.WriteImage(id, 1<<20, []byte("attack")); err != nil {
		t.Fatal(err)
	}
	got, err := l.ReadImage(id, 1<<20-1, 8)
	if err != nil || string(got) != "\x00attack\x00" {
		t.Errorf("read %q, %v", got, err)
	}
	wantCode(t, l.WriteImage(id, 1<<30-1, []byte("xx")), "InvalidParameterValue")
	_, err = l.ReadImage(id, -1, 4)
	wantCode(t, err, "InvalidParameterValue")
	_, err = l.ReadImage(id, 0, 1<<30)
	wantCode(t, err, "InvalidParameterValue")
	l.attached(id)
	wantCode(t, l.WriteImage(id, 0, []byte("x")), "VolumeInUse")
	_, err = l.ReadImage(id, 0, 1)
	wantCode(t, err, "VolumeInUse")
}

// A snapshot is of the moment it was asked for, holds the machine still while it
// is taken, and costs no more disk than the data.
func TestSnapshot(t *testing.T) {
	l := newLab(t)
	ctx, id := t.Context(), l.volume(func(s *ec2.VolumeSpec) { s.Size = 3 })
	if err := l.WriteImage(id, 2<<30, bytes.Repeat([]byte("old!"), 1<<10)); err != nil {
		t.Fatal(err)
	}
	made, err := l.client.CreateSnapshot(ctx, &sdk.CreateSnapshotInput{VolumeId: &id})
	if err != nil || made.State != types.SnapshotStatePending || !*made.Encrypted {
		t.Fatalf("snapshot: %+v, %v", made, err)
	}
	if err := l.WriteImage(id, 2<<30, []byte("new!")); err != nil {
		t.Fatal(err)
	}
	in := &sdk.DescribeSnapshotsInput{SnapshotIds: []string{*made.SnapshotId}, OwnerIds: []string{"self"}}
	if err := sdk.NewSnapshotCompletedWaiter(l.client).Wait(ctx, in, 20*time.Second, quickly[sdk.SnapshotCompletedWaiterOptions]); err != nil {
		t.Fatal(err)
	}
	back := l.volume(func(s *ec2.VolumeSpec) { *s = ec2.VolumeSpec{Zone: zone, Snapshot: *made.SnapshotId, Size: 4} })
	if got, err := l.ReadImage(back, 2<<30, 4); err != nil || string(got) != "old!" {
		t.Errorf("restored %q, %v, want the content at the time", got, err)
	}
	if v, _ := l.Volume(back); v.KeyARN != goodKey || v.SizeGiB != 4 {
		t.Errorf("restored as %+v", v)
	}
	if used := allocated(t, l.image(back)); used > 1<<20 {
		t.Errorf("a restored volume of one written page takes %d bytes: it is not sparse", used)
	}
	l.attached(back)
	if _, err := l.CreateSnapshot(ctx, l.role, back); err != nil || l.machine.paused != 0 {
		t.Errorf("snapshot of an attached volume: %v, machine paused %d times too often", err, l.machine.paused)
	}
	if _, err := l.client.DeleteSnapshot(ctx, &sdk.DeleteSnapshotInput{SnapshotId: made.SnapshotId}); err != nil {
		t.Fatal(err)
	}
	_, err = l.client.DescribeSnapshots(ctx, in)
	wantCode(t, err, "InvalidSnapshot.NotFound")
}

func allocated(t *testing.T, path string) int64 {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

// A copy moves to another key; without the right to, it fails in silence.
func TestCopySnapshot(t *testing.T) {
	l := newLab(t)
	ctx, id := t.Context(), l.volume()
	source, err := l.CreateSnapshot(ctx, l.role, id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.WaitSnapshot(ctx, source); err != nil {
		t.Fatal(err)
	}
	in := &sdk.CopySnapshotInput{
		SourceSnapshotId: &source, SourceRegion: awssdk.String("us-east-1"), Encrypted: awssdk.Bool(true), KmsKeyId: awssdk.String(newKey),
	}
	made, err := l.client.CopySnapshot(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	if snap, err := l.WaitSnapshot(ctx, *made.SnapshotId); err != nil || snap.State != "completed" || snap.KeyARN != newKey {
		t.Errorf("copied as %+v, %v", snap, err)
	}
	back := l.volume(func(s *ec2.VolumeSpec) { *s = ec2.VolumeSpec{Zone: zone, Snapshot: *made.SnapshotId} })
	l.kms.refuse(goodKey)
	l.attached(back) // the old key no longer matters

	for _, refused := range []string{goodKey, newKey} {
		l.kms.refuse(refused)
		made, err := l.client.CopySnapshot(ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		if snap, err := l.WaitSnapshot(ctx, *made.SnapshotId); err != nil || snap.State != "error" || snap.Message == "" {
			t.Errorf("a copy without rights on %s: %+v, %v, want state error", refused, snap, err)
		}
	}
}
