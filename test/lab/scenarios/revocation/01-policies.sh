# SPDX-License-Identifier: Apache-2.0
# Three customers take their keys away from under running databases, each under another policy.
. /lab/lib.sh

make_volume plain /srv/plain
# Debian has every cluster require /var/lib/postgresql: the one that is frozen
# must be that, or the other could not be stopped without it.
make_volume orders /var/lib/postgresql 'database_unit: postgresql@15-main.service' 'on_revocation: lock-freeze'
make_volume ledger /srv/ledger 'database_unit: postgresql@15-ledger.service' 'on_revocation: lock-graceful'
# This one stays frozen until the host is shut down (03), so that nobody waits for a second freeze.
make_volume stock /srv/stock 'database_unit: stock.service' 'on_revocation: lock-freeze'
cat >/etc/systemd/system/stock.service <<-'UNIT'
	[Service]
	ExecStart=/bin/bash -c 'for ((i = 1;; i++)); do echo $i >>/srv/stock/log; sync /srv/stock/log; sleep 0.2; done'
UNIT
agent_settings 'revocation_grace: 30s' 'kms: {probe_interval: 10s}'
start_agent
init_all plain orders ledger stock
systemctl start stock.service
make_database
runuser -u postgres -- pgbench -q -i -s 1 postgres 2>/dev/null
transactions 1800 >/root/pgbench.log 2>&1 &
bench=$!
sql_ledger() { runuser -u postgres -- psql -p 5433 -XAtq -c "$1"; }
ledger_up() { sql_ledger 'select 1'; }
create_cluster ledger /srv/ledger/data -p 5433
systemctl start postgresql@15-ledger.service
within 60 'the database of ledger answers' ledger_up
sql_ledger 'create table ledger(id int primary key)'
sql_ledger 'insert into ledger select generate_series(1, 1000)'
for v in plain orders ledger stock; do within 40 "$v would survive a reboot" is $v would_survive_reboot true; done

# progress counts the reports of pgbench in which it did something.
progress() { awk '$1 == "progress:" && $4 > 0 {n++} END {print n + 0}' /root/pgbench.log; }
more_than() { (($(progress) > $1)); }
within 60 'pgbench gets on' more_than 1

say 'the keys are disabled: told within two intervals, and nothing happens for two minutes'
remember stock.lines "$(wc -l </srv/stock/log)"
for v in plain orders ledger stock; do labctl key disable "$(recall $v.key)"; done
began=$SECONDS
for v in plain orders ledger; do within $((22 - SECONDS + began)) "$v would not survive a reboot" is $v would_survive_reboot false; done
volseal explain orders
expect 'metric' 0 "$(metric 'volseal_volume_would_survive_reboot{volume="plain"}')"
[[ $(field ledger hint) == *'lock-graceful takes the volume away at'* ]] || die "hint: $(field ledger hint)"
sleep $((90 - SECONDS + began))
for v in plain orders ledger; do expect "$v 90 s later" Mounted "$(field $v phase)"; done

say 'lock-graceful stops the database, unmounts, and takes the key out of the kernel'
within 120 'ledger is sealed' is ledger phase Sealed
within 60 'ledger is closed' is ledger mapping ''
printf '   locked after %d s\n' $((SECONDS - began))
closed ledger /srv/ledger
expect 'class' revoked "$(field ledger class)"
! dmsetup table --showkeys volseal-ledger 2>/dev/null || die 'the kernel has a table of ledger'
stopped=$(systemctl show -p InactiveEnterTimestampMonotonic --value postgresql@15-ledger.service)
unmounted=$(systemctl show -p InactiveEnterTimestampMonotonic --value srv-ledger.mount)
((stopped > 0 && stopped <= unmounted)) || die "PostgreSQL stopped at $stopped, unmounted at $unmounted"
grep -q 'database system is shut down' /var/log/postgresql/postgresql-15-ledger.log || die 'PostgreSQL was not stopped in order'

say 'lock-freeze suspends all I/O and wipes the key'
for v in orders stock; do within 60 "$v is sealed" is $v phase Sealed; done
expect 'metric of the frozen' 1 "$(metric 'volseal_volume_frozen{volume="orders"}')"
expect 'metric of the locked' 0 "$(metric 'volseal_volume_frozen{volume="ledger"}')"
expect 'suspended' Suspended "$(dmsetup info -c --noheadings -o suspended volseal-orders)"
[[ $(dmsetup table --showkeys volseal-orders) == *" aes-xts-plain64 $(printf '0%.0s' {1..128}) "* ]] || die "table: $(dmsetup table volseal-orders)"
! grep -q ':64:logon\|cryptsetup' /proc/keys || die 'a key is left in a keyring'
mountpoint -q /var/lib/postgresql || die 'orders is not mounted any more'
touch /var/lib/postgresql/late & # waits in the kernel: nothing can end it
late=$!
sleep 6
before=$(progress)
sleep 10
expect 'progress of pgbench while frozen' "$before" "$(progress)"
kill -0 $late || die 'a write went through'

say 'a restarted agent finds it frozen, and leaves it so'
systemctl restart volseal.service
within 40 'orders is refused' is orders class revoked
expect 'phase' Sealed "$(field orders phase)"
exits 10 volseal unlock orders --wait=20s
volseal explain orders

say 'deny-new leaves the volume alone'
expect 'plain' Mounted "$(field plain phase)"
echo 'still writable' >/srv/plain/file

say 'the keys are enabled: all goes on with nobody'"'"'s help'
for v in plain orders ledger; do labctl key enable "$(recall $v.key)"; done
within 40 'ledger is mounted' is ledger phase Mounted
within 40 'orders is mounted' is orders phase Mounted
within 60 'the database of ledger answers' ledger_up
expect 'rows' 1000 "$(sql_ledger 'select count(*) from ledger')"
within 60 'the database of orders answers' database_up
within 20 'the late write ends' test -e /var/lib/postgresql/late
within 30 'pgbench gets on' more_than $((before + 2))
table=$(dmsetup table volseal-orders)
[[ $table == *"aes-xts-plain64 :64:logon:cryptsetup:"*no_read_workqueue*no_write_workqueue* ]] || die "dm table: $table"
kill -0 $bench || die "pgbench ended early: $(cat /root/pgbench.log)"
pkill -TERM -x pgbench
wait $bench || true
! grep -Eiq 'error|fatal|aborted' /root/pgbench.log || die "pgbench: $(cat /root/pgbench.log)"
expect 'restarts of the frozen database' 0 "$(systemctl show -p NRestarts --value postgresql@15-main.service)"
for v in plain orders ledger; do within 40 "$v would survive a reboot" is $v would_survive_reboot true; done
