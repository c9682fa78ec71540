// SPDX-License-Identifier: Apache-2.0

package ebs

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/volseal/volseal/internal/fault"
)

// Detach asks for the volume to be detached from this instance, see volume.Cloud.
// The instance is always named, so that it is never taken from another host, and
// Force is never set: EC2 then cuts the disk off under a running file system.
func (a *Adapter) Detach(ctx context.Context, volumeID string) error {
	out, err := call(ctx, a, request{"DetachVolume", "detach " + volumeID}, a.client.DetachVolume, &ec2.DetachVolumeInput{
		InstanceId: aws.String(a.instance),
		VolumeId:   aws.String(volumeID),
		Force:      aws.Bool(false),
	})
	switch fault.ReasonOf(err) {
	case "IncorrectState", "InvalidAttachment.NotFound":
		return a.explainDetach(ctx, volumeID, err)
	}
	if err == nil && out.State == types.VolumeAttachmentStateBusy {
		return busy(volumeID, nil)
	}
	return err
}

// explainDetach finds out whether there was anything left to detach.
func (a *Adapter) explainDetach(ctx context.Context, volumeID string, refused error) error {
	v, err := a.Volume(ctx, volumeID)
	if err != nil {
		return err // why it was refused stays open: the next pass finds out
	}
	switch types.VolumeAttachmentState(v.Attachment) {
	case "", types.VolumeAttachmentStateDetaching:
		return nil
	case types.VolumeAttachmentStateBusy:
		return busy(volumeID, refused)
	default:
		return refused
	}
}

// busy is a detachment that EC2 has taken on and cannot finish. To call it
// success would have the reconciler ask again at once, for ever.
func busy(volumeID string, refused error) error {
	return &fault.Error{
		Class: fault.Unknown, Reason: "busy",
		Cause: fmt.Sprintf("EC2 cannot detach %s: something on this host still uses the device.", volumeID),
		Hint:  "Find who uses it with lsblk and fuser, and end that. Do not force the detachment: it destroys what was not yet written.",
		Err:   refused,
	}
}
