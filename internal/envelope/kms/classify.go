// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/volseal/volseal/internal/fault"
)

// Classify says of any error of a KMS call who must act and whether waiting
// helps. It is total: nil for nil and for DryRunOperationException (a dry run
// that would have succeeded), else a *fault.Error that wraps err. ctx is the
// caller's context, not that of the single try: whether the caller gave up or
// KMS was slow cannot be told from err.
//
// Only an error that KMS itself put into words is ever class Revoked. Where the
// words do not say, it is what delays least and locks nothing: Unknown.
func Classify(ctx context.Context, err error) *fault.Error {
	return classify(ctx, err, false)
}

func classify(ctx context.Context, err error, worked bool) *fault.Error {
	if err == nil {
		return nil
	}
	var f *fault.Error
	if errors.As(err, &f) {
		return f
	}
	v, ok := judge(ctx, err, worked)
	if ok {
		return nil
	}
	return &fault.Error{Class: v.class, Reason: v.reason, Cause: v.cause, Hint: v.hint, Who: v.who, Err: err}
}

// verdict is one row of the tables: a complete sentence each for what happened
// and for who should do what, and that party's name.
type verdict struct {
	class  fault.Class
	reason string // "" where the code is the reason
	cause  string
	hint   string
	who    []fault.Owner
}

// judge asks in the order that keeps one failure from passing for another: what
// failed while getting credentials may well hold an answer of another service.
func judge(ctx context.Context, err error, worked bool) (v verdict, ok bool) {
	if identityFailed(err) && !errors.Is(ctx.Err(), context.Canceled) {
		return credentialsMissing, false
	}
	var answer smithy.APIError
	if !identityFailed(err) && errors.As(err, &answer) {
		return judgeAnswer(answer, statusOf(err), worked)
	}
	if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return gaveUp, false
	}
	return judgeTransport(err), false
}

// identityFailed reports whether err arose in getting credentials or signing:
// marked by NewClient, by the signer, or the operation of another service.
func identityFailed(err error) bool {
	var marked *credentialsError
	var signing *v4.SigningError
	if errors.As(err, &marked) || errors.As(err, &signing) {
		return true
	}
	for ; err != nil; err = errors.Unwrap(err) {
		if op, is := err.(*smithy.OperationError); is && op.ServiceID != "KMS" { //nolint:errorlint // each link is looked at
			return true
		}
	}
	return false
}

func statusOf(err error) int {
	var r *smithyhttp.ResponseError
	if errors.As(err, &r) && r.Response != nil && r.Response.Response != nil {
		return r.HTTPStatusCode()
	}
	return 0
}

// judgeTransport handles what never became an answer of KMS.
func judgeTransport(err error) verdict {
	var (
		dns       *net.DNSError
		netOp     *net.OpError
		send      *smithyhttp.RequestSendError
		unread    *smithy.DeserializationError
		unwritten *smithy.SerializationError
		params    smithy.InvalidParamsError
		timed     net.Error
	)
	switch {
	case errors.As(err, &dns):
		return nameUnknown
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timed) && timed.Timeout():
		return tooSlow
	case isTLS(err):
		return tlsFailed
	case errors.As(err, &unread):
		return judgeUnread(err, statusOf(err))
	case errors.As(err, &netOp), errors.As(err, &send):
		return networkFailed
	case errors.As(err, &unwritten), errors.As(err, &params):
		return requestInvalid
	default:
		return notUnderstood
	}
}

func isTLS(err error) bool {
	var (
		verification *tls.CertificateVerificationError
		record       tls.RecordHeaderError
		alert        tls.AlertError
		unknown      x509.UnknownAuthorityError
		invalid      x509.CertificateInvalidError
		host         x509.HostnameError
	)
	return errors.As(err, &verification) || errors.As(err, &record) || errors.As(err, &alert) ||
		errors.As(err, &unknown) || errors.As(err, &invalid) || errors.As(err, &host) || errors.Is(err, http.ErrSchemeMismatch)
}

// judgeUnread handles an answer that is not KMS's JSON: cut off on the way, or
// written by something that stands before KMS. Such a thing's 403 is no word of
// the customer's key.
func judgeUnread(err error, status int) verdict {
	var cut *net.OpError
	switch {
	case errors.As(err, &cut), isEOF(err):
		return networkFailed
	case status == http.StatusTooManyRequests:
		return verdict{fault.Throttled, "http-429", "Something before KMS limits the rate of requests.", waitSlowly, byPlatform}
	case status >= http.StatusInternalServerError:
		return serverFailed(status)
	default:
		return notUnderstood
	}
}

func serverFailed(status int) verdict {
	return verdict{fault.Unreachable, fmt.Sprintf("http-%d", status), fmt.Sprintf("KMS, or something before it, failed with HTTP status %d.", status), waitForAWS, byPlatformOrAWS}
}
