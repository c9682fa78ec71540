# SPDX-License-Identifier: Apache-2.0
# After a shutdown of a frozen volume: refused while the key is away, and whole once it is back.
. /lab/lib.sh

took=$(($(date +%s) - $(recall down)))
printf '   down and up again in %d s\n' $took
((took < 240)) || die "shutdown and boot took $took s"
within 60 'ledger is refused' is ledger class revoked
closed ledger /srv/ledger
labctl key enable "$(recall ledger.key)"
within 40 'ledger is mounted with nobody'"'"'s help' is ledger phase Mounted
up() { runuser -u postgres -- psql -p 5433 -XAtq -c 'select 1'; }
within 60 'its PostgreSQL answers' up
expect 'rows' 500 "$(runuser -u postgres -- psql -p 5433 -XAtq -c 'select count(*) from kept')"
