#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# need.sh PACKAGE:COMMAND… makes sure that each COMMAND can be run. What is
# missing is installed from its Debian PACKAGE when we are root on Debian, and
# otherwise named in one line.
set -eu

# Debian keeps mke2fs, cryptsetup and dmsetup where an ordinary user's PATH does not look.
PATH=$PATH:/usr/sbin:/sbin

packages='' commands=''
for pair; do
	command -v "${pair#*:}" >/dev/null 2>&1 && continue
	packages="$packages ${pair%%:*}"
	commands="$commands ${pair#*:}"
done
[ -n "$packages" ] || exit 0

if [ "$(id -u)" -ne 0 ] || [ ! -e /etc/debian_version ]; then
	echo "missing:$commands (on Debian: apt-get install$packages)" >&2
	exit 1
fi

echo "installing:$packages" >&2
export DEBIAN_FRONTEND=noninteractive
# Another apt may be at work, a fresh machine's own upgrade for one: wait for it.
lock='-o DPkg::Lock::Timeout=300'
# shellcheck disable=SC2086 # lists of words
{
	apt-get $lock update -qq
	apt-get $lock install -y -qq --no-install-recommends $packages >/dev/null
} || {
	echo "missing:$commands (could not install$packages)" >&2
	exit 1
}
