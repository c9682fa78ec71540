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

// Volume describes one volume, see volume.Cloud.
func (a *Adapter) Volume(ctx context.Context, volumeID string) (volume.CloudVolume, error) {
	out, err := call(ctx, a, request{"DescribeVolumes", "describe " + volumeID},
		a.client.DescribeVolumes, &ec2.DescribeVolumesInput{VolumeIds: []string{volumeID}})
	if err != nil {
		return volume.CloudVolume{}, err
	}
	// Asked for one id, EC2 answers with that volume or with an error. Anything
	// else must not decide what is opened.
	if len(out.Volumes) != 1 || aws.ToString(out.Volumes[0].VolumeId) != volumeID {
		return volume.CloudVolume{}, mismatch("about " + volumeID)
	}
	return a.view(out.Volumes[0]), nil
}

// view reduces EC2's description to what the domain asks about.
func (a *Adapter) view(v types.Volume) volume.CloudVolume {
	c := volume.CloudVolume{
		ID:          aws.ToString(v.VolumeId),
		State:       string(v.State),
		Encrypted:   aws.ToBool(v.Encrypted),
		KeyARN:      aws.ToString(v.KmsKeyId),
		MultiAttach: aws.ToBool(v.MultiAttachEnabled),
		Zone:        aws.ToString(v.AvailabilityZone),
	}
	for _, at := range v.Attachments {
		if at.State == types.VolumeAttachmentStateDetached {
			continue
		}
		if aws.ToString(at.InstanceId) == a.instance {
			c.Attachment = string(at.State)
			c.Since = aws.ToTime(at.AttachTime)
			continue
		}
		c.Elsewhere = holder(at)
	}
	return c
}

// holder names what a volume is attached to: an instance, or a resource that
// AWS manages, for which EC2 gives no instance id. It is never empty, because an
// attachment that nobody can name is still not ours.
func holder(at types.VolumeAttachment) string {
	for _, name := range []*string{at.InstanceId, at.AssociatedResource, at.InstanceOwningService} {
		if s := aws.ToString(name); s != "" {
			return s
		}
	}
	return "an unnamed holder"
}

// attachedHere describes all volumes that hold a device name of this instance.
func (a *Adapter) attachedHere(ctx context.Context) ([]types.Volume, error) {
	in := &ec2.DescribeVolumesInput{
		Filters: []types.Filter{{Name: aws.String("attachment.instance-id"), Values: []string{a.instance}}},
	}
	// An instance has 128 attachments at most, which EC2 answers on one page;
	// the bound is there for an endpoint that pages for ever.
	const pages = 8
	var all []types.Volume
	for range pages {
		out, err := call(ctx, a, request{"DescribeVolumes", "list the volumes attached to " + a.instance},
			a.client.DescribeVolumes, in)
		if err != nil {
			return nil, err
		}
		all = append(all, out.Volumes...)
		if aws.ToString(out.NextToken) == "" {
			return all, nil
		}
		in.NextToken = out.NextToken
	}
	return nil, &fault.Error{
		Class: fault.Unknown, Reason: "too-many-pages",
		Cause: fmt.Sprintf("EC2's list of the volumes attached to %s does not end.", a.instance),
		Hint:  "Check which endpoint the agent talks to (AWS_ENDPOINT_URL_EC2).",
	}
}
