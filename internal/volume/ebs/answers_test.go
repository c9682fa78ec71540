// SPDX-License-Identifier: Apache-2.0

package ebs_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/google/go-cmp/cmp"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume/ebs"
)

var update = flag.Bool("update", false, "write the golden files anew")

const someVolume = "vol-0123456789abcdef0"

// answerRow is one answer of EC2 as AWS sends it, and what it must mean. Class
// and owner repeat the product's table on purpose: a class decides whether keys
// are purged, who is woken and whether waiting helps, so that changing one must
// be said twice. Cause and hint stand in testdata/answers.golden.
type answerRow struct {
	status        int
	code, message string
	class         fault.Class
	who           string
}

// The texts are those of the EC2 API reference's list of error codes, and of
// public reports.
func answerRows() []answerRow {
	const platform, aws, platformAWS, customerPlatform = "platform", "AWS", "platform AWS", "customer platform"
	return []answerRow{
		{400, "AttachmentLimitExceeded", "The maximum number of attachments for the instance has been reached.", fault.Misconfigured, platform},
		{400, "VolumeInUse", someVolume + " is already attached to an instance", fault.Unknown, platform},
		{400, "IncorrectState", "The volume '" + someVolume + "' is 'creating'.", fault.Unknown, platformAWS},
		{400, "IncorrectInstanceState", "The instance is not in a valid state for this operation.", fault.Unknown, platform},
		{400, "InvalidAttachment.NotFound", "The attachment does not exist.", fault.Unknown, platformAWS},
		{400, "InvalidVolume.NotFound", "The volume '" + someVolume + "' does not exist.", fault.Misconfigured, platform},
		{400, "InvalidVolumeID.Malformed", "Invalid id: \"vol\"", fault.Misconfigured, platform},
		{400, "InvalidVolumeID.ZoneMismatch", "The volume is not in the same availability zone as the instance", fault.Misconfigured, platform},
		{400, "InvalidVolume.ZoneMismatch", "The volume is not in the same availability zone as the instance", fault.Misconfigured, platform},
		{400, "InvalidInstanceID.NotFound", "The instance ID 'i-0123456789abcdef0' does not exist", fault.Misconfigured, platform},
		{400, "InvalidInstanceID.Malformed", "Invalid id: \"i\"", fault.Misconfigured, platform},
		{400, "EncryptedVolumesNotSupported", "Encrypted volumes may only be attached to instances that support Amazon EBS encryption.", fault.Misconfigured, platform},
		{400, "OperationNotPermitted", "The volume is the root device.", fault.Misconfigured, platform},
		{400, "UnsupportedOperation", "The operation is not supported.", fault.Misconfigured, platform},
		{400, "InvalidParameterValue", "Value (x) for parameter is invalid.", fault.Misconfigured, platform},

		// Never Revoked: a missing grant gives it too.
		{400, "CustomerKeyHasBeenRevoked", "Volume " + someVolume + " cannot be attached. The encrypted volume was unable to access the KMS master key.", fault.Unknown, customerPlatform},

		{400, "IdempotentParameterMismatch", "The client token you have provided is used with different parameters.", fault.Misconfigured, platform},
		{400, "VolumeLimitExceeded", "Maximum number of volumes, 5000, exceeded for this account.", fault.Misconfigured, platform},
		{500, "InsufficientVolumeCapacity", "There is not enough capacity to fulfill your EBS volume provision request.", fault.Unknown, platformAWS},
		{400, "VolumeTypeNotAvailableInZone", "The specified Availability Zone does not support gp3 volumes.", fault.Misconfigured, platform},
		{400, "InvalidZone.NotFound", "The zone 'us-east-1q' does not exist.", fault.Misconfigured, platform},
		{400, "TagLimitExceeded", "The maximum number of Tags for a resource has been reached.", fault.Misconfigured, platform},
		{400, "InvalidSnapshot.NotFound", "The snapshot 'snap-0123456789abcdef0' does not exist.", fault.Misconfigured, platform},
		{400, "InvalidSnapshotID.Malformed", "Invalid id: \"snap\" (expecting \"snap-...\")", fault.Misconfigured, platform},
		{400, "ResourceLimitExceeded", "Too many snapshot copies in progress. The limit is 20 for this destination region.", fault.Throttled, platform},
		{400, "SnapshotLimitExceeded", "You have exceeded the maximum number of snapshots.", fault.Misconfigured, platform},

		{403, "UnauthorizedOperation", "You are not authorized to perform this operation. User: arn is not authorized to perform: ec2:AttachVolume with an explicit deny in a service control policy", fault.Misconfigured, platform},
		{403, "UnauthorizedOperation", "You are not authorized to perform this operation. User: arn is not authorized to perform: ec2:AttachVolume because no identity-based policy allows the ec2:AttachVolume action", fault.Misconfigured, platform},
		{400, "AccessDenied", "Access Denied", fault.Misconfigured, platform},
		{400, "AccessDeniedException", "The request was denied.", fault.Misconfigured, platform},
		{403, "OptInRequired", "You are not subscribed to this service.", fault.Misconfigured, platform},
		{400, "Blocked", "Your account is currently blocked.", fault.Misconfigured, platformAWS},
		{400, "PendingVerification", "Your account is currently being verified.", fault.Misconfigured, platformAWS},

		{401, "AuthFailure", "AWS was not able to validate the provided access credentials", fault.Identity, platform},
		{403, "InvalidClientTokenId", "The security token included in the request is invalid.", fault.Identity, platform},
		{400, "UnrecognizedClientException", "The security token included in the request is invalid.", fault.Identity, platform},
		{403, "MissingAuthenticationToken", "Request is missing Authentication Token", fault.Identity, platform},
		{400, "SignatureDoesNotMatch", "The request signature does not match.", fault.Identity, platform},
		{400, "InvalidSignatureException", "Signature expired", fault.Identity, platform},
		{400, "IncompleteSignature", "The request signature does not conform to AWS standards.", fault.Identity, platform},
		{400, "ExpiredToken", "The provided token has expired.", fault.Identity, platform},
		{400, "ExpiredTokenException", "The security token included in the request is expired", fault.Identity, platform},
		{400, "RequestExpired", "Request has expired.", fault.Identity, platform},
		{403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.", fault.Identity, platform},

		{503, "RequestLimitExceeded", "Request limit exceeded.", fault.Throttled, platform},
		{400, "Throttling", "Rate exceeded", fault.Throttled, platform},
		{400, "ThrottlingException", "Rate exceeded", fault.Throttled, platform},
		{400, "RequestThrottled", "", fault.Throttled, platform},
		{429, "TooManyRequestsException", "Too many requests", fault.Throttled, platform},
		{400, "EC2ThrottledException", "", fault.Throttled, platform},

		{500, "InternalError", "An internal error has occurred", fault.Unreachable, aws},
		{500, "InternalFailure", "The request processing has failed because of an unknown error.", fault.Unreachable, aws},
		{503, "Unavailable", "The server is overloaded and can't handle the request.", fault.Unreachable, aws},
		{503, "ServiceUnavailable", "The request has failed due to a temporary failure of the server.", fault.Unreachable, aws},
		{408, "RequestTimeout", "The request timed out.", fault.Unreachable, aws},

		{400, "BrandNewCode", "What now?", fault.Unknown, platform},
	}
}

// TestEveryAnswer has the emulated EC2 give each answer over the wire, and reads
// it through the SDK. The adapter is new each time: one that was throttled would
// hold the next request back.
func TestEveryAnswer(t *testing.T) {
	var golden strings.Builder
	for _, row := range answerRows() {
		l := newLab(t)
		l.must(l.faults.Set("ec2", "error="+row.code+":0:"+row.message))
		_, err := l.Volume(t.Context(), someVolume)
		row.check(t, err)
		fmt.Fprintf(&golden, "%d %s %q\n  %s, who: %s\n  cause: %v\n  hint:  %s\n",
			row.status, row.code, row.message, fault.ClassOf(err), owners(err), err, fault.HintOf(err))
	}
	compareGolden(t, "testdata/answers.golden", golden.String())
}

func (r answerRow) check(t *testing.T, err error) {
	t.Helper()
	if fault.ClassOf(err) != r.class || fault.ReasonOf(err) != r.code || owners(err) != r.who {
		t.Errorf("%s: got %s %s %s, want %s %s", r.code, fault.ClassOf(err), fault.ReasonOf(err), owners(err), r.class, r.who)
	}
	var wire *smithyhttp.ResponseError
	if !errors.As(err, &wire) || wire.HTTPStatusCode() != r.status {
		t.Errorf("%s: came with another status than %d: %v", r.code, r.status, wire)
	}
	if !strings.Contains(err.Error(), someVolume) {
		t.Errorf("%s: the cause does not name the volume: %v", r.code, err)
	}
	if fault.CustomerRefuses(err) {
		t.Errorf("%s: no answer of EC2 is the customer's word", r.code)
	}
}

func owners(err error) string {
	var names []string
	for _, o := range fault.WhoOf(err) {
		names = append(names, string(o))
	}
	return strings.Join(names, " ")
}

func compareGolden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got), -update writes it anew:\n%s", path, diff)
	}
}

// TestEveryCodeHasARow keeps the table of answers as long as the product's own.
func TestEveryCodeHasARow(t *testing.T) {
	for _, code := range ebs.Codes() {
		if !slices.ContainsFunc(answerRows(), func(r answerRow) bool { return r.code == code }) {
			t.Errorf("no row for %s", code)
		}
	}
}
