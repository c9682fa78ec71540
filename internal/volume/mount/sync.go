// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"os"
	"path/filepath"

	"github.com/volseal/volseal/internal/volume"
)

// generated is where systemd keeps what its generators wrote.
const generated = "/run/systemd/generator"

// Sync has systemd run the generators again if the units of specs are not the
// ones it has: after an edit, a start of the agent or a reload must not mount by
// the units of yesterday. Nothing happens when they are. Errors are *fault.Error.
func (m *Manager) Sync(ctx context.Context, specs []volume.Spec) error {
	if upToDate(specs, generated) {
		return nil
	}
	return m.Reload(ctx)
}

// upToDate reports whether dir holds just the units of specs; a file that
// cannot be read is not up to date.
func upToDate(specs []volume.Spec, dir string) bool {
	for name, text := range unitFiles(specs) {
		have, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || string(have) != text {
			return false
		}
	}
	return true
}
