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

// Who acts, the likeliest first.
var (
	byCustomer           = []fault.Owner{fault.Customer}
	byPlatform           = []fault.Owner{fault.Platform}
	byAWS                = []fault.Owner{fault.AWS}
	byPlatformOrAWS      = []fault.Owner{fault.Platform, fault.AWS}
	byPlatformOrCustomer = []fault.Owner{fault.Platform, fault.Customer}
	byCustomerOrPlatform = []fault.Owner{fault.Customer, fault.Platform}
)

// What is said without an answer of KMS.
var (
	credentialsMissing = verdict{fault.Identity, "credentials", "This host could not get AWS credentials.", fixCredential, byPlatform}
	gaveUp             = verdict{fault.Unreachable, "gave-up", "The request to KMS was given up before it was answered.", "Nothing to do: it is asked again.", byPlatform}
	tooSlow            = verdict{fault.Unreachable, "timeout", "KMS did not answer in time.", waitForAWS, byPlatformOrAWS}
	nameUnknown        = verdict{fault.Unreachable, "dns", "The name of the KMS endpoint could not be resolved.", "Look at this host's DNS and, where one is used, at the VPC endpoint for KMS.", byPlatform}
	tlsFailed          = verdict{fault.Unreachable, "tls", "No trusted TLS connection to KMS could be made.", "Look at this host's clock and CA certificates (AWS_CA_BUNDLE), and at proxies that break TLS.", byPlatform}
	networkFailed      = verdict{fault.Unreachable, "network", "The connection to KMS failed.", "Look at this host's route to KMS, security groups and the VPC endpoint; it is retried until it works.", byPlatform}
	requestInvalid     = verdict{fault.Misconfigured, "request", "The request to KMS could not be built.", fixConfig, byPlatform}
	notUnderstood      = verdict{fault.Unknown, "not-understood", "KMS gave an answer that is not understood.", "Look at the agent's debug log; it is retried.", byPlatform}
)

