// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// hostTable is PID 1's mount table, not our own: the agent's sandbox is a mount
// namespace with bind mounts of its own, which would look like a volume mounted
// in further places.
const hostTable = "/proc/1/mountinfo"

// Find looks the mapping up by device number, never by path or name. What is
// mounted at the mount point is what a path lookup would reach: a mount that
// another one covers, or that lies beneath one on a parent directory, is not it;
// an eCryptfs over the volume itself covers nothing, see uncovered.
func (m *Manager) Find(_ context.Context, mapping volume.Mapping, mountpoint string) (volume.MountFact, error) {
	table, err := read(m.table)
	if err != nil {
		return volume.MountFact{}, &fault.Error{
			Class: fault.Unknown, Reason: "mount-table",
			Cause: "The host's mount table cannot be read.",
			Hint:  "Compare the unit's sandbox with the packaged one: systemctl cat volseal.service",
			Err:   err,
		}
	}
	return find(table, mapping, mountpoint), nil
}

func read(table string) ([]*mountinfo.Info, error) {
	f, err := os.Open(table)
	if err != nil {
		return nil, fmt.Errorf("open mount table: %w", err)
	}
	defer f.Close()
	mounts, err := mountinfo.GetMountsFromReader(f, nil)
	if err != nil {
		return nil, fmt.Errorf("read mount table: %w", err)
	}
	// Without one, every path would look free.
	if root(mounts) == nil {
		return nil, errors.New("read mount table: it has no root")
	}
	return mounts, nil
}

func find(table []*mountinfo.Info, mapping volume.Mapping, mountpoint string) volume.MountFact {
	var fact volume.MountFact
	top := reached(table, mountpoint)
	if top.Mountpoint == mountpoint {
		top = uncovered(table, top)
	} else {
		top = nil
	}
	for _, info := range table {
		switch {
		case !isOf(info, mapping):
			fact.Occupied = fact.Occupied || info == top
		case info == top && info.Root == "/":
			fact.Mounted, fact.ReadOnly = true, readOnly(info)
			fact.Filesystem, fact.Ecryptfs = printable(info.FSType), ecryptfsOn(table, info)
		default: // elsewhere, covered, or only a directory of it
			fact.Others = append(fact.Others, info.Mountpoint)
			fact.Occupied = fact.Occupied || info == top
		}
	}
	return fact
}

func isOf(info *mountinfo.Info, m volume.Mapping) bool {
	return m.Present && uint32(info.Major) == m.Major && uint32(info.Minor) == m.Minor
}

// readOnly: asked for at the mount, or by the file system itself after an error.
func readOnly(info *mountinfo.Info) bool {
	return slices.Contains(strings.Split(info.Options, ","), "ro") || slices.Contains(strings.Split(info.VFSOptions, ","), "ro")
}

// reached walks the path as the kernel does, from the root mount down: at each
// mount, the first child that the path meets, until there is none.
func reached(table []*mountinfo.Info, path string) *mountinfo.Info {
	at := root(table)
	for range table { // no more steps than mounts, whatever the table says
		next := nearest(table, at, path)
		if next == nil {
			break
		}
		at = next
	}
	return at
}

// root is the mount whose parent lies outside the namespace.
func root(table []*mountinfo.Info) *mountinfo.Info {
	ids := map[int]bool{}
	for _, info := range table {
		ids[info.ID] = true
	}
	for _, info := range table {
		if info.Mountpoint == "/" && (info.Parent == info.ID || !ids[info.Parent]) {
			return info
		}
	}
	return nil
}

func nearest(table []*mountinfo.Info, at *mountinfo.Info, path string) *mountinfo.Info {
	var next *mountinfo.Info
	for _, info := range table {
		if info == at || info.Parent != at.ID || !leadsTo(info.Mountpoint, path) {
			continue
		}
		if next == nil || len(info.Mountpoint) < len(next.Mountpoint) {
			next = info
		}
	}
	return next
}

func leadsTo(mountpoint, path string) bool {
	return mountpoint == path || strings.HasPrefix(path, strings.TrimSuffix(mountpoint, "/")+"/")
}
