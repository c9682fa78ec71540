// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// alone makes sure that nothing but our mapping is stacked upon the device.
// Exclusive opening does not: device-mapper lets its mappings share a device,
// and a second one would write beneath the file system.
func (l *LUKS) alone(_ context.Context, dev volume.Device, mapping string) error {
	only, holders, err := l.onlyHolder(dev, mapping)
	if err != nil || only {
		return err
	}
	return &fault.Error{
		Class: fault.Unknown, Reason: "device-shared",
		Cause: fmt.Sprintf("%s is beneath another mapping than this volume's; its own was closed again.", dev.Path),
		Hint:  "Find the other with lsblk " + dev.Path + ", and close it.",
		Err:   fmt.Errorf("held by %.8q", holders),
	}
}

// onlyHolder reports whether the mapping is stacked upon the device, and nothing
// else is; holders are the names of what is.
func (l *LUKS) onlyHolder(dev volume.Device, mapping string) (only bool, holders []string, err error) {
	dir, err := l.findMapping(mapping)
	if err != nil {
		return false, nil, err
	}
	holders, err = entries(filepath.Join(l.sys, "dev", "block", fmt.Sprintf("%d:%d", dev.Major, dev.Minor), "holders"))
	return err == nil && dir != "" && slices.Equal(holders, []string{filepath.Base(dir)}), holders, err
}
