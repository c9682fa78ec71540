// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/volseal/volseal/internal/volume"
)

// generated is where systemd keeps what its generators wrote.
const generated = "/run/systemd/generator"

// Sync has systemd run the generators again if the units of specs are not the
// ones it has: after an edit, a start of the agent or a reload must not mount by
// the units of yesterday. Nothing happens when they are. specs are those of a
// sound configuration, and are kept for when it is one no longer.
func (m *Manager) Sync(ctx context.Context, specs []volume.Spec) error {
	err := remember(m.last, specs)
	if upToDate(specs, generated) {
		return err
	}
	return errors.Join(err, m.Reload(ctx))
}

// upToDate reports whether dir holds just the units of specs: each as it would
// be written, and none of ours besides. What holds back the database of a volume
// that is no longer configured must go, or it never starts again. A file that
// cannot be read is not up to date.
func upToDate(specs []volume.Spec, dir string) bool {
	want := unitFiles(specs)
	for name, text := range want {
		have, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || string(have) != text {
			return false
		}
	}
	return !leftovers(want, dir)
}

// leftovers reports whether dir holds a unit of ours that is not wanted.
func leftovers(want map[string]string, dir string) bool {
	units := os.DirFS(dir)
	found := false
	err := fs.WalkDir(units, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		if _, wanted := want[name]; wanted {
			return nil
		}
		text, err := fs.ReadFile(units, name)
		found = found || strings.HasPrefix(string(text), unitComment)
		return err
	})
	return found || (err != nil && !errors.Is(err, fs.ErrNotExist))
}
