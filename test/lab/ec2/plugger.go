// SPDX-License-Identifier: Apache-2.0

package ec2

import "context"

// Plugger is the machine that stands for our instance. Volumes attached to any
// other instance are plugged nowhere. Methods may be called concurrently for
// different volumes, never for one. Plugging what is plugged and unplugging what
// is not are no errors.
type Plugger interface {
	// Plug makes the raw image a disk of the machine, with the volume's id
	// (without its dash) for a serial number. An error, for instance because
	// the machine is down, leaves the volume attaching; Plug is called again.
	Plug(ctx context.Context, volumeID, imagePath string) error
	// Unplug takes the disk out. It returns when the image is no longer open.
	Unplug(ctx context.Context, volumeID string) error
	// InUse reports whether the guest has the disk mounted or mapped: a detach
	// then stays busy, as on EC2. An error counts as in use.
	InUse(ctx context.Context, volumeID string) (bool, error)
}

// Pauser is what a Plugger may also be: a machine that can hold still while an
// image it has open is copied, so that a snapshot is of one point in time.
type Pauser interface {
	Pause(ctx context.Context) error
	Resume(ctx context.Context) error
}

// Disk is a volume that is plugged into our instance, for a machine that boots.
type Disk struct {
	VolumeID  string // vol-…
	ImagePath string // absolute path of the raw image
}

// NoMachine is the Plugger of a world without a machine: everything succeeds,
// nothing is ever in use.
type NoMachine struct{}

// Plug does nothing.
func (NoMachine) Plug(context.Context, string, string) error { return nil }

// Unplug does nothing.
func (NoMachine) Unplug(context.Context, string) error { return nil }

// InUse is never true.
func (NoMachine) InUse(context.Context, string) (bool, error) { return false, nil }
