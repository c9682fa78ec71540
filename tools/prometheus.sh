#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# prometheus.sh DIR puts promtool and prometheus into DIR. They come out of
# Debian's package without installing it, because installing it would start a server.
set -eu

dir=$1
mkdir -p "$dir"
if promtool=$(command -v promtool) && prometheus=$(command -v prometheus); then
	ln -sf "$promtool" "$dir/promtool"
	ln -sf "$prometheus" "$dir/prometheus"
	exit 0
fi
if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
	echo "missing: promtool and prometheus" >&2
	exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
if ! apt-get download -qq prometheus 2>/dev/null; then
	# The package lists are absent or older than the archive.
	[ "$(id -u)" -ne 0 ] || apt-get -o DPkg::Lock::Timeout=300 update -qq
	if ! apt-get download -qq prometheus; then
		echo "missing: promtool and prometheus (on Debian: apt-get install prometheus)" >&2
		exit 1
	fi
fi
dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool ./usr/bin/prometheus
mv usr/bin/promtool usr/bin/prometheus "$dir"
