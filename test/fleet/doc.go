// SPDX-License-Identifier: Apache-2.0

// Package fleet simulates thousands of hosts that share one KMS request quota,
// to see what the pacing of each host does to all of them: whether everybody is
// mounted in the end, how soon, and what it costs the account's other clients.
//
// Real is all that decides when a host calls KMS: envelope.Keyring with its
// cache, flights, breaker and pace, one for each host; volume.RetryAfter; the
// classes that envelope/kms makes of KMS's errors; and for the client it is
// compared with, the AWS SDK's own retryer. A model are KMS (kms.go), the worker
// of a volume reduced to its loop of prove, open, rest and probe (host.go), and
// the naive unit (naive.go).
//
// Everything runs in process, in the virtual time of testing/synctest, which is
// what lets ten thousand unmodified Keyrings run a minute in a second. It is not
// repeatable to the call: jitter draws from the runtime's source of randomness,
// which has no seed. The tests therefore assert bounds, and the figures of
// docs/fleet.md move by some per cent from run to run. (A call outlives whoever
// asked for it, so a run ends with a virtual minute in which the last ones end.)
//
// What must not live here: anything that the product imports, and any claim
// about time spent outside KMS (attaching, fsck, starting a database).
package fleet
