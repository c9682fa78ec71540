#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Before removal and before an upgrade. dpkg calls: remove, upgrade, …; rpm: the
# number of versions that remain.
set -eu

case "${1:-}" in
remove | 0) ;;
*) exit 0 ;; # an upgrade: the new version restarts the agent
esac

if [ -d /run/systemd/system ]; then
	# Stopping the agent leaves every volume mounted.
	systemctl disable --now volseal.service volseal.socket || true
fi

if [ -e /dev/mapper ] && [ -n "$(find /dev/mapper -name 'volseal-*' -print -quit)" ]; then
	cat >&2 <<-'EOF'
		volseal: volumes are unlocked and stay so, and their databases run on.
		Without the package they are not unlocked again after a reboot, and nothing
		but the immutable flag of the mount points keeps the databases from starting
		on the empty directories beneath.
	EOF
fi
