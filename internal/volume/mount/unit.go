// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/volseal/volseal/internal/volume"
)

// Unit is what systemd holds of a unit at the moment: of all its files and
// drop-ins together, as of the last daemon-reload.
type Unit struct {
	Load     string // loaded, not-found, masked, bad-setting, error
	Active   string // active, inactive, failed, activating, …
	File     string // enabled, disabled, static, …; "" without a file
	Stale    bool   // its files have changed since
	DropIns  []string
	Requires []string
	After    []string
	Settings map[string]string // its other properties of one value: NoNewPrivileges is "true"
}

// Waits reports whether the unit starts only once the other is active, and is
// stopped with it.
func (u Unit) Waits(other string) bool {
	return slices.Contains(u.Requires, other) && slices.Contains(u.After, other)
}

// Guarded reports whether the drop-in that the generator wrote for the unit is
// among its files, and not hidden by another of its name.
func (u Unit) Guarded() bool {
	return slices.ContainsFunc(u.DropIns, func(file string) bool {
		return strings.HasPrefix(file, generated+"/") && strings.HasSuffix(file, "/"+dropIn)
	})
}

// Unit asks systemd about a unit. One that does not exist is no error: see Load.
// Errors are *fault.Error.
func (m *Manager) Unit(ctx context.Context, name string) (u Unit, err error) {
	err = m.with(ctx, func(b bus) error {
		properties, err := b.properties(ctx, name)
		if err != nil {
			return refused(name, err)
		}
		u = unitOf(properties)
		return nil
	})
	return u, err
}

func unitOf(p map[string]any) Unit {
	u := Unit{Settings: map[string]string{}}
	for name, value := range p {
		switch v := value.(type) {
		case string, bool, uint32, int32, uint64, int64:
			u.Settings[name] = fmt.Sprint(v)
		}
	}
	list := func(name string) []string { l, _ := p[name].([]string); return l }
	u.Load, u.Active, u.File = u.Settings["LoadState"], u.Settings["ActiveState"], u.Settings["UnitFileState"]
	u.Stale = u.Settings["NeedDaemonReload"] == "true"
	u.DropIns, u.Requires, u.After = list("DropInPaths"), list("Requires"), list("After")
	return u
}

// UpToDate reports whether systemd has just the units of specs: none is missing,
// none is of an older configuration.
func UpToDate(specs []volume.Spec) bool { return upToDate(specs, generated) }
