// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/aws/smithy-go"
	"github.com/volseal/volseal/internal/fault"
)

// Hints that several rows share. Each says who acts.
const (
	waitForAWS    = "Nothing to do here: it is retried until it works. If it lasts, look at the AWS health dashboard and at this host's route to KMS."
	waitSlowly    = "Nothing to do here: requests slow down by themselves. If it lasts, platform operators ask AWS for a higher KMS request quota; all customers share it."
	askCustomer   = "The customer must make the key usable again; until then no volume under it can be opened."
	fixCredential = "Platform operators must look at the instance profile and its role; the customer's key is not concerned."
	fixConfig     = "Platform operators must correct the configuration (volseal config check)."
	checkHeader   = "Do not retry by other means. Platform operators compare the header with a backup and the volume's key_arn, database and encryption_context with what they were when it was formatted."
)

// What is said without an answer of KMS.
var (
	credentialsMissing = verdict{fault.Identity, "credentials", "This host could not get AWS credentials.", fixCredential}
	gaveUp             = verdict{fault.Unreachable, "gave-up", "The request to KMS was given up before it was answered.", "Nothing to do: it is asked again."}
	tooSlow            = verdict{fault.Unreachable, "timeout", "KMS did not answer in time.", waitForAWS}
	nameUnknown        = verdict{fault.Unreachable, "dns", "The name of the KMS endpoint could not be resolved.", "Look at this host's DNS and, where one is used, at the VPC endpoint for KMS."}
	tlsFailed          = verdict{fault.Unreachable, "tls", "No trusted TLS connection to KMS could be made.", "Look at this host's clock and CA certificates (AWS_CA_BUNDLE), and at proxies that break TLS."}
	networkFailed      = verdict{fault.Unreachable, "network", "The connection to KMS failed.", "Look at this host's route to KMS, security groups and the VPC endpoint; it is retried until it works."}
	requestInvalid     = verdict{fault.Misconfigured, "request", "The request to KMS could not be built.", fixConfig}
	notUnderstood      = verdict{fault.Unknown, "not-understood", "KMS gave an answer that is not understood.", "Look at the agent's debug log; it is retried."}
)

