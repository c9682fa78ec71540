// SPDX-License-Identifier: Apache-2.0

// Package doctor examines a key, this host as the agent sees it, and this host
// as whoever asks sees it. Small readers gather what is there; pure functions
// judge it, a line for each question, with a remedy where one is needed.
//
// Nothing here changes anything, and nothing here is asked by the agent itself:
// what it decides upon it looks at anew.
package doctor

import (
	"github.com/volseal/volseal/internal/fault"
)

func warned(name, detail, remedy string) fault.Check {
	return fault.Check{Name: name, Status: fault.CheckWarn, Detail: detail, Remedy: remedy, Who: []fault.Owner{}}
}

// failed is for what this host's operators set up.
func failed(name, detail, remedy string) fault.Check {
	return fault.Check{
		Name: name, Status: fault.CheckFailed, Detail: detail, Remedy: remedy,
		Class: fault.Misconfigured, Who: []fault.Owner{fault.Platform},
	}
}

// failedBy is for what somebody else must change.
func failedBy(class fault.Class, who fault.Owner, name, detail, remedy string) fault.Check {
	c := failed(name, detail, remedy)
	c.Class, c.Who = class, []fault.Owner{who}
	return c
}
