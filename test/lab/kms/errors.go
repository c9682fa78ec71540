// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/volseal/volseal/test/lab/aws"
)

// refuse is an error of KMS's own with HTTP status 400, as all but a few have.
func refuse(code, format string, args ...any) *aws.Error {
	return &aws.Error{Code: code, Message: fmt.Sprintf(format, args...), Status: http.StatusBadRequest}
}

func notFound(format string, args ...any) *aws.Error {
	return refuse("NotFoundException", format, args...)
}

func invalid(format string, args ...any) *aws.Error {
	return refuse("ValidationException", format, args...)
}

// invalidCiphertext has no message on AWS: not even what was wrong is told.
func invalidCiphertext() *aws.Error { return refuse("InvalidCiphertextException", "") }

func incorrectKey() *aws.Error {
	return refuse("IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation.")
}

// wouldSucceed is how a dry run says yes.
func wouldSucceed() *aws.Error {
	return &aws.Error{
		Code:    "DryRunOperationException",
		Message: "The request would have succeeded, but the DryRun option is set.",
		Status:  http.StatusPreconditionFailed,
	}
}

// asAPIError is err if it is one that KMS would answer with; anything else is a
// failure of the emulator and shows as KMS's internal error.
func asAPIError(err error) *aws.Error {
	if e, ok := errors.AsType[*aws.Error](err); ok {
		return e
	}
	return &aws.Error{Code: "KMSInternalException", Message: err.Error(), Status: http.StatusInternalServerError}
}