// byCode is every code whose meaning does not depend on its text; after the KMS
// API reference and the SDKs' common errors.
var byCode = map[string]verdict{
	"DisabledException": {class: fault.Revoked, cause: "The CMK is disabled.", hint: "The customer can enable it again (kms:EnableKey)."},

	"KeyUnavailableException":     {class: fault.Unreachable, cause: "KMS cannot use the CMK at the moment.", hint: waitForAWS},
	"DependencyTimeoutException":  {class: fault.Unreachable, cause: "A system behind KMS did not answer in time.", hint: waitForAWS},
	"KMSInternalException":        {class: fault.Unreachable, cause: "KMS failed internally.", hint: waitForAWS},
	"InternalFailure":             {class: fault.Unreachable, cause: "KMS failed internally.", hint: waitForAWS},
	"InternalServerError":         {class: fault.Unreachable, cause: "KMS failed internally.", hint: waitForAWS},
	"ServiceUnavailable":          {class: fault.Unreachable, cause: "KMS is not available.", hint: waitForAWS},
	"ServiceUnavailableException": {class: fault.Unreachable, cause: "KMS is not available.", hint: waitForAWS},
	"RequestTimeout":              {class: fault.Unreachable, cause: "The request reached KMS too slowly.", hint: waitForAWS},
	"RequestTimeoutException":     {class: fault.Unreachable, cause: "The request reached KMS too slowly.", hint: waitForAWS},

	"CloudHsmClusterInvalidConfigurationException": {class: fault.Unreachable, cause: "The customer's CloudHSM key store is not working.", hint: askKeyStore},
	"CloudHsmClusterNotActiveException":            {class: fault.Unreachable, cause: "The customer's CloudHSM key store is not working.", hint: askKeyStore},
	"CustomKeyStoreInvalidStateException":          {class: fault.Unreachable, cause: "The customer's custom key store is not connected.", hint: askKeyStore},
	"XksProxyUriUnreachableException":              {class: fault.Unreachable, cause: "The customer's external key store proxy cannot be reached.", hint: askKeyStore},

	"ThrottlingException":       {class: fault.Throttled, cause: "KMS limits this account's rate of requests.", hint: waitSlowly},
	"Throttling":                {class: fault.Throttled, cause: "KMS limits this account's rate of requests.", hint: waitSlowly},
	"ThrottledException":        {class: fault.Throttled, cause: "KMS limits this account's rate of requests.", hint: waitSlowly},
	"TooManyRequestsException":  {class: fault.Throttled, cause: "KMS limits this account's rate of requests.", hint: waitSlowly},
	"RequestLimitExceeded":      {class: fault.Throttled, cause: "KMS limits this account's rate of requests.", hint: waitSlowly},
	"RequestThrottled":          {class: fault.Throttled, cause: "KMS limits this account's rate of requests.", hint: waitSlowly},
	"RequestThrottledException": {class: fault.Throttled, cause: "KMS limits this account's rate of requests.", hint: waitSlowly},
	"SlowDown":                  {class: fault.Throttled, cause: "KMS limits this account's rate of requests.", hint: waitSlowly},

	"InvalidCiphertextException": {class: fault.Integrity, cause: "KMS does not recognise the wrapped data key under this encryption context: one of them was changed.", hint: checkHeader},
	"IncorrectKeyException":      {class: fault.Integrity, cause: "The data key was wrapped by another CMK than the one configured.", hint: checkHeader},

	"LimitExceededException":        {class: fault.Misconfigured, cause: "A KMS resource quota is exhausted.", hint: "Platform operators ask AWS for a higher quota, or remove what is not used."},
	"InvalidKeyUsageException":      {class: fault.Misconfigured, cause: "The CMK is not a symmetric key for encryption.", hint: "The customer must offer a symmetric encryption key (SYMMETRIC_DEFAULT, ENCRYPT_DECRYPT)."},
	"UnsupportedOperationException": {class: fault.Misconfigured, cause: "The CMK does not support this operation.", hint: "The customer must offer a symmetric encryption key (SYMMETRIC_DEFAULT, ENCRYPT_DECRYPT)."},
	"InvalidArnException":           {class: fault.Misconfigured, cause: "KMS does not accept the CMK's ARN: it is malformed or of another region.", hint: fixConfig},
	"ValidationException":           {class: fault.Misconfigured, cause: "KMS does not accept the request.", hint: fixConfig},
	"ValidationError":               {class: fault.Misconfigured, cause: "KMS does not accept the request.", hint: fixConfig},
	"InvalidParameterValue":         {class: fault.Misconfigured, cause: "KMS does not accept the request.", hint: fixConfig},
	"InvalidGrantTokenException":    {class: fault.Misconfigured, cause: "KMS does not accept a grant token.", hint: fixConfig},
	"SerializationException":        {class: fault.Misconfigured, cause: "KMS does not accept the request.", hint: fixConfig},
	"UnknownOperationException":     {class: fault.Misconfigured, cause: "The endpoint does not know the operation: it is not KMS's.", hint: fixConfig},
	"InvalidAction":                 {class: fault.Misconfigured, cause: "The endpoint does not know the operation: it is not KMS's.", hint: fixConfig},
	"OptInRequired":                 {class: fault.Misconfigured, cause: "This AWS account has no access to KMS in this region.", hint: "Platform operators must enable the region for the account."},

	"ExpiredToken":                        {class: fault.Identity, cause: "This host's AWS credentials have expired.", hint: fixCredential},
	"ExpiredTokenException":               {class: fault.Identity, cause: "This host's AWS credentials have expired.", hint: fixCredential},
	"RequestExpired":                      {class: fault.Identity, cause: "The request reached KMS too late: this host's clock may be off.", hint: fixClock},
	"RequestTimeTooSkewed":                {class: fault.Identity, cause: "This host's clock is off by more than KMS tolerates.", hint: fixClock},
	"RequestInTheFuture":                  {class: fault.Identity, cause: "This host's clock is off by more than KMS tolerates.", hint: fixClock},
	"InvalidSignatureException":           {class: fault.Identity, cause: "KMS does not accept the request's signature: the clock may be off, or the credentials wrong.", hint: fixClock},
	"SignatureDoesNotMatch":               {class: fault.Identity, cause: "KMS does not accept the request's signature: the clock may be off, or the credentials wrong.", hint: fixClock},
	"IncompleteSignature":                 {class: fault.Identity, cause: "KMS does not accept the request's signature.", hint: fixCredential},
	"IncompleteSignatureException":        {class: fault.Identity, cause: "KMS does not accept the request's signature.", hint: fixCredential},
	"UnrecognizedClientException":         {class: fault.Identity, cause: "KMS does not know this host's credentials.", hint: fixCredential},
	"InvalidClientTokenId":                {class: fault.Identity, cause: "KMS does not know this host's credentials.", hint: fixCredential},
	"InvalidToken":                        {class: fault.Identity, cause: "KMS does not know this host's credentials.", hint: fixCredential},
	"AuthFailure":                         {class: fault.Identity, cause: "KMS does not know this host's credentials.", hint: fixCredential},
	"MissingAuthenticationToken":          {class: fault.Identity, cause: "The request carried no credentials.", hint: fixCredential},
	"MissingAuthenticationTokenException": {class: fault.Identity, cause: "The request carried no credentials.", hint: fixCredential},
	"MissingSecurityHeader":               {class: fault.Identity, cause: "The request carried no credentials.", hint: fixCredential},
}

