# SPDX-License-Identifier: Apache-2.0
# Both layers come back with nobody's help, the envelope first, and what was written is there.
. /lab/lib.sh

within 120 'PostgreSQL answers' database_up
expect 'rows' 1000 "$(sql "select count(*) from kept where what = 'marker-of-a-row-7f3a9c ' || id")"
sql 'insert into kept values (1001, 0)'
expect 'layers' 'ebs luks2 filesystem ecryptfs' "$(status_of orders | jq -r '.layers | map(.layer) | join(" ")')"
within 60 'it would survive the next' is orders would_survive_reboot true
! grep -q 'not properly shut down' /var/log/postgresql/postgresql-15-main.log || die 'PostgreSQL found an unclean shutdown after a clean reboot'
began() { systemctl show -p "$1" --value "$2"; }
(($(began ActiveEnterTimestampMonotonic var-lib-postgresql.mount) <= $(began InactiveExitTimestampMonotonic platform-layer.service))) || die 'eCryptfs before the volume'
