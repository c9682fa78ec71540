// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"errors"
	"fmt"

	"github.com/godbus/dbus/v5"

	"github.com/volseal/volseal/internal/fault"
)

// outcome translates the result of a job that systemd took on. The results are
// those of systemd's JobRemoved signal.
func outcome(v verb, unit, result string) error {
	e := &fault.Error{
		Class:  fault.Unknown,
		Reason: "job-" + result,
		Hint:   fmt.Sprintf("Read what systemd and mount(8) say: journalctl -b -u '%s'", unit),
	}
	switch result {
	case "done":
		return nil
	case "skipped":
		if v == stop {
			return nil // it was not running
		}
		e.Cause = fmt.Sprintf("systemd skipped the %s of %s.", v, unit)
	case "failed":
		e.Cause = fmt.Sprintf("systemd could not %s %s.", v, unit)
	case "timeout":
		e.Cause = fmt.Sprintf("The %s of %s took too long, and systemd gave up.", v, unit)
	case "canceled":
		e.Cause = fmt.Sprintf("The %s of %s was cancelled by another request to systemd.", v, unit)
	case "dependency":
		e.Cause = fmt.Sprintf("Something that %s depends on failed.", unit)
		e.Hint = fmt.Sprintf("List what it depends on: systemctl list-dependencies '%s'", unit)
	case "assert":
		e.Class = fault.Misconfigured
		e.Cause = fmt.Sprintf("%s was generated from a configuration that is invalid.", unit)
		e.Hint = "Run: volseal config check, mend what it reports, then: systemctl daemon-reload"
	case "unsupported", "invalid":
		e.Class = fault.Misconfigured
		e.Cause = fmt.Sprintf("systemd cannot %s %s on this host.", v, unit)
	default:
		e.Reason = "job-other"
		e.Cause = fmt.Sprintf("The %s of %s ended in a way that this version does not know.", v, unit)
	}
	return e
}

// refused translates an error of asking: no job was queued, or its end is not known.
func refused(unit string, err error) error {
	e := &fault.Error{Class: fault.Unknown, Reason: "systemd", Err: err}
	e.Cause, e.Hint = fmt.Sprintf("systemd refused to act on %s.", unit), fmt.Sprintf("Try it by hand: systemctl status '%s'", unit)
	switch name := errorName(err); {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		e.Reason = "timeout"
		e.Cause = fmt.Sprintf("systemd is still busy with %s.", unit)
		e.Hint = fmt.Sprintf("See what it waits for: systemctl list-jobs; journalctl -b -u '%s'", unit)
	case name == "": // not systemd's answer, so there was none
		e.Reason = "systemd-lost"
		e.Cause = "The connection to systemd was lost while it worked. The next pass sees what became of it."
		e.Hint = ""
	case unknownUnit(err):
		e.Class, e.Reason = fault.Misconfigured, "no-unit"
		e.Cause = fmt.Sprintf("systemd knows no unit %s.", unit)
		e.Hint = "Have the units generated again: systemctl daemon-reload. If that does not help: journalctl -b -t volseal-generator"
	case name == "org.freedesktop.systemd1.UnitMasked":
		e.Class, e.Reason = fault.Misconfigured, "masked"
		e.Cause = fmt.Sprintf("%s is masked.", unit)
		e.Hint = fmt.Sprintf("Unmask it: systemctl unmask '%s'", unit)
	case name == "org.freedesktop.systemd1.BadUnitSetting", name == "org.freedesktop.systemd1.LoadFailed":
		e.Class, e.Reason = fault.Misconfigured, "bad-unit"
		e.Cause = fmt.Sprintf("%s has a setting that systemd does not accept.", unit)
		e.Hint = fmt.Sprintf("See which: systemd-analyze verify '%s'", unit)
	case name == "org.freedesktop.systemd1.TransactionIsDestructive", name == "org.freedesktop.systemd1.ShuttingDown":
		return ErrStopping
	}
	return e
}

func unknownUnit(err error) bool { return errorName(err) == "org.freedesktop.systemd1.NoSuchUnit" }

// errorName is the name of a D-Bus error, or "".
func errorName(err error) string {
	var e dbus.Error
	if errors.As(err, &e) {
		return e.Name
	}
	return ""
}
