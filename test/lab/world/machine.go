// SPDX-License-Identifier: Apache-2.0

package world

import "context"

// Machine is the instance, as `labctl host` commands it. Its methods outlive
// the request that asked: the guest which asked is going down.
type Machine interface {
	// Reboot shuts the guest down cleanly and boots it again with the same
	// disks and volumes. It returns when the new boot is under way or failed.
	Reboot(ctx context.Context) error
	// PowerCut kills the guest where it stands and boots it again.
	PowerCut(ctx context.Context) error
	// Host runs a command outside the guest, for scenarios that need a tool
	// there, and returns what it printed.
	Host(ctx context.Context, args ...string) ([]byte, error)
}
