// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// Faults are the errors that services have been told to answer with instead of
// serving: what is wrong in the service. What is wrong on the wire (latency, a
// black hole) is not here. It is safe for concurrent use.
type Faults struct {
	mu    sync.Mutex
	armed map[string]armedFault
}

type armedFault struct {
	err  Error
	left int // answers left; unlimited when negative
}

// NewFaults returns a registry in which every service is well.
func NewFaults() *Faults { return &Faults{armed: map[string]armedFault{}} }

// Set arms a service with one fault, in place of an earlier one:
// "throttle" (until "off"), "error=CODE" (until "off"), "error=CODE:N" (N
// times, then off), "error=CODE:N:MESSAGE" (N of 0: until "off") or "off".
func (f *Faults) Set(service, spec string) error {
	fault, err := parseFault(service, spec)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.armed, service)
	if fault.left != 0 {
		f.armed[service] = fault
	}
	return nil
}

// Next returns the error to answer the next request of service with, or nil to
// serve it.
func (f *Faults) Next(service string) *Error {
	f.mu.Lock()
	defer f.mu.Unlock()
	fault, ok := f.armed[service]
	if !ok {
		return nil
	}
	if fault.left > 0 {
		fault.left--
		f.armed[service] = fault
		if fault.left == 0 {
			delete(f.armed, service)
		}
	}
	answer := fault.err
	return &answer
}

func parseFault(service, spec string) (armedFault, error) {
	switch spec {
	case "off":
		return armedFault{}, nil
	case "throttle":
		return armedFault{err: throttled(service), left: -1}, nil
	}
	rest, ok := strings.CutPrefix(spec, "error=")
	parts := strings.SplitN(rest, ":", 3)
	if !ok || parts[0] == "" {
		return armedFault{}, fmt.Errorf("set fault %q: want off, throttle or error=CODE[:N[:MESSAGE]]", spec)
	}
	fault := armedFault{err: injected(parts[0]), left: -1}
	if len(parts) > 1 {
		n, err := strconv.Atoi(parts[1])
		if err != nil || n < 0 {
			return armedFault{}, fmt.Errorf("set fault %q: want a count after the code", spec)
		}
		if n > 0 {
			fault.left = n
		}
	}
	if len(parts) > 2 {
		fault.err.Message = parts[2]
	}
	return fault, nil
}

func throttled(service string) Error {
	if service == "ec2" {
		return injected("RequestLimitExceeded")
	}
	return injected("ThrottlingException")
}

// injected gives a code the status and text it has on AWS; a code that is not
// listed is the caller's fault, as most are.
func injected(code string) Error {
	known := map[string]Error{
		"ThrottlingException":         {Status: http.StatusBadRequest, Message: "Rate exceeded"},
		"RequestLimitExceeded":        {Status: http.StatusServiceUnavailable, Message: "Request limit exceeded."},
		"KMSInternalException":        {Status: http.StatusInternalServerError, Message: "An internal error occurred."},
		"KeyUnavailableException":     {Status: http.StatusInternalServerError, Message: "The key is temporarily unavailable."},
		"DependencyTimeoutException":  {Status: http.StatusServiceUnavailable, Message: "The system timed out while trying to fulfill the request."},
		"InternalFailure":             {Status: http.StatusInternalServerError, Message: "The request processing has failed because of an unknown error, exception or failure."},
		"InternalError":               {Status: http.StatusInternalServerError, Message: "An internal error has occurred"},
		"InternalServerError":         {Status: http.StatusInternalServerError, Message: "An internal server error has occurred."},
		"InsufficientVolumeCapacity":  {Status: http.StatusInternalServerError, Message: "There is not enough capacity to fulfill your EBS volume provision request."},
		"RequestTimeout":              {Status: http.StatusRequestTimeout, Message: "The request timed out."},
		"RequestTimeoutException":     {Status: http.StatusRequestTimeout, Message: "The request timed out."},
		"SlowDown":                    {Status: http.StatusServiceUnavailable, Message: "Please reduce your request rate."},
		"TooManyRequestsException":    {Status: http.StatusTooManyRequests, Message: "Too many requests"},
		"ServiceUnavailable":          {Status: http.StatusServiceUnavailable, Message: "Service is unable to handle request."},
		"ServiceUnavailableException": {Status: http.StatusServiceUnavailable, Message: "Service is unable to handle request."},
		"Unavailable":                 {Status: http.StatusServiceUnavailable, Message: "The server is overloaded and can't handle the request."},
		"KMSInvalidStateException":    {Status: http.StatusBadRequest, Message: "The external key store proxy did not respond in time."},
		"ExpiredTokenException":       {Status: http.StatusBadRequest, Message: "The security token included in the request is expired"},
		"UnrecognizedClientException": {Status: http.StatusBadRequest, Message: "The security token included in the request is invalid."},
		"RequestTimeTooSkewed":        {Status: http.StatusForbidden, Message: "The difference between the request time and the current time is too large."},
		"InvalidClientTokenId":        {Status: http.StatusForbidden, Message: "The security token included in the request is invalid."},
		"MissingAuthenticationToken":  {Status: http.StatusForbidden, Message: "Request is missing Authentication Token"},
		"OptInRequired":               {Status: http.StatusForbidden, Message: "The AWS Access Key Id needs a subscription for the service"},
		"RequestExpired":              {Status: http.StatusBadRequest, Message: "Request has expired."},
		"AuthFailure":                 {Status: http.StatusUnauthorized, Message: "AWS was not able to validate the provided access credentials"},
		"UnauthorizedOperation":       {Status: http.StatusForbidden, Message: "You are not authorized to perform this operation."},
		"AccessDeniedException":       {Status: http.StatusBadRequest, Message: "The request was denied."},
		"DryRunOperationException":    {Status: http.StatusPreconditionFailed, Message: "The request would have succeeded, but the DryRun option is set."},
	}
	e, ok := known[code]
	if !ok {
		e = Error{Status: http.StatusBadRequest, Message: "The request was refused by an injected fault."}
	}
	e.Code = code
	return e
}
