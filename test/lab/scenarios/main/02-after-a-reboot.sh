# SPDX-License-Identifier: Apache-2.0
# PostgreSQL waits at boot for its volume; data survive; then the power fails under load.
. /lab/lib.sh

within 90 'PostgreSQL answers after the boot' database_up
expect 'rows' 1000 "$(sql 'select count(*) from orders')"
within 60 'archive is mounted' mountpoint -q /srv/archive
expect 'file on xfs' 'kept on xfs' "$(cat /srv/archive/file)"

say 'it was started after the mount, and had been shut down cleanly before the unmount'
mounted=$(systemctl show -p ActiveEnterTimestampMonotonic --value var-lib-postgresql.mount)
started=$(systemctl show -p ExecMainStartTimestampMonotonic --value postgresql@15-main.service)
((mounted > 0 && mounted <= started)) || die "mounted at $mounted, PostgreSQL started at $started"
log=/var/log/postgresql/postgresql-15-main.log
! grep -q 'not properly shut down' $log || die 'PostgreSQL found an unclean shutdown after a clean reboot'

say 'rows are acknowledged, and the power fails meanwhile'
: >/root/acknowledged
(for i in $(seq 1001 1000000); do
	sql "insert into orders values ($i, 'late')" && echo "$i" >>/root/acknowledged && sync -d /root/acknowledged
done) >/dev/null 2>&1 &
within 60 'twenty rows are acknowledged' bash -c '[ "$(wc -l </root/acknowledged)" -ge 20 ]'
labctl host power-cut
