#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# After installation and upgrade. dpkg calls: configure [OLD-VERSION], and
# abort-… to undo a failed operation; rpm: the number of versions that remain.
set -eu

case "${1:-}" in
configure) upgrade=${2:-} ;;
1) upgrade= ;;
*) upgrade=yes ;;
esac

systemd-sysusers volseal.conf
systemd-tmpfiles --create volseal.conf || true

# In a chroot or an image build there is no systemd to talk to.
if [ -d /run/systemd/system ]; then
	udevadm control --reload || true
	# Runs the generator too, with the new binary.
	systemctl daemon-reload || true
	# The agent alone: no mount requires it, and every database runs on.
	[ -z "$upgrade" ] || systemctl try-restart volseal.service || true
fi

if [ -z "$upgrade" ]; then
	cat <<-'EOF'
		volseal is installed, and does nothing yet. Describe the volumes in
		/etc/volseal/volumes.d (examples: /usr/share/doc/volseal/examples), then:
		  volseal config check && systemctl enable --now volseal.service
	EOF
fi
