// SPDX-License-Identifier: Apache-2.0

// Package fault says what went wrong in the terms an operator needs: the class
// (who must act, and whether waiting helps), the cause, and a hint. Adapters
// translate the world's errors into a *Error once, where they know most; the
// rest of the program only asks ClassOf, WhoOf and their like. Nothing here
// knows an API, LUKS or HTTP.
package fault

import (
	"errors"
	"slices"
)

// Class is the closed set of answers to "who must act, and does waiting help?".
// The text of each is part of the outward contract: it labels metrics, appears
// in JSON and selects the CLI's exit code.
type Class string

// The classes. None is the absence of an error and never a class of one.
const (
	None          Class = ""
	Revoked       Class = "revoked"       // the customer's key says no: refuse at once, forget cached keys
	Unreachable   Class = "unreachable"   // nobody answered, or the service is broken: refuse, retry for ever
	Throttled     Class = "throttled"     // asked too often: refuse, slow down
	Integrity     Class = "integrity"     // what is on the disk is not what we wrote: quarantine the volume
	Misconfigured Class = "misconfigured" // the request can never work: somebody must change something
	Identity      Class = "identity"      // we could not prove who we are: retry, never read it as revocation
	Unknown       Class = "unknown"       // any other answer: refuse, retry, alert
)

// Classes lists every class of an error, in the order tables and metrics use.
func Classes() []Class {
	return []Class{Revoked, Unreachable, Throttled, Integrity, Misconfigured, Identity, Unknown}
}

// WaitingHelps reports whether an error of this class may pass without anybody
// changing anything; `--wait` returns at once when it cannot.
func (c Class) WaitingHelps() bool {
	switch c {
	case Revoked, Integrity, Misconfigured:
		return false
	default:
		return true
	}
}

// Owner is a party that can mend something. The text is part of the outward
// contract, as that of Class is.
type Owner string

// The owners.
const (
	Customer Owner = "customer" // who owns the CMK
	Platform Owner = "platform" // who runs the hosts, their roles, their network and the configuration
	AWS      Owner = "AWS"
)

// Owners are those who may have to act on an error of this class of which
// nothing nearer is known, the likeliest first. They are never nobody.
func (c Class) Owners() []Owner {
	switch c {
	case None:
		return nil
	case Revoked:
		return []Owner{Customer}
	case Unreachable:
		return []Owner{Platform, AWS}
	default:
		return []Owner{Platform}
	}
}

// Reasons of class Revoked that refuse a key like any other and yet are no word
// of the customer's: see CustomerRefuses.
const (
	ReasonDeniedByPlatform = "denied-by-platform" // a policy of the platform's own denies the use of the key
	ReasonDeniedUnclear    = "denied-unclear"     // some policy does, and the answer does not say whose
)

// Error is a failure with its class. Cause and Hint are complete sentences for
// a person, hold no secret and no text taken from a disk; Reason is a short
// stable word for metrics (for example the AWS error code or the name of the
// header rule that failed) and may be empty. Who is whoever must act, the
// likeliest first; nil leaves it to the class.
type Error struct {
	Class  Class
	Reason string
	Cause  string
	Hint   string
	Who    []Owner
	Err    error // what lies beneath, for errors.Is and the debug log; may be nil
}

func (e *Error) Error() string { return e.Cause }

func (e *Error) Unwrap() error { return e.Err }

// ClassOf returns the class of err: None for nil, Unknown for an error that
// nobody classified.
func ClassOf(err error) Class {
	if err == nil {
		return None
	}
	var e *Error
	if errors.As(err, &e) && e.Class != None {
		return e.Class
	}
	return Unknown
}

// HintOf returns the hint nearest to the surface of err, or "".
func HintOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Hint
	}
	return ""
}

// ReasonOf returns the reason nearest to the surface of err, or "".
func ReasonOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}

// WhoOf returns who must act on err, the likeliest first: as the error nearest
// to its surface says, else as its class does. It is nil for nil alone.
func WhoOf(err error) []Owner {
	var e *Error
	if errors.As(err, &e) && len(e.Who) > 0 {
		return slices.Clone(e.Who)
	}
	return ClassOf(err).Owners()
}

// CustomerRefuses reports whether err is the customer's own and plain no: the
// only kind of answer that may count as evidence for locking a volume that is
// mounted. A slip in a policy of the platform's must never stop a database.
func CustomerRefuses(err error) bool {
	if ClassOf(err) != Revoked {
		return false
	}
	switch ReasonOf(err) {
	case ReasonDeniedByPlatform, ReasonDeniedUnclear:
		return false
	default:
		return true
	}
}
