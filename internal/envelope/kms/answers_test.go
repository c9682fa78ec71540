// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"errors"
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/google/go-cmp/cmp"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/test/lab/aws"
	emulator "github.com/volseal/volseal/test/lab/kms"
)

var update = flag.Bool("update", false, "write the golden files anew")

// answerRow is one answer of KMS as AWS sends it, and what it must mean. Class,
// reason and owner repeat the product's tables on purpose: they decide whether
// keys are purged, who is woken and whether a database may be locked, so that a
// change must be said twice. Cause and hint stand in testdata/answers.golden.
type answerRow struct {
	status        int
	code, message string
	class         fault.Class
	reason        string // "" is the code
	who           string
}

// The texts are those of the KMS API reference, of the developer guide's pages
// on key states and key stores, of IAM's page on access denied messages, and of
// public reports.
func answerRows() []answerRow {
	const (
		user = "User: arn:aws:sts::916150859591:assumed-role/volseal-host/i-0123456789abcdef0 is not authorized to perform: kms:Decrypt on resource: " + testARN + " "
		key  = testARN + " "

		customer, platform, aws = "customer", "platform", "AWS"

		platformAWS      = "platform AWS"
		platformCustomer = "platform customer"
		customerPlatform = "customer platform"

		byPlatform = fault.ReasonDeniedByPlatform
		unclear    = fault.ReasonDeniedUnclear
	)
	return []answerRow{
		{400, "DisabledException", key + "is disabled.", fault.Revoked, "", customer},
		{400, "KMSInvalidStateException", key + "is pending deletion.", fault.Revoked, "", customer},
		{400, "KMSInvalidStateException", key + "is pending replica deletion.", fault.Revoked, "", customer},
		{400, "KMSInvalidStateException", key + "is disabled.", fault.Revoked, "", customer},
		{400, "KMSInvalidStateException", key + "is pending import.", fault.Misconfigured, "", customer},
		{400, "KMSInvalidStateException", key + "is unavailable.", fault.Unreachable, "", aws},
		{400, "KMSInvalidStateException", key + "is creating.", fault.Unreachable, "", aws},
		{400, "KMSInvalidStateException", key + "is updating.", fault.Unreachable, "", aws},
		{400, "KMSInvalidStateException", "The custom key store is not connected.", fault.Unreachable, "", customer},
		{400, "KMSInvalidStateException", "The AWS CloudHSM cluster associated with the custom key store is not active.", fault.Unreachable, "", customer},
		{400, "KMSInvalidStateException", "The external key store proxy did not respond to the request in time. Retry the request.", fault.Unreachable, "", customer},
		{400, "KMSInvalidStateException", "KMS cannot communicate with the external key store proxy. This might be a transient networking issue.", fault.Unreachable, "", customer},
		{400, "KMSInvalidStateException", "The external key store proxy denied access to the operation. Verify that the user and the external key are both authorized for this operation, and try the request again.", fault.Revoked, "", customer},
		{400, "KMSInvalidStateException", "The external key store proxy rejected the request because the specified external key is not enabled.", fault.Revoked, "", customer},
		{400, "KMSInvalidStateException", "The external key store proxy rejected the request because the specified ciphertext or additional authenticated data is corrupted, missing, or otherwise invalid.", fault.Integrity, "", platform},
		{400, "KMSInvalidStateException", "something new", fault.Unknown, "", customer},
		{400, "NotFoundException", "Key '" + testARN + "' does not exist", fault.Misconfigured, "", platformCustomer},

		{400, "AccessDeniedException", user + "because no resource-based policy allows the kms:Decrypt action", fault.Revoked, "", customer},
		{400, "AccessDeniedException", user + "with an explicit deny in a resource-based policy", fault.Revoked, "", customer},
		{400, "AccessDeniedException", user + "with an explicit deny in a resource control policy", fault.Revoked, "", customer},
		{400, "AccessDeniedException", user + "because no resource control policy allows the kms:Decrypt action", fault.Revoked, "", customer},
		{400, "AccessDeniedException", "User: arn is not authorized to perform: kms:Decrypt on the resource associated with this ciphertext because the resource does not exist in this Region, no resource-based policies allow access, or a resource-based policy explicitly denies access", fault.Revoked, "", customerPlatform},
		{400, "AccessDeniedException", "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access.", fault.Revoked, "", customerPlatform},
		{400, "AccessDeniedException", user + "because no identity-based policy allows the kms:Decrypt action", fault.Revoked, byPlatform, platform},
		{400, "AccessDeniedException", user + "with an explicit deny in an identity-based policy", fault.Revoked, byPlatform, platform},
		{400, "AccessDeniedException", user + "because no service control policy allows the kms:Decrypt action", fault.Revoked, byPlatform, platform},
		{400, "AccessDeniedException", user + "with an explicit deny in a service control policy", fault.Revoked, byPlatform, platform},
		{400, "AccessDeniedException", user + "because no permissions boundary allows the kms:Decrypt action", fault.Revoked, byPlatform, platform},
		{400, "AccessDeniedException", user + "with an explicit deny in a permissions boundary", fault.Revoked, byPlatform, platform},
		{400, "AccessDeniedException", user + "because no session policy allows the kms:Decrypt action", fault.Revoked, byPlatform, platform},
		{400, "AccessDeniedException", user + "with an explicit deny in a session policy", fault.Revoked, byPlatform, platform},
		{400, "AccessDeniedException", user + "because no VPC endpoint policy allows the kms:Decrypt action", fault.Revoked, byPlatform, platform},
		{400, "AccessDeniedException", user + "with an explicit deny in a VPC endpoint policy", fault.Revoked, byPlatform, platform},
		{400, "AccessDeniedException", user, fault.Revoked, unclear, platformCustomer},
		{400, "AccessDenied", "Access Denied", fault.Revoked, unclear, platformCustomer},
		{400, "NotAuthorized", "You do not have permission to perform this action.", fault.Revoked, unclear, platformCustomer},

		{500, "KeyUnavailableException", "The request was rejected because the specified KMS key was not available. You can retry the request.", fault.Unreachable, "", aws},
		{503, "DependencyTimeoutException", "The system timed out while trying to fulfill the request.", fault.Unreachable, "", aws},
		{500, "KMSInternalException", "An internal error occurred.", fault.Unreachable, "", aws},
		{500, "KMSInternalException", "The external key store proxy did not respond to the request in time. Retry the request.", fault.Unreachable, "", customer},
		{500, "KMSInternalException", "The custom key store failed.", fault.Unreachable, "", customer},
		{500, "KeyUnavailableException", "The CloudHSM cluster failed.", fault.Unreachable, "", customer},
		{500, "InternalFailure", "The request processing has failed because of an unknown error, exception or failure.", fault.Unreachable, "", aws},
		{500, "InternalServerError", "", fault.Unreachable, "", aws},
		{503, "ServiceUnavailable", "The request has failed due to a temporary failure of the server.", fault.Unreachable, "", aws},
		{503, "ServiceUnavailableException", "The service is unavailable.", fault.Unreachable, "", aws},
		{408, "RequestTimeout", "", fault.Unreachable, "", platformAWS},
		{408, "RequestTimeoutException", "", fault.Unreachable, "", platformAWS},
		{400, "CloudHsmClusterInvalidConfigurationException", "", fault.Unreachable, "", customer},
		{400, "CloudHsmClusterNotActiveException", "", fault.Unreachable, "", customer},
		{400, "CustomKeyStoreInvalidStateException", "", fault.Unreachable, "", customer},
		{400, "XksProxyUriUnreachableException", "", fault.Unreachable, "", customer},

		{400, "ThrottlingException", "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.", fault.Throttled, "", platform},
		{400, "ThrottlingException", "Rate exceeded", fault.Throttled, "", platform},
		{400, "Throttling", "Rate exceeded", fault.Throttled, "", platform},
		{400, "ThrottledException", "", fault.Throttled, "", platform},
		{429, "TooManyRequestsException", "", fault.Throttled, "", platform},
		{503, "RequestLimitExceeded", "Request limit exceeded.", fault.Throttled, "", platform},
		{400, "RequestThrottled", "", fault.Throttled, "", platform},
		{400, "RequestThrottledException", "", fault.Throttled, "", platform},
		{503, "SlowDown", "", fault.Throttled, "", platform},

		{400, "InvalidCiphertextException", "", fault.Integrity, "", platform},
		{400, "IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation.", fault.Integrity, "", platform},

		{400, "LimitExceededException", "The request was rejected because a quota was exceeded.", fault.Misconfigured, "", platform},
		{400, "InvalidKeyUsageException", key + "key usage is SIGN_VERIFY which is not valid for Decrypt.", fault.Misconfigured, "", customer},
		{400, "UnsupportedOperationException", "", fault.Misconfigured, "", customer},
		{400, "InvalidArnException", "Invalid arn us-west-2", fault.Misconfigured, "", platform},
		{400, "ValidationException", "Invalid keyId", fault.Misconfigured, "", platform},
		{400, "ValidationError", "", fault.Misconfigured, "", platform},
		{400, "InvalidParameterValue", "", fault.Misconfigured, "", platform},
		{400, "InvalidGrantTokenException", "", fault.Misconfigured, "", platform},
		{400, "SerializationException", "", fault.Misconfigured, "", platform},
		{400, "UnknownOperationException", "", fault.Misconfigured, "", platform},
		{400, "InvalidAction", "", fault.Misconfigured, "", platform},
		{403, "OptInRequired", "The AWS Access Key Id needs a subscription for the service", fault.Misconfigured, "", platform},

		{400, "ExpiredTokenException", "The security token included in the request is expired", fault.Identity, "", platform},
		{400, "ExpiredToken", "The security token included in the request is expired", fault.Identity, "", platform},
		{400, "RequestExpired", "Request has expired.", fault.Identity, "", platform},
		{403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.", fault.Identity, "", platform},
		{400, "RequestInTheFuture", "", fault.Identity, "", platform},
		{400, "InvalidSignatureException", "Signature expired: 20240101T000000Z is now earlier than 20240101T000500Z", fault.Identity, "", platform},
		{400, "SignatureDoesNotMatch", "", fault.Identity, "", platform},
		{400, "IncompleteSignature", "", fault.Identity, "", platform},
		{400, "IncompleteSignatureException", "", fault.Identity, "", platform},
		{400, "UnrecognizedClientException", "The security token included in the request is invalid.", fault.Identity, "", platform},
		{403, "InvalidClientTokenId", "The security token included in the request is invalid.", fault.Identity, "", platform},
		{400, "InvalidToken", "", fault.Identity, "", platform},
		{401, "AuthFailure", "AWS was not able to validate the provided access credentials", fault.Identity, "", platform},
		{403, "MissingAuthenticationToken", "Request is missing Authentication Token", fault.Identity, "", platform},
		{400, "MissingAuthenticationTokenException", "Request is missing Authentication Token", fault.Identity, "", platform},
		{400, "MissingSecurityHeader", "", fault.Identity, "", platform},

		{400, "BrandNewException", "What now?", fault.Unknown, "", platform},
	}
}

// TestEveryAnswer has the emulated KMS give each answer over the wire, and reads
// it through the SDK.
func TestEveryAnswer(t *testing.T) {
	faults, creds := aws.NewFaults(), aws.NewCredentials()
	creds.Add(aws.Credential{AccessKeyID: "AKIATEST", SecretAccessKey: "secret", SessionToken: "token"})
	server := httptest.NewServer(emulator.New(emulator.Options{Credentials: creds, Calls: aws.NewCallLog(), Faults: faults}))
	t.Cleanup(server.Close)
	client := New(NewClient(config(server.URL)), Options{})
	var golden strings.Builder
	for _, row := range answerRows() {
		if err := faults.Set("kms", "error="+row.code+":0:"+row.message); err != nil {
			t.Fatal(err)
		}
		_, err := client.Decrypt(t.Context(), testARN, testContext, blob)
		row.check(t, err)
		row.write(&golden, err)
	}
	compareGolden(t, "testdata/answers.golden", golden.String())
}

func (r answerRow) check(t *testing.T, err error) {
	t.Helper()
	name := r.code + " " + r.message
	if r.reason == "" {
		r.reason = r.code
	}
	if fault.ClassOf(err) != r.class || fault.ReasonOf(err) != r.reason || owners(err) != r.who {
		t.Errorf("%s: got %s %s %s, want %s %s %s", name, fault.ClassOf(err), fault.ReasonOf(err), owners(err), r.class, r.reason, r.who)
	}
	var wire *smithyhttp.ResponseError
	if !errors.As(err, &wire) || wire.HTTPStatusCode() != r.status {
		t.Errorf("%s: came with another status than %d: %v", name, r.status, wire)
	}
	if strings.Contains(err.Error(), "arn:") {
		t.Errorf("%s: cause %q repeats the answer", name, err)
	}
	if locks := r.class == fault.Revoked && strings.HasPrefix(r.who, "customer"); fault.CustomerRefuses(err) != locks {
		t.Errorf("%s: counts as the customer's word: %v, want %v", name, !locks, locks)
	}
}

func (r answerRow) write(b *strings.Builder, err error) {
	fmt.Fprintf(b, "%d %s %q\n  %s, %s, who: %s\n  cause: %s\n  hint:  %s\n",
		r.status, r.code, r.message, fault.ClassOf(err), fault.ReasonOf(err), owners(err), err, fault.HintOf(err))
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
	for code := range byCode {
		if !slices.ContainsFunc(answerRows(), func(r answerRow) bool { return r.code == code }) {
			t.Errorf("no row for %s", code)
		}
	}
}
