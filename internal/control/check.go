// SPDX-License-Identifier: Apache-2.0

package control

import (
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/keypolicy"
)

// KeyReport is what was found out about a CMK.
type KeyReport struct {
	ARN       string        `json:"arn"`
	Principal string        `json:"principal"` // who must be allowed: this host's account; "" if that is not known
	OK        bool          `json:"ok"`        // nothing failed
	Checks    []fault.Check `json:"checks"`
	// Missing are statements that the customer puts into the key's policy.
	Missing []keypolicy.Statement `json:"missing_statements"`
}

// Report is what was found out about a host, or about the agent's part of it.
type Report struct {
	OK     bool          `json:"ok"` // nothing failed
	Checks []fault.Check `json:"checks"`
}

// NewReport reports checks.
func NewReport(checks []fault.Check) Report {
	return Report{OK: fault.FirstFailed(checks) == nil, Checks: checks}
}

// keyQuestion is the body of a request to check a key.
type keyQuestion struct {
	ARN string `json:"arn"`
}
