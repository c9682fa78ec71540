// SPDX-License-Identifier: Apache-2.0

package control

import (
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/keypolicy"
)

// CheckStatus is what came of one check. The text is part of the outward contract.
type CheckStatus string

// The statuses. Only CheckFailed demands that somebody changes something.
const (
	CheckOK      CheckStatus = "ok"
	CheckWarn    CheckStatus = "warn"    // works, but somebody should look
	CheckFailed  CheckStatus = "failed"  // Class says who must act
	CheckSkipped CheckStatus = "skipped" // cannot be told here; Detail says why
)

// CheckStatuses lists them, in the order documents use.
func CheckStatuses() []CheckStatus {
	return []CheckStatus{CheckOK, CheckWarn, CheckFailed, CheckSkipped}
}

// Check is one line of a report. Detail and Remedy are sentences for a person;
// Remedy is "" where there is nothing to do.
type Check struct {
	Name   string        `json:"name"`
	Status CheckStatus   `json:"status"`
	Detail string        `json:"detail"`
	Remedy string        `json:"remedy"`
	Class  fault.Class   `json:"class"` // of a failed check, else None
	Who    []fault.Owner `json:"who"`   // must act on a failed check; empty for others
}

// Failed is the check of that name that err ends.
func Failed(name string, err error) Check {
	return Check{
		Name: name, Status: CheckFailed, Detail: err.Error(), Remedy: fault.HintOf(err),
		Class: fault.ClassOf(err), Who: fault.WhoOf(err),
	}
}

// FirstFailed is the first check that failed, nil if none did. Reports put
// causes before what follows from them.
func FirstFailed(checks []Check) *Check {
	for i := range checks {
		if checks[i].Status == CheckFailed {
			return &checks[i]
		}
	}
	return nil
}

// KeyReport is what was found out about a CMK.
type KeyReport struct {
	ARN       string  `json:"arn"`
	Principal string  `json:"principal"` // who must be allowed: this host's account; "" if that is not known
	OK        bool    `json:"ok"`        // nothing failed
	Checks    []Check `json:"checks"`
	// Missing are statements that the customer puts into the key's policy.
	Missing []keypolicy.Statement `json:"missing_statements"`
}

// Report is what was found out about a host, or about the agent's part of it.
type Report struct {
	OK     bool    `json:"ok"` // nothing failed
	Checks []Check `json:"checks"`
}

// NewReport reports checks.
func NewReport(checks []Check) Report {
	return Report{OK: FirstFailed(checks) == nil, Checks: checks}
}

// keyQuestion is the body of a request to check a key.
type keyQuestion struct {
	ARN string `json:"arn"`
}
