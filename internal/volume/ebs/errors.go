// SPDX-License-Identifier: Apache-2.0

package ebs

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/volseal/volseal/internal/fault"
)

// classify turns what the SDK returned into a *fault.Error. The caller's
// context is still good: that was asked before.
func (r request) classify(err error, limit time.Duration) *fault.Error {
	// Credentials come first: what lies within is an error of another service.
	var creds *credentialsError
	if errors.As(err, &creds) {
		return r.fail("no-credentials", err, meaning{
			fault.Identity, "this host has no credentials to ask with.",
			"Check that the instance has a role and that its metadata service (IMDSv2) answers, with a hop limit that reaches the agent.", byPlatform,
		})
	}
	var ours *fault.Error // of a dry run, which judged its answer
	if errors.As(err, &ours) {
		return ours
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		return r.classifyCode(api, status(err), err)
	}
	return r.classifyWire(err, limit)
}

// classifyCode judges an answer that EC2 gave.
func (r request) classifyCode(api smithy.APIError, httpStatus int, err error) *fault.Error {
	code := word(api.ErrorCode())
	if m, known := meanings()[code]; known {
		return r.fail(code, err, m)
	}
	switch {
	case httpStatus == http.StatusTooManyRequests:
		return r.fail(code, err, meanings()["Throttling"])
	case httpStatus >= http.StatusInternalServerError:
		return r.fail(code, err, meanings()["InternalError"])
	case isBadRequest(code):
		return r.fail(code, err, meaning{
			fault.Misconfigured, fmt.Sprintf("EC2 calls the request invalid: %s", sentence(api.ErrorMessage())),
			"Check volume_id, instance_id and region; if they are right, this is a defect of volseal.", byPlatform,
		})
	}
	return r.fail(code, err, meaning{
		fault.Unknown, fmt.Sprintf("EC2 answered %s, which volseal does not know: %s", code, sentence(api.ErrorMessage())),
		"Look the code up in the EC2 API reference, and report it so that volseal learns what it means.", byPlatform,
	})
}

// isBadRequest recognises the families of codes that blame the request itself.
func isBadRequest(code string) bool {
	for _, family := range []string{"InvalidParameter", "MissingParameter", "UnknownParameter", "InvalidAction", "InvalidRequest", "ValidationError", "Unsupported"} {
		if strings.HasPrefix(code, family) {
			return true
		}
	}
	return false
}

// classifyWire judges the absence of an answer that could be read. All that can
// go wrong between this host and EC2's front end is one class; the reason tells
// the ways apart for a person.
func (r request) classifyWire(err error, limit time.Duration) *fault.Error {
	reason, cause := "network", "EC2 cannot be reached."
	switch httpStatus := status(err); {
	case errors.Is(err, context.DeadlineExceeded): // ours: the caller's own was asked before
		reason, cause = "timeout", fmt.Sprintf("EC2 did not answer within %s.", limit)
	case httpStatus >= http.StatusInternalServerError:
		reason, cause = "http-5xx", fmt.Sprintf("EC2, or something before it, answered with HTTP status %d.", httpStatus)
	case httpStatus != 0:
		reason, cause = "garbled", "what answered is not EC2, or its answer broke off."
	case !isSendError(err):
		return r.fail("unsent", err, meaning{
			fault.Unknown, "the request could not be made.", "Check region and endpoint configuration (AWS_REGION, AWS_ENDPOINT_URL_EC2).", byPlatform,
		})
	}
	return r.fail(reason, err, meaning{fault.Unreachable, cause, wireHint, byPlatformOrAWS})
}

func isSendError(err error) bool {
	var send *smithyhttp.RequestSendError
	return errors.As(err, &send)
}

// status is the HTTP status of the answer, or 0 if there was none.
func status(err error) int {
	var answer *smithyhttp.ResponseError
	if errors.As(err, &answer) && answer.Response != nil && answer.Response.Response != nil {
		return answer.HTTPStatusCode()
	}
	return 0
}

func (r request) fail(reason string, err error, m meaning) *fault.Error {
	return &fault.Error{
		Class: m.class, Reason: reason,
		Cause: fmt.Sprintf("Could not %s: %s", r.doing, m.cause),
		Hint:  m.hint, Who: m.who, Err: err,
	}
}

// abandoned is the caller's own end, stopping or out of time. It is not EC2's
// fault, and errors.Is finds the context's error in it.
func (r request) abandoned(ctx context.Context, err error) *fault.Error {
	return r.fail("abandoned", errors.Join(ctx.Err(), err), meaning{
		fault.Unknown, "the operation was ended before EC2 answered.", "Ask again.", byPlatform,
	})
}

// notSent is a request that was held back.
func (r request) notSent(ctx context.Context, err error) *fault.Error {
	if ctx.Err() != nil {
		return r.abandoned(ctx, err)
	}
	return r.fail("paced", err, meaning{
		fault.Throttled, "EC2 throttled earlier requests, so this one was held back.", paceHint, byPlatform,
	})
}

// word bounds a code, which becomes a label of logs, to what AWS uses in one.
func word(code string) string {
	const longest = 64
	for i, c := range code {
		if i >= longest || c > unicode.MaxASCII || !unicode.IsLetter(c) && !unicode.IsDigit(c) && c != '.' && c != '_' && c != '-' {
			return "unreadable-code"
		}
	}
	if code == "" {
		return "no-code"
	}
	return code
}

// sentence makes EC2's own words fit for a terminal and a log line: bounded,
// printable, and ended with a full stop.
func sentence(message string) string {
	const longest = 240
	printable := strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return ' '
	}, message)
	if runes := []rune(printable); len(runes) > longest {
		printable = string(runes[:longest]) + "…"
	}
	return strings.TrimSuffix(strings.TrimSpace(printable), ".") + "."
}
