// SPDX-License-Identifier: Apache-2.0

package ec2

import (
	"net/url"
	"testing"

	"github.com/volseal/volseal/test/lab/aws"
	"github.com/volseal/volseal/test/lab/kms"
)

type noKMS struct{}

func (noKMS) EBSGenerateDataKeyWithoutPlaintext(aws.Principal, string, string) ([]byte, error) {
	return nil, nil
}
func (noKMS) EBSCreateGrant(aws.Principal, string, string) error     { return nil }
func (noKMS) EBSRetireGrant(aws.Principal, string, string) error     { return nil }
func (noKMS) Describe(arn string) (kms.KeyInfo, error)               { return kms.KeyInfo{ARN: arn}, nil }
func (noKMS) EBSDecrypt(aws.Principal, string, string, []byte) error { return nil }
func (noKMS) EBSReEncrypt(aws.Principal, string, string, string, string, []byte) ([]byte, error) {
	return nil, nil
}

// Whatever a client sends gets an answer: a result or an error with a code.
func FuzzDispatch(f *testing.F) {
	for name := range operations() {
		f.Add("Action=" + name + "&Version=" + apiVersion)
	}
	f.Add("Action=DescribeVolumes&Version=2016-11-15&Filter.1.Name=tag:a&Filter.1.Value.1=[*&MaxResults=5&NextToken=YWZ0ZXI6")
	f.Add("Action=AttachVolume&Version=2016-11-15&VolumeId=vol-&InstanceId=" + OurInstance + "&Device=/dev/sdf")
	f.Add("Action=CreateTags&Version=2016-11-15&ResourceId.1=" + OurInstance + "&Tag.1.Key=&Tag.1.Value=")
	s, err := New(Options{Dir: f.TempDir(), KMS: noKMS{}, Credentials: aws.NewCredentials()})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.Close() })
	f.Fuzz(func(t *testing.T, body string) {
		values, err := url.ParseQuery(body)
		if err != nil || values.Get("Action") == "CreateVolume" { // those would fill the disk
			return
		}
		req := &request{params: params{values}, action: values.Get("Action"), caller: aws.Root("916150859591")}
		answer, err := s.dispatch(req)
		if (answer == nil) == (err == nil) {
			t.Errorf("answered %v and %v", answer, err)
		}
		if err != nil && wireError(err).Code == "InternalError" {
			t.Errorf("internal error: %v", err)
		}
	})
}
