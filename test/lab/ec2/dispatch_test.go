// SPDX-License-Identifier: Apache-2.0

package ec2

import (
	"errors"
	"net/url"
	"testing"

	"github.com/volseal/volseal/test/lab/aws"
)

// What the SDK would not even send gets AWS's answer too.
func TestDispatchRefusals(t *testing.T) {
	s, err := New(Options{Dir: t.TempDir(), KMS: noKMS{}, Credentials: aws.NewCredentials()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	const v = "&Version=" + apiVersion
	for body, want := range map[string]string{
		"":                               "MissingAction",
		"Action=LaunchRocket" + v:        "InvalidAction",
		"Action=DescribeVolumes":         "NoSuchVersion",
		"Action=DeleteVolume" + v:        "MissingParameter",
		"Action=CreateVolume&Size=1" + v: "MissingParameter",
		"Action=CreateVolume&AvailabilityZone=us-east-1a&Size=-1" + v:                        "InvalidParameterValue",
		"Action=CreateVolume&AvailabilityZone=us-east-1a&Size=1&Encrypted=maybe" + v:         "InvalidParameterValue",
		"Action=CreateVolume&AvailabilityZone=us-east-1a&Size=1&VolumeType=floppy" + v:       "InvalidParameterValue",
		"Action=CreateVolume&AvailabilityZone=us-east-1a&Size=1&VolumeType=io2" + v:          "MissingParameter",
		"Action=CreateVolume&AvailabilityZone=us-east-1a&Size=1&MultiAttachEnabled=true" + v: "InvalidParameterCombination",
		"Action=CopySnapshot&SourceRegion=mars&SourceSnapshotId=snap-00000000" + v:           "InvalidParameterValue",
		"Action=CopySnapshot&SourceRegion=us-east-1&SourceSnapshotId=snap-00000000" + v:      "InvalidSnapshot.NotFound",
		"Action=DeleteVolume&VolumeId=vol-00000000&DryRun=perhaps" + v:                       "InvalidParameterValue",
		"Action=DeleteVolume&VolumeId=vol-00000000&DryRun=true" + v:                          "DryRunOperation",
		"Action=CreateTags&ResourceId.1=ami-00000000&Tag.1.Key=a" + v:                        "InvalidID",
		"Action=DescribeSnapshots&SnapshotId.1=../../etc" + v:                                "InvalidSnapshotID.Malformed",
	} {
		values, err := url.ParseQuery(body)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.dispatch(&request{params: params{values}, action: values.Get("Action"), caller: aws.Root("916150859591")})
		var refused *aws.Error
		if !errors.As(err, &refused) || refused.Code != want {
			t.Errorf("%q: %v, want %s", body, err, want)
		}
	}
	_, err = s.dispatch(&request{
		params: params{url.Values{"Version": {apiVersion}}}, action: "DescribeVolumes", caller: aws.Root("111111111111"),
	})
	var refused *aws.Error
	if !errors.As(err, &refused) || refused.Code != "UnauthorizedOperation" {
		t.Errorf("a stranger's account: %v, want UnauthorizedOperation", err)
	}
}
