// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"sync"

	"github.com/volseal/volseal/internal/volume"
)

// toolPath is where tools are sought: never the caller's PATH.
const toolPath = "/usr/sbin:/usr/bin:/sbin:/bin"

// Options say where things are. Empty fields have the defaults noted.
type Options struct {
	Dir  string // frozen headers; tmpfs, root-only. /run/volseal/headers
	Sys  string // /sys
	Dev  string // /dev
	Path string // directories with cryptsetup, dmsetup and mkfs, as in PATH. The system's four
}

// LUKS implements volume.Crypt, volume.Formatter and volume.Archive. Safe for concurrent use on
// different volumes; calls for one volume must not overlap.
type LUKS struct {
	dir, sys, dev string
	locks         string // of cryptsetup
	tools         runner
	views         views
	places        sync.Map                             // name of a mapping to the directory it was last seen in
	readTable     func(mapping string) (string, error) // the kernel's word, see devmapper.go
}

var (
	_ volume.Crypt     = (*LUKS)(nil)
	_ volume.Formatter = (*LUKS)(nil)
	_ volume.Archive   = (*LUKS)(nil)

	_ volume.Reencryptor = (*LUKS)(nil)
)

// New does no I/O.
func New(o Options) *LUKS {
	l := &LUKS{
		dir:   orDefault(o.Dir, "/run/volseal/headers"),
		sys:   orDefault(o.Sys, "/sys"),
		dev:   orDefault(o.Dev, "/dev"),
		locks: lockDir,
		tools: runner{path: orDefault(o.Path, toolPath)},
	}
	l.readTable = l.liveTable
	return l
}

func orDefault(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
