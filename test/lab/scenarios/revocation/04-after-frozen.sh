# SPDX-License-Identifier: Apache-2.0
# After a shutdown of a frozen volume: refused while the key is away, and whole once it is back.
. /lab/lib.sh

took=$(($(date +%s) - $(recall down)))
printf '   down and up again in %d s\n' $took
((took < 240)) || die "shutdown and boot took $took s"
within 60 'stock is refused' is stock class revoked
closed stock /srv/stock
within 60 'the others are mounted' is orders phase Mounted
within 60 'PostgreSQL answers' database_up
labctl key enable "$(recall stock.key)"
within 40 'stock is mounted with nobody'"'"'s help' is stock phase Mounted
kept=$(sed -n "$(recall stock.lines)p" /srv/stock/log)
expect 'what was synced before' "$(recall stock.lines)" "$kept"
