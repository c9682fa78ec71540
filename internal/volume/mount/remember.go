// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/volseal/volseal/internal/volume"
)

// LastSound is where Sync keeps what the generator needs of the last sound
// configuration. A file of the configuration that cannot be read tells nothing
// about its volume; this still does, and the volume's database is held back.
const LastSound = "/var/lib/volseal/units.json"

// maxRemembered bounds what is read: 128 volumes are far below.
const maxRemembered = 1 << 20

// remembered is what units are made of, and nothing else of a volume.
type remembered struct {
	Name          string        `json:"name"`
	Mountpoint    string        `json:"mountpoint"`
	Filesystem    string        `json:"filesystem"`
	MountOptions  []string      `json:"mount_options"`
	DatabaseUnit  string        `json:"database_unit"`
	UnlockTimeout time.Duration `json:"unlock_timeout_ns"`
}

// remember writes specs to path, durably; not if they are there already.
func remember(path string, specs []volume.Spec) error {
	all := make([]remembered, len(specs))
	for i, s := range specs {
		all[i] = remembered{s.Name, s.Mountpoint, s.Filesystem, s.MountOptions, s.DatabaseUnit, s.UnlockTimeout}
	}
	text, err := json.Marshal(all)
	if err != nil {
		return fmt.Errorf("encode units: %w", err)
	}
	if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, text) {
		return nil
	}
	if err := replace(path, text); err != nil {
		return fmt.Errorf("remember units: %w", err)
	}
	return nil
}

// replace leaves the old content or the new one, whenever the power goes.
func replace(path string, text []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".units-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it has its name
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// recall reads what remember wrote; without the file, nothing.
func recall(path string) ([]volume.Spec, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("recall units: %w", err)
	}
	defer f.Close()
	var all []remembered
	if err := json.NewDecoder(io.LimitReader(f, maxRemembered)).Decode(&all); err != nil {
		return nil, fmt.Errorf("recall units: %w", err)
	}
	specs := make([]volume.Spec, len(all))
	for i, r := range all {
		specs[i] = volume.Spec{
			Name: r.Name, Mountpoint: r.Mountpoint, Filesystem: r.Filesystem, MountOptions: r.MountOptions,
			DatabaseUnit: r.DatabaseUnit, UnlockTimeout: r.UnlockTimeout,
		}
	}
	return specs, nil
}
