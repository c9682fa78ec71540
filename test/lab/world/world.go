// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/volseal/volseal/test/lab/ec2"
)

// Options of a world. Only Dir is required.
type Options struct {
	Dir         string        // state and raw images; created when missing
	Plugger     ec2.Plugger   // nil: volumes are plugged nowhere
	Machine     Machine       // nil: `labctl host` is refused
	IMDSBinary  string        // ec2-metadata-mock; empty: found, or built from the tools module
	WithoutIMDS bool          // no metadata service at all
	AttachLimit int           // volumes attached to an instance at once; 0: 28
	LatencyMin  time.Duration // of an asynchronous transition; both 0: 200 ms to 1 s
	LatencyMax  time.Duration
	Log         *slog.Logger // nil: nothing is logged
}

// World is a running emulated AWS.
type World struct{}

// Start assembles a world and serves it until Close.
func Start(ctx context.Context, opts Options) (*World, error) {
	return nil, errors.New("start world: not built yet")
}

// Addr is the loopback host:port of "kms", "ec2", "imds" (behind the wire
// faults) or "control"; empty for any other name.
func (w *World) Addr(service string) string { return "" }

// Disks are the volumes to boot the machine with, in order of attachment.
func (w *World) Disks() []ec2.Disk { return nil }

// Close ends everything that Start began. Dir stays.
func (w *World) Close() error { return nil }
