// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"context"
)

// MakeFilesystem makes an ext4 or xfs file system on a mapping; repeated after a
// crash, it starts anew. A file system that was ever mounted is refused with
// Reason "filesystem-present": the host's claim, which says that nothing was
// ever stored, is then older than the volume. The tools' defaults stay, but for what the comments in mkfsCommand say: those can be
// changed later, and are what an administrator expects.
func (l *LUKS) MakeFilesystem(ctx context.Context, mapping, filesystem string) error {
	if err := validMapping(mapping); err != nil {
		return err
	}
	m, err := l.Mapping(ctx, mapping)
	if err != nil {
		return err
	}
	node, err := l.node(mapping, m)
	if err != nil {
		return err
	}
	c, err := mkfsCommand(filesystem, node)
	if err != nil {
		return err
	}
	if err := refuseUsed(node); err != nil {
		return err
	}
	_, err = l.tools.run(ctx, c)
	return failed("make the file system", err)
}
