// SPDX-License-Identifier: Apache-2.0

package envelope

import (
	"time"

	"golang.org/x/sys/unix"
)

// SinceBoot reads CLOCK_BOOTTIME, which no operator sets and which counts the
// time the machine was suspended: a proof must not be younger for having slept.
// (A hypervisor that pauses the whole machine stops it too; nothing in the guest
// tells of that.)
func SinceBoot() time.Duration { return read(unix.CLOCK_BOOTTIME) }

// Suspended returns how long the machine has been suspended since boot: by how
// much CLOCK_BOOTTIME is ahead of CLOCK_MONOTONIC. It may be too large by the
// time that passes between two readings.
func Suspended() time.Duration {
	monotonic := read(unix.CLOCK_MONOTONIC)
	return read(unix.CLOCK_BOOTTIME) - monotonic
}

func read(clock int32) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		panic("read clock: " + err.Error()) // both exist since Linux 2.6.39
	}
	return time.Duration(t.Nano())
}
