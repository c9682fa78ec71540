// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Watch calls wake after every change of the host's mount table, until ctx ends.
// A wake carries no facts: the pass that follows reads the table afresh. wake
// must not block.
func Watch(ctx context.Context, wake func()) error { return watch(ctx, hostTable, wake) }

func watch(ctx context.Context, table string, wake func()) error {
	// Not an os.File: the runtime polls each of those itself, and whoever polls
	// first takes the word that a change is worth.
	fd, err := unix.Open(table, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("watch mount table: %w", err)
	}
	defer unix.Close(fd)
	ended, end, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("watch mount table: %w", err)
	}
	defer ended.Close()
	// Closing the writing end shows as a hang-up on the other.
	stop := context.AfterFunc(ctx, func() { end.Close() })
	defer func() {
		if stop() {
			end.Close()
		}
	}()
	for {
		changed, err := wait(fd, int(ended.Fd()))
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("watch mount table: %w", err)
		case changed:
			wake()
		}
	}
}

// wait polls the table: the kernel reports each change once, as an exceptional
// condition (proc(5), mountinfo).
func wait(table, ended int) (changed bool, err error) {
	fds := []unix.PollFd{{Fd: int32(table), Events: unix.POLLPRI}, {Fd: int32(ended)}}
	if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
		return false, err
	}
	return fds[0].Revents&(unix.POLLPRI|unix.POLLERR) != 0, nil
}
