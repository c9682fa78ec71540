// SPDX-License-Identifier: Apache-2.0

package ebs

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// attachAttempts bounds the search for a device name that EC2 accepts. More
// than one is needed only where somebody else attaches at the same moment.
const attachAttempts = 4

// Attach asks for the volume to be attached to this instance, see volume.Cloud.
// It returns when EC2 has taken the wish, not when the device is there.
func (a *Adapter) Attach(ctx context.Context, volumeID string) error {
	present, err := a.attachedHere(ctx)
	if err != nil {
		return err
	}
	inUse := map[string]bool{}
	for _, v := range present {
		if aws.ToString(v.VolumeId) == volumeID {
			return standing(a.view(v))
		}
		for _, at := range v.Attachments {
			inUse[aws.ToString(at.Device)] = true
		}
	}
	for range attachAttempts {
		if err = a.attachOnce(ctx, volumeID, inUse); !isNameTaken(err) {
			break
		}
	}
	switch fault.ReasonOf(err) {
	case "VolumeInUse", "IncorrectState":
		return a.explainAttach(ctx, volumeID, err)
	}
	return err
}

// attachOnce tries one device name, and notes it in inUse so that the next
// attempt takes another.
func (a *Adapter) attachOnce(ctx context.Context, volumeID string, inUse map[string]bool) error {
	name, ok := a.names.reserve(inUse)
	if !ok {
		return noNameLeft(volumeID)
	}
	defer a.names.release(name)
	inUse[name] = true
	_, err := call(ctx, a, request{"AttachVolume", "attach " + volumeID}, a.client.AttachVolume, &ec2.AttachVolumeInput{
		Device:     aws.String(name),
		InstanceId: aws.String(a.instance),
		VolumeId:   aws.String(volumeID),
	})
	return err
}

// explainAttach finds out why EC2 called the volume's state wrong: another
// request may have attached it here in the meantime, which is what was wanted.
func (a *Adapter) explainAttach(ctx context.Context, volumeID string, refused error) error {
	v, err := a.Volume(ctx, volumeID)
	if err != nil {
		return err // why it was refused stays open: the next pass finds out
	}
	if v.Attachment != "" {
		return standing(v)
	}
	if v.Elsewhere != "" {
		return &fault.Error{
			Class: fault.Misconfigured, Reason: "VolumeInUse",
			Cause: fmt.Sprintf("EC2 did not attach %s: it is attached to %s.", volumeID, v.Elsewhere),
			Hint:  "Detach it there first, after the database has been stopped. volseal never takes a volume away from another host.",
			Who:   byPlatform,
			Err:   refused,
		}
	}
	if v.State == string(types.VolumeStateError) {
		return brokenVolume(v, refused)
	}
	return refused
}

// standing judges an attachment to this instance that exists already.
func standing(v volume.CloudVolume) error {
	if v.Attachment != string(types.VolumeAttachmentStateDetaching) {
		return nil
	}
	return &fault.Error{
		Class: fault.Unknown, Reason: "IncorrectState",
		Cause: fmt.Sprintf("EC2 cannot attach %s: it is still being detached from this instance.", v.ID),
		Hint:  "Wait. If the detachment does not end, something still uses the device: look with lsblk and fuser.",
	}
}

func brokenVolume(v volume.CloudVolume, refused error) error {
	return &fault.Error{
		Class: fault.Misconfigured, Reason: "volume-error",
		Cause: fmt.Sprintf("EC2 did not attach %s: the volume is in state error.", v.ID),
		Hint:  "EC2 could not make this volume, most often because its CMK was not usable when it was created. Check the CMK and create the volume anew.",
		Who:   byCustomerOrPlatform,
		Err:   refused,
	}
}

func noNameLeft(volumeID string) error {
	return &fault.Error{
		Class: fault.Misconfigured, Reason: "no-device-name",
		Cause: fmt.Sprintf("There is no free device name to attach %s under.", volumeID),
		Hint:  "Detach volumes that this host no longer needs.",
		Who:   byPlatform,
	}
}

// isNameTaken recognises EC2's answer to a device name that is in use. It has
// no code of its own, so the message must be read; were it reworded, the cost
// is one failed attempt, and the next pass picks another name.
func isNameTaken(err error) bool {
	var api smithy.APIError
	return errors.As(err, &api) && api.ErrorCode() == "InvalidParameterValue" &&
		strings.Contains(api.ErrorMessage(), "already in use")
}
