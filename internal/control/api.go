// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"time"

	"github.com/volseal/volseal/internal/volume"
)

// DefaultSocket is where the agent listens.
const DefaultSocket = "/run/volseal/volseal.sock"

// MaxWait is the longest one request may wait for a change. Clients that wish
// to wait longer ask again.
const MaxWait = time.Minute

// The headers of a reading answer. A cursor names the moment the answer shows;
// handed back with wait=, it makes the server answer once something is newer.
// It is opaque and means nothing to another run of the agent.
const (
	cursorHeader = "Volseal-Cursor"
	runHeader    = "Volseal-Run" // names this run of the agent
)

// Agent is what the server needs of the agent. All methods are safe for
// concurrent use.
type Agent interface {
	// Status is everything that is known now. It asks nobody and does not block.
	Status() volume.Snapshot
	// Volume is the status of one volume, false if none of that name is configured.
	Volume(name string) (volume.Status, bool)
	// Do records a wish for a volume and returns its number, to be compared with
	// volume.Status.Answered. It does not wait for the wish to come true.
	// Errors: volume.ErrNoSuchVolume, *volume.OrderError, *volume.ConflictError, *fault.Error.
	Do(ctx context.Context, name string, order volume.Order, by Peer) (wish uint64, err error)
	// Rotate records that a volume's keys are to be rotated, and does not wait for
	// it; it may ask KMS about the new CMK first. A dry run ends there. Errors:
	// *volume.OrderError, and those of Do.
	Rotate(ctx context.Context, name string, order volume.RotateOrder, by Peer) (volume.RotateAnswer, error)
	// VerifyHeader, BackUpHeader and RestoreHeader work on a volume's header and
	// return when that is done. Errors are those of Do.
	VerifyHeader(ctx context.Context, name string) (volume.HeaderReport, error)
	BackUpHeader(ctx context.Context, name string) (volume.HeaderBackup, error)
	RestoreHeader(ctx context.Context, name string, order volume.HeaderOrder) (volume.HeaderRestored, error)
	// FlushCache forgets every cached data key.
	FlushCache(ctx context.Context) error
	// Reload reads the configuration anew. With a bad one the old one stays and
	// the error is an *Error with CodeInvalidConfig.
	Reload(ctx context.Context) error
	// CheckKey finds out, as this host's role, whether a CMK can be used for
	// volumes; no volume need have it. It takes some seconds. What is wrong with
	// the key stands in the report; an error means that the question was.
	CheckKey(ctx context.Context, arn string) (KeyReport, error)
	// Doctor examines what only the agent can see of this host. It takes some
	// seconds; one at a time.
	Doctor(ctx context.Context) (Report, error)
	// Changes returns the number of the latest change that Status shows, and a
	// channel that is closed at the next one.
	Changes() (revision uint64, changed <-chan struct{})
	// Healthy reports whether the loop turns.
	Healthy() bool
	// Ready reports whether every volume is Mounted.
	Ready() bool
}

// Accepted is the answer to a recorded wish.
type Accepted struct {
	Volume     string      `json:"volume"` // its name
	Verb       volume.Verb `json:"verb"`
	Wish       uint64      `json:"wish_seq"`             // its number, to be compared with answered_seq of the volume
	Generation int         `json:"generation,omitempty"` // of rotate alone: the volume's, once it has come true
	run        string      // the run of the agent that gave the wish its number
}

// Done is the answer to a request that is finished when it is answered.
type Done struct {
	OK bool `json:"ok"`
}
