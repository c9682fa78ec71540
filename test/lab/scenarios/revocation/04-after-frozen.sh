# SPDX-License-Identifier: Apache-2.0
# After a shutdown of a frozen volume: refused while the key is away, and whole once it is back.
. /lab/lib.sh

took=$(($(date +%s) - $(recall down)))
printf '   down and up again in %d s\n' $took
((took < 240)) || die "shutdown and boot took $took s"
within 60 'orders is refused' is orders class revoked
closed orders /var/lib/postgresql
labctl key enable "$(recall orders.key)"
within 40 'orders is mounted with nobody'"'"'s help' is orders phase Mounted
within 60 'PostgreSQL answers' database_up
expect 'rows' 500 "$(sql 'select count(*) from kept')"
