# SPDX-License-Identifier: Apache-2.0
# Every acknowledged row is there after a power cut; then the customer takes the key away.
. /lab/lib.sh

within 120 'PostgreSQL answers after the power cut' database_up
acknowledged=$(wc -l </root/acknowledged)
((acknowledged >= 20)) || die "only $acknowledged acknowledged rows are on record"
missing=$(while read -r i; do echo "($i)"; done </root/acknowledged | paste -sd, |
	xargs -I{} runuser -u postgres -- psql -XAtq -c "select count(*) from (values {}) a(i) where not exists (select from orders where id = i)")
expect 'acknowledged rows that are missing' 0 "$missing"
within 60 'archive is mounted' mountpoint -q /srv/archive
expect 'file on xfs' 'kept on xfs' "$(cat /srv/archive/file)"

say 'the customer disables the key; the running database does not notice'
labctl key disable "$(recall orders.key)"
sql 'select count(*) from orders' >/dev/null
expect 'orders' Mounted "$(field orders phase)"
labctl host reboot
