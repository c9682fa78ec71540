// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// Publish renames pending to mapping and returns when udev has made its links.
// Repeated after success it finds the work done.
func (l *LUKS) Publish(ctx context.Context, pending, mapping string) error {
	c, err := renameCommand(pending, mapping)
	if err != nil {
		return err
	}
	from, err := l.Mapping(ctx, pending)
	if err != nil {
		return err
	}
	to, err := l.Mapping(ctx, mapping)
	if err != nil {
		return err
	}
	if from.Present || !to.Present { // else an earlier call did it
		if _, err := l.tools.run(ctx, c); err != nil {
			return failed("publish the mapping", err)
		}
		if to, err = l.Mapping(ctx, mapping); err != nil {
			return err
		}
	}
	_, err = l.node(mapping, to)
	return err
}

// node returns the path of a mapping's device node, having checked that it
// leads to that mapping.
func (l *LUKS) node(name string, m volume.Mapping) (string, error) {
	path := filepath.Join(l.dev, "mapper", name)
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	if err == nil && (!m.Present || st.Rdev != unix.Mkdev(m.Major, m.Minor)) {
		err = errors.New("leads to another device")
	}
	if err != nil {
		return "", &fault.Error{
			Class: fault.Unknown, Reason: "node",
			Cause: "The device node " + path + " is missing or leads elsewhere.",
			Hint:  "Check that systemd-udevd runs.",
			Err:   err,
		}
	}
	return path, nil
}

// Close removes a mapping; with it the key leaves the kernel. Success means
// that it is gone, also when it was before.
func (l *LUKS) Close(ctx context.Context, mapping string) error {
	c, err := removeCommand(mapping)
	if err != nil {
		return err
	}
	if m, err := l.Mapping(ctx, mapping); err != nil || !m.Present {
		return err
	}
	_, removeErr := l.tools.run(ctx, c)
	m, err := l.Mapping(ctx, mapping)
	switch {
	case err == nil && !m.Present, gone(err):
		return nil
	case err != nil:
		return err
	case removeErr == nil:
		removeErr = errors.New("it is still there")
	}
	if m.Holders > 0 || l.isOpen(ctx, mapping) {
		return &fault.Error{
			Class: fault.Unknown, Reason: "busy",
			Cause: "The mapping " + mapping + " is in use.",
			Hint:  fmt.Sprintf("Find its user with: lsblk, fuser -vm /dev/mapper/%s", mapping),
			Err:   removeErr,
		}
	}
	return failed("close the mapping", removeErr)
}

// isOpen asks the kernel's count of openers, not the text of an error.
func (l *LUKS) isOpen(ctx context.Context, mapping string) bool {
	c, err := openCountCommand(mapping)
	if err != nil {
		return false
	}
	out, err := l.tools.run(ctx, c)
	count := strings.TrimSpace(string(out))
	return err == nil && count != "" && count != "0"
}
