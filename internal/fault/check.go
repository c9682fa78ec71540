// SPDX-License-Identifier: Apache-2.0

package fault

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
	Name   string      `json:"name"`
	Status CheckStatus `json:"status"`
	Detail string      `json:"detail"`
	Remedy string      `json:"remedy"`
	Class  Class       `json:"class"`  // of a failed check, else None
	Reason string      `json:"reason"` // of a failed check, the short stable word; "" where there is none
	Who    []Owner     `json:"who"`    // must act on a failed check; empty for others
}

// Passed is a check that found what should be.
func Passed(name, detail string) Check {
	return Check{Name: name, Status: CheckOK, Detail: detail, Who: []Owner{}}
}

// Skipped is a check that was not made, and why.
func Skipped(name, why string) Check {
	return Check{Name: name, Status: CheckSkipped, Detail: why, Who: []Owner{}}
}

// Failed is the check that err ends.
func Failed(name string, err error) Check {
	return Check{
		Name: name, Status: CheckFailed, Detail: err.Error(), Remedy: HintOf(err),
		Class: ClassOf(err), Reason: ReasonOf(err), Who: WhoOf(err),
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
