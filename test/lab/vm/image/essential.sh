#!/bin/sh
# mmdebstrap essential hook: runs before the packages of the list are installed.
# $1 is the root directory of the guest.
set -eu

# Scenarios create their cluster on a volume of ours, never on the root disk.
mkdir -p "$1/etc/postgresql-common"
echo 'create_main_cluster = false' >"$1/etc/postgresql-common/createcluster.conf"
