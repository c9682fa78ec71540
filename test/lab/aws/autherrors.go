// SPDX-License-Identifier: Apache-2.0

package aws

import "net/http"

// authCodes names the failures of authentication as one family of services
// does: the JSON services and EC2 have different words for the same thing.
type authCodes struct {
	missing, incomplete, mismatch, skewed func(message string) *Error
	unrecognized, expired                 func() *Error
}

func authCodesOf(service string) authCodes {
	if service == "ec2" {
		return ec2AuthCodes()
	}
	return jsonAuthCodes()
}

// jsonAuthCodes are KMS's. It calls a clock that is off an invalid signature;
// RequestTimeTooSkewed is S3's word and comes only from an injected fault.
func jsonAuthCodes() authCodes {
	return authCodes{
		missing:    coded("MissingAuthenticationTokenException", http.StatusBadRequest),
		incomplete: coded("IncompleteSignatureException", http.StatusBadRequest),
		mismatch:   coded("InvalidSignatureException", http.StatusBadRequest),
		skewed:     coded("InvalidSignatureException", http.StatusBadRequest),
		unrecognized: func() *Error {
			return &Error{"UnrecognizedClientException", "The security token included in the request is invalid.", http.StatusBadRequest}
		},
		expired: func() *Error {
			return &Error{"ExpiredTokenException", "The security token included in the request is expired", http.StatusBadRequest}
		},
	}
}

func ec2AuthCodes() authCodes {
	return authCodes{
		missing:    coded("MissingAuthenticationToken", http.StatusForbidden),
		incomplete: coded("IncompleteSignature", http.StatusBadRequest),
		mismatch:   coded("SignatureDoesNotMatch", http.StatusForbidden),
		skewed:     coded("RequestExpired", http.StatusBadRequest),
		unrecognized: func() *Error {
			return &Error{"AuthFailure", "AWS was not able to validate the provided access credentials", http.StatusUnauthorized}
		},
		expired: func() *Error {
			return &Error{"RequestExpired", "Request has expired.", http.StatusBadRequest}
		},
	}
}

func coded(code string, status int) func(string) *Error {
	return func(message string) *Error { return &Error{code, message, status} }
}
