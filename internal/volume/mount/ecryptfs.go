// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/moby/sys/mountinfo"

	"github.com/volseal/volseal/internal/volume"
)

// Whoever may mount decides how many there are and how they are called; what is
// shown of them is bounded.
const (
	maxEcryptfs = 8
	maxShown    = 256 // bytes of a path
)

// uncovered is the mount that lies beneath eCryptfs mounts which were made over
// the volume's own root: what they encrypt is the volume, so that it is still
// the volume that a database reaches. Anything else covers it.
func uncovered(table []*mountinfo.Info, top *mountinfo.Info) *mountinfo.Info {
	at := top
	for range table { // no more steps than mounts
		if !isEcryptfs(at) || !leadsTo(at.Mountpoint, at.Source) {
			return at
		}
		beneath := parent(table, at)
		if beneath == nil || beneath.Mountpoint != at.Mountpoint {
			return top
		}
		at = beneath
	}
	return top
}

// ecryptfsOn are the eCryptfs mounts that lie on a volume: mounted in its tree,
// or, wherever they are mounted, over a directory of it.
func ecryptfsOn(table []*mountinfo.Info, vol *mountinfo.Info) (found []volume.Ecryptfs) {
	for _, info := range table {
		if len(found) == maxEcryptfs {
			break
		}
		if isEcryptfs(info) && (descends(table, info, vol) || leadsTo(vol.Mountpoint, info.Source)) {
			found = append(found, volume.Ecryptfs{Path: printable(info.Mountpoint), Lower: printable(info.Source)})
		}
	}
	return found
}

func isEcryptfs(info *mountinfo.Info) bool { return info.FSType == "ecryptfs" }

func descends(table []*mountinfo.Info, info, from *mountinfo.Info) bool {
	for range table {
		if info = parent(table, info); info == nil || info == from {
			break
		}
	}
	return info == from
}

func parent(table []*mountinfo.Info, of *mountinfo.Info) *mountinfo.Info {
	for _, info := range table {
		if info.ID == of.Parent && info != of {
			return info
		}
	}
	return nil
}

// printable writes a path so that it does nothing to a terminal: what does not
// print, and the backslash, as the mount table writes a blank.
func printable(path string) string {
	path, cut := path[:min(len(path), maxShown)], len(path) > maxShown
	var b strings.Builder
	for len(path) > 0 {
		r, n := utf8.DecodeRuneInString(path)
		if unicode.IsPrint(r) && r != '\\' && r != utf8.RuneError {
			b.WriteString(path[:n])
		} else {
			for _, c := range []byte(path[:n]) {
				fmt.Fprintf(&b, `\%03o`, c)
			}
		}
		path = path[n:]
	}
	if cut {
		b.WriteString("…")
	}
	return b.String()
}