// byCode is every code whose meaning does not depend on its text; after the KMS
// API reference and the SDKs' common errors.
var byCode = map[string]verdict{
	"DisabledException": {class: fault.Revoked, cause: "The CMK is disabled.", hint: "The customer can enable it again (kms:EnableKey).", who: byCustomer},

	"KeyUnavailableException":     {class: fault.Unreachable, cause: "KMS cannot use the CMK at the moment.", hint: waitForAWS, who: byAWS},
	"DependencyTimeoutException":  {class: fault.Unreachable, cause: "A system behind KMS did not answer in time.", hint: waitForAWS, who: byAWS},
	"KMSInternalException":        {class: fault.Unreachable, cause: "KMS failed internally.", hint: waitForAWS, who: byAWS},
	"InternalFailure":             {class: fault.Unreachable, cause: "KMS failed internally.", hint: waitForAWS, who: byAWS},
	"InternalServerError":         {class: fault.Unreachable, cause: "KMS failed internally.", hint: waitForAWS, who: byAWS},
	"ServiceUnavailable":          {class: fault.Unreachable, cause: "KMS is not available.", hint: waitForAWS, who: byAWS},
	"ServiceUnavailableException": {class: fault.Unreachable, cause: "KMS is not available.", hint: waitForAWS, who: byAWS},
	"RequestTimeout":              {class: fault.Unreachable, cause: "The request reached KMS too slowly.", hint: waitForAWS, who: byPlatformOrAWS},
	"RequestTimeoutException":     {class: fault.Unreachable, cause: "The request reached KMS too slowly.", hint: waitForAWS, who: byPlatformOrAWS},

	"CloudHsmClusterInvalidConfigurationException": {class: fault.Unreachable, cause: "The customer's CloudHSM key store is not working.", hint: askKeyStore, who: byCustomer},
	"CloudHsmClusterNotActiveException":            {class: fault.Unreachable, cause: "The customer's CloudHSM key store is not working.", hint: askKeyStore, who: byCustomer},
	"CustomKeyStoreInvalidStateException":          {class: fault.Unreachable, cause: "The customer's custom key store is not connected.", hint: askKeyStore, who: byCustomer},
	"XksProxyUriUnreachableException":              {class: fault.Unreachable, cause: "The customer's external key store proxy cannot be reached.", hint: askKeyStore, who: byCustomer},

	"ThrottlingException":       {class: fault.Throttled, cause: "KMS limits this account's rate of requests.", hint: waitSlowly, who: byPlatform},
	"Throttling":                {class: fault.Throttled, cause: "KMS limits this account's rate of requests.", hint: waitSlowly, who: byPlatform},
	"ThrottledException":        {class: fault.Throttled, cause: "KMS limits this account's rate of requests.", hint: waitSlowly, who: byPlatform},
	"TooManyRequestsException":  {class: fault.Throttled, cause: "KMS limits this account's rate of requests.", hint: waitSlowly, who: byPlatform},
	"RequestLimitExceeded":      {class: fault.Throttled, cause: "KMS limits this account's rate of requests.", hint: waitSlowly, who: byPlatform},
	"RequestThrottled":          {class: fault.Throttled, cause: "KMS limits this account's rate of requests.", hint: waitSlowly, who: byPlatform},
	"RequestThrottledException": {class: fault.Throttled, cause: "KMS limits this account's rate of requests.", hint: waitSlowly, who: byPlatform},
	"SlowDown":                  {class: fault.Throttled, cause: "KMS limits this account's rate of requests.", hint: waitSlowly, who: byPlatform},

	"InvalidCiphertextException": {class: fault.Integrity, cause: "KMS does not recognise the wrapped data key under this encryption context: one of them was changed.", hint: checkHeader, who: byPlatform},
	"IncorrectKeyException":      {class: fault.Integrity, cause: "The data key was wrapped by another CMK than the one configured.", hint: checkHeader, who: byPlatform},

	"LimitExceededException":        {class: fault.Misconfigured, cause: "A KMS resource quota is exhausted.", hint: "Platform operators ask AWS for a higher quota, or remove what is not used.", who: byPlatform},
	"InvalidKeyUsageException":      {class: fault.Misconfigured, cause: "The CMK is not a symmetric key for encryption.", hint: "The customer must offer a symmetric encryption key (SYMMETRIC_DEFAULT, ENCRYPT_DECRYPT).", who: byCustomer},
	"UnsupportedOperationException": {class: fault.Misconfigured, cause: "The CMK does not support this operation.", hint: "The customer must offer a symmetric encryption key (SYMMETRIC_DEFAULT, ENCRYPT_DECRYPT).", who: byCustomer},
	"InvalidArnException":           {class: fault.Misconfigured, cause: "KMS does not accept the CMK's ARN: it is malformed or of another region.", hint: fixConfig, who: byPlatform},
	"ValidationException":           {class: fault.Misconfigured, cause: "KMS does not accept the request.", hint: fixConfig, who: byPlatform},
	"ValidationError":               {class: fault.Misconfigured, cause: "KMS does not accept the request.", hint: fixConfig, who: byPlatform},
	"InvalidParameterValue":         {class: fault.Misconfigured, cause: "KMS does not accept the request.", hint: fixConfig, who: byPlatform},
	"InvalidGrantTokenException":    {class: fault.Misconfigured, cause: "KMS does not accept a grant token.", hint: fixConfig, who: byPlatform},
	"SerializationException":        {class: fault.Misconfigured, cause: "KMS does not accept the request.", hint: fixConfig, who: byPlatform},
	"UnknownOperationException":     {class: fault.Misconfigured, cause: "The endpoint does not know the operation: it is not KMS's.", hint: fixConfig, who: byPlatform},
	"InvalidAction":                 {class: fault.Misconfigured, cause: "The endpoint does not know the operation: it is not KMS's.", hint: fixConfig, who: byPlatform},
	"OptInRequired":                 {class: fault.Misconfigured, cause: "This AWS account has no access to KMS in this region.", hint: "Platform operators must enable the region for the account.", who: byPlatform},

	"ExpiredToken":                        {class: fault.Identity, cause: "This host's AWS credentials have expired.", hint: fixCredential, who: byPlatform},
	"ExpiredTokenException":               {class: fault.Identity, cause: "This host's AWS credentials have expired.", hint: fixCredential, who: byPlatform},
	"RequestExpired":                      {class: fault.Identity, cause: "The request reached KMS too late: this host's clock may be off.", hint: fixClock, who: byPlatform},
	"RequestTimeTooSkewed":                {class: fault.Identity, cause: "This host's clock is off by more than KMS tolerates.", hint: fixClock, who: byPlatform},
	"RequestInTheFuture":                  {class: fault.Identity, cause: "This host's clock is off by more than KMS tolerates.", hint: fixClock, who: byPlatform},
	"InvalidSignatureException":           {class: fault.Identity, cause: "KMS does not accept the request's signature: the clock may be off, or the credentials wrong.", hint: fixClock, who: byPlatform},
	"SignatureDoesNotMatch":               {class: fault.Identity, cause: "KMS does not accept the request's signature: the clock may be off, or the credentials wrong.", hint: fixClock, who: byPlatform},
	"IncompleteSignature":                 {class: fault.Identity, cause: "KMS does not accept the request's signature.", hint: fixCredential, who: byPlatform},
	"IncompleteSignatureException":        {class: fault.Identity, cause: "KMS does not accept the request's signature.", hint: fixCredential, who: byPlatform},
	"UnrecognizedClientException":         {class: fault.Identity, cause: "KMS does not know this host's credentials.", hint: fixCredential, who: byPlatform},
	"InvalidClientTokenId":                {class: fault.Identity, cause: "KMS does not know this host's credentials.", hint: fixCredential, who: byPlatform},
	"InvalidToken":                        {class: fault.Identity, cause: "KMS does not know this host's credentials.", hint: fixCredential, who: byPlatform},
	"AuthFailure":                         {class: fault.Identity, cause: "KMS does not know this host's credentials.", hint: fixCredential, who: byPlatform},
	"MissingAuthenticationToken":          {class: fault.Identity, cause: "The request carried no credentials.", hint: fixCredential, who: byPlatform},
	"MissingAuthenticationTokenException": {class: fault.Identity, cause: "The request carried no credentials.", hint: fixCredential, who: byPlatform},
	"MissingSecurityHeader":               {class: fault.Identity, cause: "The request carried no credentials.", hint: fixCredential, who: byPlatform},
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
	case "AccessDeniedException", "AccessDenied", "NotAuthorized":
		v = judgeDenied(text)
	case "NotFoundException":
		v = judgeNotFound(worked)
	case "KMSInternalException", "KeyUnavailableException", "DependencyTimeoutException":
		v = judgeService(code, text)
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
		return verdict{class: fault.Throttled, cause: "KMS limits this account's rate of requests.", hint: waitSlowly, who: byPlatform}
	case status >= http.StatusInternalServerError:
		return serverFailed(status)
	}
	v := notUnderstood
	v.reason, v.cause = "", "KMS answered with an error that this program does not know ("+word(code)+")."
	return v
}

// judgeService: what KMS calls its own failure may be that of the key store
// which the customer runs behind the CMK.
func judgeService(code, text string) verdict {
	if v, found := firstMatch(keyStoreTexts, text); found {
		return v
	}
	return byCode[code]
}

// judgeNotFound: the key is gone if it was ever there for us.
func judgeNotFound(worked bool) verdict {
	if worked {
		return verdict{class: fault.Revoked, cause: "The CMK, which was usable before, does not exist any more.", hint: "The customer must say what became of it. A deleted key cannot be restored, and what it encrypted is lost.", who: byCustomer}
	}
	return verdict{class: fault.Misconfigured, cause: "KMS knows no key of this ARN in this region.", hint: "Compare key_arn with the customer's key, region included. If the key was deleted, what it encrypted is lost.", who: byPlatformOrCustomer}
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
