# SPDX-License-Identifier: Apache-2.0
# A volume is detached by force from under a running database. It is taken down, and comes back by an operator's word only.
. /lab/lib.sh

runuser -u postgres -- pgbench -q -i -s 1 postgres 2>/dev/null
transactions 600 >/dev/null 2>&1 &
sleep 5
labctl volume force-detach "$(recall orders.vol)"
within 60 'orders is quarantined' is orders phase Quarantined
expect 'reason' device-lost "$(field orders reason)"
expect 'class' unknown "$(field orders class)"
within 180 'the mapping is closed' is orders mapping ''
closed orders /var/lib/postgresql
! systemctl is-active --quiet postgresql@15-main.service || die 'PostgreSQL runs without its volume'
volseal explain orders

say 'the volume comes back: nothing happens'
labctl volume attach "$(recall orders.vol)"
sleep 20
closed orders /var/lib/postgresql
exits 13 volseal unlock orders --wait=20s
say 'an operator says reattach'
volseal reattach orders --wait=2m
within 60 'PostgreSQL answers' database_up
expect 'rows' 100000 "$(sql 'select count(*) from pgbench_accounts')"

say 'by force, and back before anybody looked'
systemctl stop volseal.service
disk() { lsblk -dno NAME,SERIAL | awk -v s="$(recall orders.vol | tr -d -)" '$2 == s {print $1}'; }
back() { [[ -n $(disk) ]]; }
before=$(disk)
labctl volume force-detach "$(recall orders.vol)"
labctl volume attach "$(recall orders.vol)"
within 30 'the disk is back' back
printf '   it was %s and is %s\n' "$before" "$(disk)"
systemctl start volseal.service
within 60 'orders is quarantined' is orders reason device-lost
within 180 'the mapping is closed' is orders mapping ''
volseal reattach orders --wait=2m
within 60 'PostgreSQL answers' database_up
