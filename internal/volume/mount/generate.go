// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/volseal/volseal/internal/volume"
)

// Generate writes the units of all volumes below dir, systemd's directory for
// generated units. A spec may lack values that the configuration got wrong; what
// can still be told is protected. It goes on after an error and returns all.
func Generate(specs []volume.Spec, dir string) error {
	return writeAll(dir, unitFiles(specs))
}

// generateFrom writes the units of an invalid configuration: all those of the
// last sound one, which the agent may still be working by, and what salvaged
// adds to them.
func generateFrom(salvaged, last []volume.Spec, dir string) error {
	names := map[string]bool{}
	for _, s := range last {
		names[s.Name] = true
	}
	var added []volume.Spec
	for _, s := range salvaged {
		if names[s.Name] {
			s.Name = "" // a second mount point of one volume is refused
		}
		added = append(added, s)
	}
	files := mountFiles(added)
	maps.Copy(files, mountFiles(last))
	maps.Copy(files, databaseFiles(slices.Concat(last, added)))
	return writeAll(dir, files)
}

// unitFiles is the text of every unit and drop-in, by name relative to the
// directory of generated units.
func unitFiles(specs []volume.Spec) map[string]string {
	files := mountFiles(specs)
	maps.Copy(files, databaseFiles(specs))
	return files
}

func mountFiles(specs []volume.Spec) map[string]string {
	files := map[string]string{}
	for _, s := range specs {
		if s.Mountpoint == "" {
			continue
		}
		if !distinct(s, specs) {
			files[UnitName(s.Mountpoint)] = refusal(s.Mountpoint)
			continue
		}
		files[UnitName(s.Mountpoint)] = mountUnit(s)
		files[mountpointUnit(s)] = mountpointService(s)
		files[filepath.Join(deviceUnit(s)+".d", dropIn)] = deviceTimeout(s)
	}
	return files
}

// databaseFiles hold back each database until all its volumes are mounted.
func databaseFiles(specs []volume.Spec) map[string]string {
	databases := map[string][]string{}
	for _, s := range specs {
		if s.DatabaseUnit != "" {
			databases[s.DatabaseUnit] = append(databases[s.DatabaseUnit], s.Mountpoint)
		}
	}
	files := map[string]string{}
	for name, mountpoints := range databases {
		slices.Sort(mountpoints)
		files[filepath.Join(name+".d", dropIn)] = databaseDropIn(slices.Compact(mountpoints))
	}
	return files
}

// distinct reports whether a spec has a name, and name and mount point are no
// other's: else the wrong volume could be mounted, so that none is.
func distinct(s volume.Spec, all []volume.Spec) bool {
	same := 0
	for _, o := range all {
		if o.Name == s.Name || o.Mountpoint == s.Mountpoint {
			same++
		}
	}
	return s.Name != "" && same == 1
}

func writeAll(dir string, files map[string]string) error {
	var errs []error
	for name, text := range files {
		if err := write(filepath.Join(dir, name), text); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// write never replaces: all generators share the directory.
func write(path, text string) error {
	//nolint:gosec // systemd's own units are world-readable, and nothing here is secret
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make unit directory: %w", err)
	}
	//nolint:gosec // as above
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("write unit: %w (is the mount point in /etc/fstab too?)", err)
	}
	if err != nil {
		return fmt.Errorf("write unit: %w", err)
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write unit: %w", err)
	}
	return nil
}
