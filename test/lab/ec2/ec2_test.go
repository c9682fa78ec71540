// SPDX-License-Identifier: Apache-2.0

package ec2_test

import (
	"errors"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/volseal/volseal/test/lab/ec2"
)

// The whole life of a volume as the real SDK and its waiters see it.
func TestVolumeLifeThroughTheSDK(t *testing.T) {
	l := newLab(t)
	ctx := t.Context()
	made, err := l.client.CreateVolume(ctx, &sdk.CreateVolumeInput{
		AvailabilityZone: awssdk.String(zone), Size: awssdk.Int32(2), Encrypted: awssdk.Bool(true), KmsKeyId: awssdk.String(goodKey),
		VolumeType: types.VolumeTypeGp3,
		TagSpecifications: []types.TagSpecification{{
			ResourceType: types.ResourceTypeVolume, Tags: []types.Tag{{Key: awssdk.String("db"), Value: awssdk.String("db-7f3a")}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if made.State != types.VolumeStateCreating {
		t.Errorf("a new volume is %s, want creating", made.State)
	}
	ids := &sdk.DescribeVolumesInput{VolumeIds: []string{*made.VolumeId}}
	if err := sdk.NewVolumeAvailableWaiter(l.client).Wait(ctx, ids, 20*time.Second, quickly[sdk.VolumeAvailableWaiterOptions]); err != nil {
		t.Fatal(err)
	}

	put, err := l.client.AttachVolume(ctx, &sdk.AttachVolumeInput{
		VolumeId: made.VolumeId, InstanceId: awssdk.String(ec2.OurInstance), Device: awssdk.String("/dev/sdf"),
	})
	if err != nil || put.State != types.VolumeAttachmentStateAttaching {
		t.Fatalf("attach: %v, %v", put, err)
	}
	l.rest(*made.VolumeId, "attached")
	seen, err := l.client.DescribeVolumes(ctx, &sdk.DescribeVolumesInput{Filters: []types.Filter{
		filter("attachment.instance-id", ec2.OurInstance), filter("attachment.status", "attached"), filter("tag:db", "db-*"),
	}})
	if err != nil || len(seen.Volumes) != 1 {
		t.Fatalf("describe by attachment and tag: %v, %v", seen, err)
	}
	v := seen.Volumes[0]
	if !*v.Encrypted || *v.KmsKeyId != goodKey || *v.Size != 2 || v.State != types.VolumeStateInUse || *v.Attachments[0].Device != "/dev/sdf" {
		t.Errorf("described as %+v", v)
	}
	if !l.machine.has(*made.VolumeId) {
		t.Error("an attached volume is not plugged into the machine")
	}

	if _, err := l.client.DetachVolume(ctx, &sdk.DetachVolumeInput{VolumeId: made.VolumeId}); err != nil {
		t.Fatal(err)
	}
	l.rest(*made.VolumeId, "available")
	if _, err := l.client.DeleteVolume(ctx, &sdk.DeleteVolumeInput{VolumeId: made.VolumeId}); err != nil {
		t.Fatal(err)
	}
	if err := sdk.NewVolumeDeletedWaiter(l.client).Wait(ctx, ids, 20*time.Second, quickly[sdk.VolumeDeletedWaiterOptions]); err != nil {
		t.Fatal(err)
	}
}

// quickly makes a waiter poll at the pace of a test.
func quickly[O any](o *O) {
	switch o := any(o).(type) {
	case *sdk.VolumeAvailableWaiterOptions:
		o.MinDelay, o.MaxDelay = time.Millisecond, 10*time.Millisecond
	case *sdk.VolumeDeletedWaiterOptions:
		o.MinDelay, o.MaxDelay = time.Millisecond, 10*time.Millisecond
	case *sdk.SnapshotCompletedWaiterOptions:
		o.MinDelay, o.MaxDelay = time.Millisecond, 10*time.Millisecond
	}
}

// Every refusal carries the code that AWS gives, over the wire.
func TestErrorCodes(t *testing.T) {
	l := newLab(t, func(o *ec2.Options) { o.AttachLimit = 1 })
	ctx := t.Context()
	free, taken, far := l.volume(), l.volume(), l.volume(func(s *ec2.VolumeSpec) { s.Zone = "us-east-1b" })
	l.attached(taken)
	const nowhere, noInstance, noSnap = "vol-00000000000000000", "i-00000000000000000", "snap-00000000000000000"
	attach := func(vol, instance, device string) error {
		_, err := l.client.AttachVolume(ctx, &sdk.AttachVolumeInput{VolumeId: &vol, InstanceId: &instance, Device: &device})
		return err
	}
	detach := func(vol, instance string) error {
		_, err := l.client.DetachVolume(ctx, &sdk.DetachVolumeInput{VolumeId: &vol, InstanceId: &instance})
		return err
	}
	create := func(in sdk.CreateVolumeInput) error {
		if in.AvailabilityZone == nil {
			in.AvailabilityZone = awssdk.String(zone)
		}
		_, err := l.client.CreateVolume(ctx, &in)
		return err
	}
	describe := func(in sdk.DescribeVolumesInput) error {
		_, err := l.client.DescribeVolumes(ctx, &in)
		return err
	}
	remove := func(vol string) error {
		_, err := l.client.DeleteVolume(ctx, &sdk.DeleteVolumeInput{VolumeId: &vol})
		return err
	}
	for name, test := range map[string]struct {
		err  error
		code string
	}{
		"attach unknown volume":     {attach(nowhere, ec2.OurInstance, "/dev/sdg"), "InvalidVolume.NotFound"},
		"attach malformed id":       {attach("vol-../x", ec2.OurInstance, "/dev/sdg"), "InvalidVolumeID.Malformed"},
		"attach unknown instance":   {attach(free, noInstance, "/dev/sdg"), "InvalidInstanceID.NotFound"},
		"attach malformed instance": {attach(free, "host", "/dev/sdg"), "InvalidInstanceID.Malformed"},
		"attach twice":              {attach(taken, ec2.OurInstance, "/dev/sdg"), "VolumeInUse"},
		"attach elsewhere":          {attach(taken, ec2.OtherInstance, "/dev/sdg"), "VolumeInUse"},
		"attach over the limit":     {attach(free, ec2.OurInstance, "/dev/sdg"), "AttachmentLimitExceeded"},
		"attach other zone":         {attach(far, ec2.OtherInstance, "/dev/sdg"), "InvalidVolume.ZoneMismatch"},
		"attach odd device":         {attach(free, ec2.OtherInstance, "/dev/null"), "InvalidParameterValue"},
		"detach what is available":  {detach(free, ec2.OurInstance), "IncorrectState"},
		"detach from another":       {detach(taken, ec2.OtherInstance), "InvalidAttachment.NotFound"},
		"delete attached":           {remove(taken), "VolumeInUse"},
		"delete unknown":            {remove(nowhere), "InvalidVolume.NotFound"},
		"create without size":       {create(sdk.CreateVolumeInput{}), "MissingParameter"},
		"create of size 0":          {create(sdk.CreateVolumeInput{Size: awssdk.Int32(0)}), "InvalidParameterValue"},
		"create too large":          {create(sdk.CreateVolumeInput{Size: awssdk.Int32(20000)}), "InvalidParameterValue"},
		"create in no zone":         {create(sdk.CreateVolumeInput{Size: awssdk.Int32(1), AvailabilityZone: awssdk.String("eu-1a")}), "InvalidZone.NotFound"},
		"create from no snapshot":   {create(sdk.CreateVolumeInput{SnapshotId: awssdk.String(noSnap)}), "InvalidSnapshot.NotFound"},
		"create key, unencrypted":   {create(sdk.CreateVolumeInput{Size: awssdk.Int32(1), KmsKeyId: awssdk.String(goodKey)}), "InvalidParameterDependency"},
		"create encrypted, no key":  {create(sdk.CreateVolumeInput{Size: awssdk.Int32(1), Encrypted: awssdk.Bool(true)}), "InvalidParameterValue"},
		"describe unknown":          {describe(sdk.DescribeVolumesInput{VolumeIds: []string{nowhere}}), "InvalidVolume.NotFound"},
		"describe odd filter":       {describe(sdk.DescribeVolumesInput{Filters: []types.Filter{filter("colour", "red")}}), "InvalidParameterValue"},
		"describe tiny pages":       {describe(sdk.DescribeVolumesInput{MaxResults: awssdk.Int32(2)}), "InvalidParameterValue"},
		"describe ids and pages":    {describe(sdk.DescribeVolumesInput{MaxResults: awssdk.Int32(5), VolumeIds: []string{free}}), "InvalidParameterCombination"},
		"describe odd token":        {describe(sdk.DescribeVolumesInput{NextToken: awssdk.String("!")}), "InvalidParameterValue"},
	} {
		t.Run(name, func(t *testing.T) { wantCode(t, test.err, test.code) })
	}
}

// An answer that is no success has the status and envelope of AWS: SDKs decide
// by them whether to try again.
func TestStatuses(t *testing.T) {
	l := newLab(t)
	ctx := t.Context()
	for code, want := range map[string]int{"RequestLimitExceeded": 503, "InternalError": 500, "UnauthorizedOperation": 403} {
		if err := l.faults.Set("ec2", "error="+code+":1"); err != nil {
			t.Fatal(err)
		}
		_, err := l.client.DescribeVolumes(ctx, &sdk.DescribeVolumesInput{})
		wantCode(t, err, code)
		var response *awshttp.ResponseError
		if !errors.As(err, &response) || response.HTTPStatusCode() != want {
			t.Errorf("%s came as %v, want HTTP %d", code, err, want)
		}
		if response != nil && response.ServiceRequestID() == "" {
			t.Errorf("%s came without a request id", code)
		}
	}
	if _, err := l.client.DescribeVolumes(ctx, &sdk.DescribeVolumesInput{}); err != nil {
		t.Errorf("after its count a fault still answers: %v", err)
	}
}

// Nobody gets in without the right signature, and IAM can say no to one action.
func TestAuthorization(t *testing.T) {
	l := newLab(t)
	ctx := t.Context()
	_, err := l.clientWith("wrong").DescribeVolumes(ctx, &sdk.DescribeVolumesInput{})
	if err == nil {
		t.Error("a wrong secret was let in")
	}
	dry := &sdk.DeleteVolumeInput{VolumeId: awssdk.String(l.volume()), DryRun: awssdk.Bool(true)}
	_, err = l.client.DeleteVolume(ctx, dry)
	wantCode(t, err, "DryRunOperation")
	if err := l.Deny("DeleteVolume"); err != nil {
		t.Fatal(err)
	}
	_, err = l.client.DeleteVolume(ctx, dry)
	wantCode(t, err, "UnauthorizedOperation")
	l.rest(*dry.VolumeId, "available") // neither of them deleted it
	if err := l.Deny("FlyToTheMoon"); err == nil {
		t.Error("an action that nobody has can be denied: a typing mistake would pass")
	}
}

// A client token makes CreateVolume safe to repeat.
func TestClientToken(t *testing.T) {
	l := newLab(t)
	in := &sdk.CreateVolumeInput{AvailabilityZone: awssdk.String(zone), Size: awssdk.Int32(1), ClientToken: awssdk.String("once")}
	first, err := l.client.CreateVolume(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	l.restart()
	second, err := l.client.CreateVolume(t.Context(), in)
	if err != nil || *second.VolumeId != *first.VolumeId {
		t.Errorf("repeated: %v, %v, want the first volume again", second, err)
	}
	in.Size = awssdk.Int32(2)
	_, err = l.client.CreateVolume(t.Context(), in)
	wantCode(t, err, "IdempotentParameterMismatch")
}

// Pages neither repeat nor lose a volume.
func TestPagination(t *testing.T) {
	l := newLab(t)
	want := map[string]bool{}
	for range 12 {
		want[l.volume(func(s *ec2.VolumeSpec) { s.Encrypted, s.Key = false, "" })] = true
	}
	pages := sdk.NewDescribeVolumesPaginator(l.client, &sdk.DescribeVolumesInput{MaxResults: awssdk.Int32(5)})
	count := 0
	for ; pages.HasMorePages(); count++ {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range page.Volumes {
			if !want[*v.VolumeId] {
				t.Errorf("%s came twice, or from nowhere", *v.VolumeId)
			}
			delete(want, *v.VolumeId)
		}
	}
	if len(want) != 0 || count != 3 {
		t.Errorf("%d pages, %d volumes missing; want 3 pages, none missing", count, len(want))
	}
}

func TestFilters(t *testing.T) {
	l := newLab(t)
	plain := l.volume(func(s *ec2.VolumeSpec) {
		s.Encrypted, s.Key, s.Tags = false, "", map[string]string{"path": "/var/[lib]/x", "role": "wal"}
	})
	sealed := l.volume(func(s *ec2.VolumeSpec) { s.Tags = map[string]string{"role": "data"} })
	l.attached(sealed)
	for name, test := range map[string]struct {
		filter types.Filter
		want   string
	}{
		"encrypted":           {filter("encrypted", "true"), sealed},
		"not encrypted":       {filter("encrypted", "false"), plain},
		"status":              {filter("status", "in-use"), sealed},
		"status, several":     {filter("status", "deleting", "available"), plain},
		"attached instance":   {filter("attachment.instance-id", ec2.OurInstance), sealed},
		"attached elsewhere":  {filter("attachment.instance-id", ec2.OtherInstance), ""},
		"tag":                 {filter("tag:role", "data"), sealed},
		"tag of nobody":       {filter("tag:colour", "red"), ""},
		"tag key":             {filter("tag-key", "path"), plain},
		"wildcard over slash": {filter("tag:path", "/var/*"), plain},
		"brackets are plain":  {filter("tag:path", "/var/[lib]/?"), plain},
		"volume id":           {filter("volume-id", plain), plain},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := l.client.DescribeVolumes(t.Context(), &sdk.DescribeVolumesInput{Filters: []types.Filter{test.filter}})
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, v := range out.Volumes {
				got += *v.VolumeId
			}
			if got != test.want {
				t.Errorf("found %q, want %q", got, test.want)
			}
		})
	}
}

func TestTags(t *testing.T) {
	l := newLab(t)
	ctx, id := t.Context(), l.volume()
	_, err := l.client.CreateTags(ctx, &sdk.CreateTagsInput{
		Resources: []string{id, ec2.OurInstance}, Tags: []types.Tag{{Key: awssdk.String("a"), Value: awssdk.String("1")}, {Key: awssdk.String("b"), Value: awssdk.String("2")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = l.client.DeleteTags(ctx, &sdk.DeleteTagsInput{
		Resources: []string{id}, Tags: []types.Tag{{Key: awssdk.String("a"), Value: awssdk.String("not 1")}, {Key: awssdk.String("b")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	out, err := l.client.DescribeTags(ctx, &sdk.DescribeTagsInput{Filters: []types.Filter{filter("resource-id", id)}})
	if err != nil || len(out.Tags) != 1 || *out.Tags[0].Key != "a" || out.Tags[0].ResourceType != types.ResourceTypeVolume {
		t.Errorf("left are %+v, %v; want a=1, whose value did not match", out.Tags, err)
	}
	_, err = l.client.CreateTags(ctx, &sdk.CreateTagsInput{
		Resources: []string{id, "vol-00000000"}, Tags: []types.Tag{{Key: awssdk.String("c"), Value: awssdk.String("3")}},
	})
	wantCode(t, err, "InvalidVolume.NotFound")
	out, err = l.client.DescribeTags(ctx, &sdk.DescribeTagsInput{Filters: []types.Filter{filter("key", "c")}})
	if err != nil || len(out.Tags) != 0 {
		t.Errorf("a refused request tagged %+v (%v)", out.Tags, err)
	}
	_, err = l.client.CreateTags(ctx, &sdk.CreateTagsInput{
		Resources: []string{id}, Tags: []types.Tag{{Key: awssdk.String("aws:c"), Value: awssdk.String("3")}},
	})
	wantCode(t, err, "InvalidParameterValue")
}

func TestInstancesAndZones(t *testing.T) {
	l := newLab(t)
	id := l.volume()
	l.attached(id)
	out, err := l.client.DescribeInstances(t.Context(), &sdk.DescribeInstancesInput{InstanceIds: []string{ec2.OurInstance}})
	if err != nil {
		t.Fatal(err)
	}
	i := out.Reservations[0].Instances[0]
	if *i.Placement.AvailabilityZone != zone || i.State.Name != types.InstanceStateNameRunning || *i.BlockDeviceMappings[0].Ebs.VolumeId != id {
		t.Errorf("described as %+v", i)
	}
	zones, err := l.client.DescribeAvailabilityZones(t.Context(), &sdk.DescribeAvailabilityZonesInput{})
	if err != nil || len(zones.AvailabilityZones) != 3 {
		t.Errorf("zones: %+v, %v", zones, err)
	}
}

// Scenarios count requests: every one is in the log, the refused ones too.
func TestCallsAreLogged(t *testing.T) {
	l := newLab(t)
	id := l.volume()
	mark := l.calls.Mark()
	_, _ = l.client.AttachVolume(t.Context(), &sdk.AttachVolumeInput{
		VolumeId: &id, InstanceId: awssdk.String(ec2.OurInstance), Device: awssdk.String("/dev/sdf"),
	})
	_, _ = l.client.DeleteVolume(t.Context(), &sdk.DeleteVolumeInput{VolumeId: &id})
	calls := l.calls.Since(mark)
	if len(calls) != 2 || calls[0].Operation != "AttachVolume" || calls[0].Result != "ok" || calls[0].Resource != id ||
		calls[0].Principal != l.role.ARN || calls[1].Result != "VolumeInUse" {
		t.Errorf("logged: %+v", calls)
	}
}
