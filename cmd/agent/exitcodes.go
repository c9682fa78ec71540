// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"

	"github.com/volseal/volseal/internal/config"
	"github.com/volseal/volseal/internal/control"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// The exit codes. Scripts depend on them: a number keeps its meaning for ever.
const (
	exitDone          = 0
	exitUnexpected    = 1 // or the class is unknown
	exitUsage         = 2
	exitConfig        = 3
	exitNotRunning    = 4
	exitPermission    = 5
	exitNoSuchVolume  = 6
	exitRevoked       = 10
	exitUnreachable   = 11
	exitThrottled     = 12
	exitIntegrity     = 13 // or quarantined
	exitMisconfigured = 14
	exitIdentity      = 15
	exitConflict      = 16 // or busy
	exitTimeout       = 17
)

// exitStatus is a row of the table in the manual and in --help.
type exitStatus struct {
	code    int
	meaning string
}

// exitStatuses is that table.
func exitStatuses() []exitStatus {
	return []exitStatus{
		{exitDone, "done"},
		{exitUnexpected, "unexpected, or class unknown"},
		{exitUsage, "usage"},
		{exitConfig, "configuration invalid"},
		{exitNotRunning, "agent not running"},
		{exitPermission, "permission denied"},
		{exitNoSuchVolume, "no such volume"},
		{exitRevoked, "revoked"},
		{exitUnreachable, "unreachable"},
		{exitThrottled, "throttled"},
		{exitIntegrity, "integrity, or quarantined"},
		{exitMisconfigured, "misconfigured"},
		{exitIdentity, "identity"},
		{exitConflict, "busy or conflict"},
		{exitTimeout, "timed out waiting"},
	}
}

// exitCode is the code for what a verb returned.
func exitCode(err error) int {
	var (
		usage    *usageError
		problems config.Problems
		stands   *standsError
		refusal  *control.Error
		many     *manyError
	)
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &many):
		return exitCode(many.failed[0].err)
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &problems):
		return exitConfig
	case errors.As(err, &stands):
		return exitOfStatus(stands)
	case errors.As(err, &refusal):
		return exitOfRefusal(refusal)
	case errors.Is(err, context.Canceled):
		return exitUnexpected
	}
	return exitOfClass(fault.ClassOf(err))
}

func exitOfRefusal(e *control.Error) int {
	switch e.Code {
	case control.CodeNotRunning, control.CodeUnavailable:
		return exitNotRunning
	case control.CodePermissionDenied:
		return exitPermission
	case control.CodeNoSuchVolume:
		return exitNoSuchVolume
	case control.CodeConflict, control.CodeOverloaded:
		return exitConflict
	case control.CodeInvalidConfig:
		return exitConfig
	case control.CodeTimeout:
		return exitTimeout
	default:
		return exitOfClass(e.Class)
	}
}

// exitOfStatus is the code for a wish that has not come true: of what stands,
// else of how the wait ended.
func exitOfStatus(e *standsError) int {
	s := e.status
	switch {
	case e.outcome == control.Superseded:
		return exitConflict
	case s.Reason == "busy", s.Reason == "conflict":
		return exitConflict
	case s.Phase == volume.Quarantined:
		return exitIntegrity
	case s.Class == fault.None:
		return exitTimeout
	}
	return exitOfClass(s.Class)
}

func exitOfClass(c fault.Class) int {
	switch c {
	case fault.Revoked:
		return exitRevoked
	case fault.Unreachable:
		return exitUnreachable
	case fault.Throttled:
		return exitThrottled
	case fault.Integrity:
		return exitIntegrity
	case fault.Misconfigured:
		return exitMisconfigured
	case fault.Identity:
		return exitIdentity
	default:
		return exitUnexpected
	}
}
