#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# promtool.sh DEST puts promtool at DEST. It comes out of Debian's prometheus
# package without installing it, because installing it would start a server.
set -eu

dest=$1
mkdir -p "$(dirname "$dest")"
if found=$(command -v promtool); then
	ln -sf "$found" "$dest"
	exit 0
fi
if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
	echo "missing: promtool (part of Prometheus)" >&2
	exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
if ! apt-get download -qq prometheus 2>/dev/null; then
	# The package lists are absent or older than the archive.
	[ "$(id -u)" -ne 0 ] || apt-get -o DPkg::Lock::Timeout=300 update -qq
	if ! apt-get download -qq prometheus; then
		echo "missing: promtool (on Debian: apt-get install prometheus)" >&2
		exit 1
	fi
fi
dpkg-deb --fsys-tarfile prometheus_*.deb | tar -xO ./usr/bin/promtool >promtool
chmod 0755 promtool
mv promtool "$dest"
