// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"math/rand/v2"
	"time"

	"github.com/volseal/volseal/internal/fault"
)

// The bounds of a retry. The ceiling is 20 s rather than the customary 30 or
// more, so that a mended cause leads to Mounted within 40 s: one call that was
// just timing out, the wait, the proof, the opening and the mount.
const (
	retryFloor   = 500 * time.Millisecond
	retryCeiling = 20 * time.Second
	// What only an edit of the configuration, of the volume or of its header can
	// mend is asked about rarely; an edit of the configuration wakes the worker.
	retryByHand = time.Minute
	// An idle volume is looked at this often even if no event came.
	resync = time.Minute
	// EC2 and the kernel are asked again this often while they are at work.
	awaitPoll = 2 * time.Second
	// After this long, work that EC2 or the kernel should have finished is an error to show.
	awaitPatience = time.Minute
)

// RetryAfter is how long a volume rests after its n-th failure in a row (n >= 1):
// at most 20 s, or a minute for Misconfigured and Integrity, with full jitter so that a fleet that
// lost its key at one moment does not ask again at one moment.
func RetryAfter(class fault.Class, n int) time.Duration {
	ceiling := retryCeiling
	if class == fault.Misconfigured || class == fault.Integrity {
		ceiling = retryByHand
	}
	limit := retryFloor << min(n, 10)
	return jitter(min(limit, ceiling))
}

// jitter is uniform between the floor and limit.
func jitter(limit time.Duration) time.Duration {
	if limit <= retryFloor {
		return retryFloor
	}
	return retryFloor + rand.N(limit-retryFloor)
}
