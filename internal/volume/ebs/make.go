// SPDX-License-Identifier: Apache-2.0

package ebs

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// The tags of what is made here. The token finds what a lost answer has named.
const (
	tagVolume   = "volseal:volume"
	tagDatabase = "volseal:database"
	tagToken    = "volseal:token"
)

// CreateVolume asks for a volume in this instance's zone, see volume.Maker. It is
// encrypted always, and of the type gp3.
func (a *Adapter) CreateVolume(ctx context.Context, v volume.NewVolume) (string, error) {
	home, err := a.whereabouts(ctx)
	if err != nil {
		return "", err
	}
	in := &ec2.CreateVolumeInput{
		AvailabilityZone:  aws.String(home.zone),
		ClientToken:       aws.String(v.Token),
		Encrypted:         aws.Bool(true),
		KmsKeyId:          aws.String(v.KeyARN),
		VolumeType:        types.VolumeTypeGp3,
		TagSpecifications: tagged(types.ResourceTypeVolume, v.Name, v.Database, v.Token),
		Size:              aws.Int32(int32(v.SizeGiB)), // at most volume.MaxSizeGiB
	}
	doing := fmt.Sprintf("create a volume of %d GiB", v.SizeGiB)
	if v.Snapshot != "" {
		in.SnapshotId = aws.String(v.Snapshot)
		doing += " from " + v.Snapshot
	}
	out, err := call(ctx, a, request{"CreateVolume", doing}, a.client.CreateVolume, in)
	if err != nil {
		return "", err
	}
	return named(aws.ToString(out.VolumeId), doing)
}

// FindVolume looks for a volume by its token, see volume.Maker.
func (a *Adapter) FindVolume(ctx context.Context, token string) (string, error) {
	const doing = "look for the volume that was asked for"
	in := &ec2.DescribeVolumesInput{Filters: byToken(token)}
	return a.find(doing, func() ([]string, *string, error) {
		out, err := call(ctx, a, request{"DescribeVolumes", doing}, a.client.DescribeVolumes, in)
		if err != nil {
			return nil, nil, err
		}
		var ids []string
		for _, v := range out.Volumes {
			ids = append(ids, aws.ToString(v.VolumeId))
		}
		in.NextToken = out.NextToken
		return ids, out.NextToken, nil
	})
}

// Snapshot describes one snapshot, see volume.Maker.
func (a *Adapter) Snapshot(ctx context.Context, id string) (volume.CloudSnapshot, error) {
	home, err := a.whereabouts(ctx)
	if err != nil {
		return volume.CloudSnapshot{}, err
	}
	out, err := call(ctx, a, request{"DescribeSnapshots", "describe " + id},
		a.client.DescribeSnapshots, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{id}})
	if err != nil {
		return volume.CloudSnapshot{}, err
	}
	if len(out.Snapshots) != 1 || aws.ToString(out.Snapshots[0].SnapshotId) != id {
		return volume.CloudSnapshot{}, mismatch("about " + id)
	}
	s := out.Snapshots[0]
	return volume.CloudSnapshot{
		ID:        id,
		State:     string(s.State),
		Message:   words(aws.ToString(s.StateMessage)),
		Progress:  aws.ToString(s.Progress),
		Encrypted: aws.ToBool(s.Encrypted),
		KeyARN:    aws.ToString(s.KmsKeyId),
		SizeGiB:   int(aws.ToInt32(s.VolumeSize)),
		Ours:      aws.ToString(s.OwnerId) == home.account,
	}, nil
}

// words is what EC2 says, fit to be shown; "" where it says nothing.
func words(message string) string {
	if message == "" {
		return ""
	}
	return sentence(message)
}

// CopySnapshot asks for a copy under another CMK in this region, see volume.Maker.
func (a *Adapter) CopySnapshot(ctx context.Context, c volume.NewCopy) (string, error) {
	doing := "copy " + c.Snapshot
	out, err := call(ctx, a, request{"CopySnapshot", doing}, a.client.CopySnapshot, &ec2.CopySnapshotInput{
		SourceRegion:      aws.String(a.region),
		SourceSnapshotId:  aws.String(c.Snapshot),
		Encrypted:         aws.Bool(true),
		KmsKeyId:          aws.String(c.KeyARN),
		Description:       aws.String("Copy of " + c.Snapshot + " for volseal-" + c.Name),
		TagSpecifications: tagged(types.ResourceTypeSnapshot, c.Name, c.Database, c.Token),
	})
	if err != nil {
		return "", err
	}
	return named(aws.ToString(out.SnapshotId), doing)
}

