# SPDX-License-Identifier: Apache-2.0
# PostgreSQL waits at boot for its volume; data survive; then the power fails under load.
. /lab/lib.sh

within 90 'PostgreSQL answers after the boot' database_up
expect 'rows' 1000 "$(sql 'select count(*) from orders')"
within 60 'archive is mounted' mountpoint -q /srv/archive
expect 'file on xfs' 'kept on xfs' "$(cat /srv/archive/file)"

say 'it was started after the mount, and had been shut down cleanly before the unmount'
mounted=$(systemctl show -p ActiveEnterTimestampMonotonic --value var-lib-postgresql.mount)
started=$(systemctl show -p InactiveExitTimestampMonotonic --value postgresql@15-main.service)
((mounted > 0 && mounted <= started)) || die "mounted at $mounted, PostgreSQL started at $started"
log=/var/log/postgresql/postgresql-15-main.log
! grep -q 'not properly shut down' $log || die 'PostgreSQL found an unclean shutdown after a clean reboot'

say 'rows are acknowledged, and the power fails meanwhile'
# One session; a row is on record once the commit was answered and the record is on the disk.
: >/root/acknowledged
coproc PSQL { exec runuser -u postgres -- psql -XAtq; }
exec 3>&"${PSQL[1]}" 4<&"${PSQL[0]}" # a subshell inherits these, and not the coprocess's own
(for i in $(seq 1001 100000); do
	echo "insert into orders values ($i, 'late') returning id;" >&3
	read -r id <&4
	echo "$id" >>/root/acknowledged
	sync -d /root/acknowledged
done) &
within 60 'twenty rows are acknowledged' bash -c '[ "$(wc -l </root/acknowledged)" -ge 20 ]'
labctl host power-cut
