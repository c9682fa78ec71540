// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// statusInterval bounds how often `systemctl status` is told something new.
const statusInterval = time.Second

// notifyReloading tells systemd that a reload began; ready ends it.
func notifyReloading() {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	notify(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, now.Nano()/1000))
}

// notify tells systemd. Without a manager, or when it does not listen, there is
// nothing useful to be done about it.
func notify(state string) { _, _ = daemon.SdNotify(false, state) }

// keepInformed tells systemd the summary after each change, until ctx ends.
func keepInformed(ctx context.Context, r *volume.Reconciler) {
	pace := time.NewTicker(statusInterval)
	defer pace.Stop()
	said := ""
	for {
		_, changed := r.Changes()
		if s := summary(r.Snapshot()); s != said {
			said = s
			notify("STATUS=" + s)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
		select {
		case <-ctx.Done():
			return
		case <-pace.C:
		}
	}
}

// summary is one line: how many volumes are mounted, and why others are not.
func summary(s volume.Snapshot) string {
	mounted := 0
	failing := map[fault.Class]int{}
	for _, v := range s.Volumes {
		if v.Phase == volume.Mounted {
			mounted++
		}
		if v.Class != fault.None {
			failing[v.Class]++
		}
	}
	parts := []string{fmt.Sprintf("%d of %d volumes mounted", mounted, len(s.Volumes))}
	for _, c := range fault.Classes() {
		if n := failing[c]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, c))
		}
	}
	return strings.Join(parts, ", ")
}

// keepWatchdog feeds systemd's watchdog as long as alive answers. It proves
// that the agent's own loop turns and its locks are free, not that KMS answers:
// a restart would not mend KMS.
func keepWatchdog(ctx context.Context, alive func() bool) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil || interval == 0 {
		return
	}
	tick := time.NewTicker(interval / 3)
	defer tick.Stop()
	for {
		if alive() {
			notify(daemon.SdNotifyWatchdog)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