// FindCopy looks for a copy by its token, see volume.Maker.
func (a *Adapter) FindCopy(ctx context.Context, token string) (string, error) {
	const doing = "look for the copy that was asked for"
	in := &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}, Filters: byToken(token)}
	return a.find(doing, func() ([]string, *string, error) {
		out, err := call(ctx, a, request{"DescribeSnapshots", doing}, a.client.DescribeSnapshots, in)
		if err != nil {
			return nil, nil, err
		}
		var ids []string
		for _, s := range out.Snapshots {
			ids = append(ids, aws.ToString(s.SnapshotId))
		}
		in.NextToken = out.NextToken
		return ids, out.NextToken, nil
	})
}

// findPages bounds a search: EC2 may answer with empty pages before the one that
// matters, but not for ever.
const findPages = 64

// find returns the one id on all pages, "" if there is none. Two must not be
// told as one.
func (a *Adapter) find(doing string, page func() (ids []string, next *string, err error)) (string, error) {
	var all []string
	for range findPages {
		ids, next, err := page()
		if err != nil {
			return "", err
		}
		all = append(all, ids...)
		if aws.ToString(next) != "" {
			continue
		}
		switch len(all) {
		case 0:
			return "", nil
		case 1:
			return named(all[0], doing)
		}
		return "", &fault.Error{
			Class: fault.Unknown, Reason: "token-shared",
			Cause: fmt.Sprintf("Could not %s: %s and %s carry the same tag %s.", doing, all[0], all[1], tagToken),
			Hint:  "Somebody copied the tags. Remove it from the one that is not meant.",
		}
	}
	return "", &fault.Error{
		Class: fault.Unknown, Reason: "too-many-pages",
		Cause: fmt.Sprintf("Could not %s: EC2's list does not end.", doing),
		Hint:  "Check which endpoint the agent talks to (AWS_ENDPOINT_URL_EC2).",
	}
}

// home is where this instance is, and whose; neither changes while it runs.
type home struct{ zone, account string }

func (a *Adapter) whereabouts(ctx context.Context) (home, error) {
	if h := a.home.Load(); h != nil {
		return *h, nil
	}
	out, err := call(ctx, a, request{"DescribeInstances", "describe " + a.instance},
		a.client.DescribeInstances, &ec2.DescribeInstancesInput{InstanceIds: []string{a.instance}})
	if err != nil {
		return home{}, err
	}
	if len(out.Reservations) != 1 || len(out.Reservations[0].Instances) != 1 {
		return home{}, mismatch("about " + a.instance)
	}
	r := out.Reservations[0]
	h := home{account: aws.ToString(r.OwnerId)}
	if p := r.Instances[0].Placement; p != nil {
		h.zone = aws.ToString(p.AvailabilityZone)
	}
	if aws.ToString(r.Instances[0].InstanceId) != a.instance || h.zone == "" || h.account == "" {
		return home{}, mismatch("about " + a.instance)
	}
	a.home.Store(&h)
	return h, nil
}

func tagged(kind types.ResourceType, name, database, token string) []types.TagSpecification {
	var tags []types.Tag
	for _, t := range [][2]string{{"Name", volume.MappingPrefix + name}, {tagVolume, name}, {tagDatabase, database}, {tagToken, token}} {
		tags = append(tags, types.Tag{Key: aws.String(t[0]), Value: aws.String(t[1])})
	}
	return []types.TagSpecification{{ResourceType: kind, Tags: tags}}
}

func byToken(token string) []types.Filter {
	return []types.Filter{{Name: aws.String("tag:" + tagToken), Values: []string{token}}}
}

// named insists on an id: without one, what was made could never be found again.
func named(id, doing string) (string, error) {
	if id == "" {
		return "", mismatch("to " + doing)
	}
	return id, nil
}

// mismatch is an answer to another question than was asked. It must not decide
// anything.
func mismatch(asked string) error {
	return &fault.Error{
		Class: fault.Unknown, Reason: "answer-mismatch",
		Cause: fmt.Sprintf("EC2 was asked %s and answered about something else.", asked),
		Hint:  "Check which endpoint the agent talks to (AWS_ENDPOINT_URL_EC2).",
	}
}
