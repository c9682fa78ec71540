// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/volseal/volseal/internal/volume"
)

// InUse reports whether a mount or a mapping of any name holds the device: the
// kernel then refuses to open it exclusively.
func (l *LUKS) InUse(_ context.Context, dev volume.Device) (bool, error) {
	d, err := openDisk(dev, os.O_RDONLY|unix.O_EXCL)
	if errors.Is(err, unix.EBUSY) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	d.close()
	return false, nil
}
