// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/volseal/volseal/internal/config"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
	"github.com/volseal/volseal/internal/volume/luks"
	"github.com/volseal/volseal/internal/volume/mount"
)

// Host is this host as whoever asks may see it. The agent need not run.
type Host struct {
	Root    string // before every path; "" but in tests
	Release string // of the kernel
	Super   bool   // whoever asks is root
	Now     time.Time

	Config     *config.Config // nil if it is not sound: ConfigErr says why
	ConfigErr  error
	Socket     string
	Readers    string // the group that may look
	State      string // the directory of claims
	Cryptsetup func(context.Context) (luks.Version, error)
	Unit       func(context.Context, string) (mount.Unit, error)
	UpToDate   func([]volume.Spec) bool // of the generated units
	Group      func(name string) error  // nil if it exists
}

// Examine looks at everything that the host shows.
func (h Host) Examine(ctx context.Context) []fault.Check {
	checks := []fault.Check{
		judgeModule("dm_crypt", h.module("dm_crypt")),
		judgeModule("nvme", h.module("nvme")),
		h.cryptsetup(ctx),
		h.configuration(),
		h.socket(),
	}
	checks = append(checks, h.groups()...)
	checks = append(checks, h.generator(), h.generated())
	checks = append(checks, h.units(ctx)...)
	checks = append(checks, h.databases(ctx)...)
	return append(checks, h.claims()...)
}

// rootOnly is for what only root can see.
func rootOnly(name string) fault.Check { return fault.Skipped(name, "Needs root.") }

func (h Host) cryptsetup(ctx context.Context) fault.Check {
	v, err := h.Cryptsetup(ctx)
	if err != nil {
		return fault.Failed("cryptsetup", err)
	}
	return judgeCryptsetup(v)
}

func judgeCryptsetup(v luks.Version) fault.Check {
	const name = "cryptsetup"
	switch {
	case v.Before(luks.Oldest()):
		return failed(name, fmt.Sprintf("Version %s is too old: volseal needs %s or newer.", v, luks.Oldest()), "Install a newer one.")
	case v.CorruptsReencryption():
		return warned(name, fmt.Sprintf("Version %s can lose data when it reencrypts a volume that is in use. Volumes that are only opened are safe.", v),
			"Install 2.7.5 or newer, and reencrypt nothing before.")
	}
	return fault.Passed(name, v.String()+".")
}

func (h Host) configuration() fault.Check {
	const name = "configuration"
	var problems config.Problems
	switch {
	case h.ConfigErr == nil:
		return fault.Passed(name, fmt.Sprintf("Sound; volumes: %d.", len(h.Config.Volumes)))
	case errors.Is(h.ConfigErr, fs.ErrPermission), !h.Super:
		return fault.Skipped(name, "Cannot be judged without root: "+firstLine(h.ConfigErr))
	case errors.As(h.ConfigErr, &problems):
		return failed(name, fmt.Sprintf("Mistakes: %d. The first: %s", len(problems), firstLine(errors.New(problems[0].String()))), "Run volseal config check, and mend what it says.")
	default:
		return failed(name, firstLine(h.ConfigErr), "Run volseal config check, and mend what it says.")
	}
}