const (
	fixClock    = "Platform operators must look at this host's time synchronisation and credentials; the customer's key is not concerned."
	askKeyStore = "The customer must look at the key store behind the CMK; it is retried until it works."
)

// judgeAnswer handles an error that KMS put into words. ok is the one that means success.
func judgeAnswer(answer smithy.APIError, status int, worked bool) (v verdict, ok bool) {
	code, text := answer.ErrorCode(), answer.ErrorMessage()
	switch code {
	case "DryRunOperationException":
		return verdict{}, true
	case "KMSInvalidStateException":
		v = judgeState(text)
	case "AccessDeniedException", "AccessDenied":
		v = judgeDenied(text)
	case "NotFoundException":
		v = judgeNotFound(worked)
	default:
		v = judgeCode(code, status)
	}
	if v.reason == "" {
		v.reason = word(code)
	}
	return v, false
}

func judgeCode(code string, status int) verdict {
	if v, known := byCode[code]; known {
		return v
	}
	switch {
	case status == http.StatusTooManyRequests:
		return verdict{class: fault.Throttled, cause: "KMS limits this account's rate of requests.", hint: waitSlowly}
	case status >= http.StatusInternalServerError:
		return serverFailed(status)
	}
	v := notUnderstood
	v.reason, v.cause = "", "KMS answered with an error that this program does not know ("+word(code)+")."
	return v
}

// judgeNotFound: the key is gone if it was ever there for us.
func judgeNotFound(worked bool) verdict {
	if worked {
		return verdict{class: fault.Revoked, cause: "The CMK, which was usable before, does not exist any more.", hint: "The customer must say what became of it. A deleted key cannot be restored, and what it encrypted is lost."}
	}
	return verdict{class: fault.Misconfigured, cause: "KMS knows no key of this ARN in this region.", hint: "Compare key_arn with the customer's key, region included. If the key was deleted, what it encrypted is lost."}
}

// word keeps a code that comes over the wire fit for a metric and a message.
func word(code string) string {
	const most = 64
	fit := func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_' {
			return r
		}
		return -1
	}
	code = strings.Map(fit, code)
	if code == "" {
		return "no-code"
	}
	return code[:min(len(code), most)]
}

func isEOF(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
