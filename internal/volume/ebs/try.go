// SPDX-License-Identifier: Apache-2.0

package ebs

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/volseal/volseal/internal/fault"
)

// The questions below are dry runs: EC2 checks the permission as for the request
// itself, and does nothing. Nil means that it would be allowed. Errors are
// *fault.Error, like those of the requests themselves.

// MayAttach asks whether a volume may be attached to this instance.
func (a *Adapter) MayAttach(ctx context.Context, volumeID string) error {
	_, err := call(ctx, a, request{"AttachVolume", "try to attach " + volumeID}, dry(a.client.AttachVolume), &ec2.AttachVolumeInput{
		Device: aws.String(pool()[0]), InstanceId: aws.String(a.instance), VolumeId: aws.String(volumeID), DryRun: aws.Bool(true),
	})
	return err
}

// MayDetach asks whether a volume may be detached from this instance.
func (a *Adapter) MayDetach(ctx context.Context, volumeID string) error {
	_, err := call(ctx, a, request{"DetachVolume", "try to detach " + volumeID}, dry(a.client.DetachVolume), &ec2.DetachVolumeInput{
		InstanceId: aws.String(a.instance), VolumeId: aws.String(volumeID), DryRun: aws.Bool(true),
	})
	return err
}

// MayCreate asks whether an encrypted volume may be created in a zone.
func (a *Adapter) MayCreate(ctx context.Context, zone string) error {
	_, err := call(ctx, a, request{"CreateVolume", "try to create a volume"}, dry(a.client.CreateVolume), &ec2.CreateVolumeInput{
		AvailabilityZone: aws.String(zone), Size: aws.Int32(1), VolumeType: types.VolumeTypeGp3, Encrypted: aws.Bool(true), DryRun: aws.Bool(true),
	})
	return err
}

// dry has a dry run's yes, which is an error of its own, count as success, and
// an answer without it as none of EC2's.
func dry[In, Out any](send func(context.Context, *In, ...func(*ec2.Options)) (*Out, error)) func(context.Context, *In, ...func(*ec2.Options)) (*Out, error) {
	return func(ctx context.Context, in *In, o ...func(*ec2.Options)) (*Out, error) {
		out, err := send(ctx, in, o...)
		var answer smithy.APIError
		switch {
		case err == nil:
			return nil, &fault.Error{
				Class: fault.Unknown, Reason: "answer-dry-run", Cause: "EC2 did what was only to be tried.",
				Hint: "EC2 does not do that: check which endpoint the agent talks to (AWS_ENDPOINT_URL_EC2), and what it did.", Who: byPlatform,
			}
		case errors.As(err, &answer) && answer.ErrorCode() == "DryRunOperation":
			return new(Out), nil
		}
		return out, err
	}
}

// Clock lists the volumes attached here, for two things that only the answer
// tells: whether it is allowed, and the difference of this host's clock from
// EC2's, ahead of it if positive. The clock is known also from most refusals.
func (a *Adapter) Clock(ctx context.Context) (ahead time.Duration, known bool, err error) {
	var theirs, ours time.Time
	list := func(ctx context.Context, in *ec2.DescribeVolumesInput, o ...func(*ec2.Options)) (*ec2.DescribeVolumesOutput, error) {
		return a.client.DescribeVolumes(ctx, in, append(o, noteDate(&theirs, &ours))...)
	}
	_, err = call(ctx, a, request{"DescribeVolumes", "list the volumes attached to " + a.instance}, list, &ec2.DescribeVolumesInput{
		Filters: []types.Filter{{Name: aws.String("attachment.instance-id"), Values: []string{a.instance}}},
	})
	if theirs.IsZero() {
		return 0, false, err
	}
	return ours.Sub(theirs), true, err
}

// noteDate notes the answer's Date, whole seconds, and when it was read.
func noteDate(theirs, ours *time.Time) func(*ec2.Options) {
	look := middleware.DeserializeMiddlewareFunc("NoteDate", func(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
		out, metadata, err := next.HandleDeserialize(ctx, in)
		if resp, ok := out.RawResponse.(*smithyhttp.Response); ok && resp != nil {
			if date, derr := http.ParseTime(resp.Header.Get("Date")); derr == nil {
				*theirs, *ours = date, time.Now()
			}
		}
		return out, metadata, err
	})
	return func(o *ec2.Options) {
		o.APIOptions = append(o.APIOptions, func(s *middleware.Stack) error { return s.Deserialize.Add(look, middleware.After) })
	}
}
