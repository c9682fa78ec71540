# SPDX-License-Identifier: Apache-2.0
# A new volume key under a running pgbench, which meets no error; the agent is killed, the work rests and goes on, is killed in the middle of a hot zone, and then the power fails.
. /lab/lib.sh

unit=volseal-reencrypt-orders.service
working() { [[ $(systemctl show -P ActiveState $unit) == active ]]; }
resting() { [[ $(systemctl show -P ActiveState $unit) == inactive ]] && rotation orders .stage paused; }
# beyond BYTES: so much is under the new key.
beyond() { (($(field orders rotation.done_bytes) > $1)); }
in_hot_zone() {
	local dm
	dm=$(readlink -e /dev/mapper/volseal-orders-hotzone-forward) && [[ $(cat "/sys/block/${dm##*/}/dm/suspended") == 1 ]]
}

agent_settings
make_volume orders /var/lib/postgresql 'database_unit: postgresql.service'
start_agent
init_all orders
make_database
sql 'create table kept(id int)'
sql 'insert into kept select generate_series(1, 1000)'
runuser -u postgres -- pgbench -q -i -s 1 postgres 2>/dev/null

say 'what somebody kept: the old header, and the passphrase that the old data key gives'
device=$(field orders device)
cryptsetup luksHeaderBackup "$device" --header-backup-file /root/old.header
token=$(cryptsetup token export --token-id 0 "$device")
datakey=$(labctl key unwrap "$(recall orders.key)" "$(jq -r .wrapped_key <<<"$token")" "$(jq -c .encryption_context <<<"$token")")
salt=$(jq -r .salt <<<"$token" | base64 -d | od -An -v -tx1 | tr -d ' \n')
openssl kdf -keylen 32 -kdfopt digest:SHA256 -kdfopt "hexkey:$datakey" -kdfopt "hexsalt:$salt" -kdfopt 'info:volseal/v1 keyslot' -binary HKDF >/root/old.passphrase
cryptsetup open --test-passphrase --key-file /root/old.passphrase /root/old.header || die 'that is not the passphrase'

say 'a new volume key under pgbench'
exits 2 volseal rotate orders --rate 5
bench 40 through &
bench=$!
sleep 2
volseal rotate orders --reencrypt --rate 400
within 60 'the unit works' working
expect 'never killed by systemd' no "$(systemctl show -P SendSIGKILL $unit)"
expect 'spared by the OOM killer' -1000 "$(systemctl show -P OOMScoreAdjust $unit)"
# No key, nor anything that leads to one, is shown by systemd or in the arguments.
! systemctl show $unit | grep -iE "passphrase|$datakey" || die 'systemd shows it'
within 60 'some of it is done' beyond 0
is orders would_survive_reboot true
exits 16 volseal header backup orders
exits 16 volseal rotate orders --new-data-key
exits 16 volseal rotate orders --abort

say 'the agent is killed; the work is none of its children'
systemctl kill --signal=KILL --kill-whom=main volseal.service
working || die 'the work died with the agent'
within 40 'the agent is back' is orders would_survive_reboot true
volseal rotate orders --pause
within 60 'it rests' resting
dmsetup table volseal-orders | awk '{print "   " $1, $2, $5}'
done=$(field orders rotation.done_bytes)
volseal header verify orders
volseal rotate orders --reencrypt --rate 300
within 60 'it goes on' beyond "$done"
wait $bench
faultless through
printf '   longest gap between commits: %s ms\n' "$(gap through)"

say 'the work is killed in the middle of a hot zone'
sql 'insert into kept values (1001)'
limit=$((SECONDS + 120))
until in_hot_zone; do ((SECONDS < limit)) || die 'no hot zone was seen'; done # too short for within
systemctl kill --signal=KILL --kill-whom=main $unit
within 60 'it is taken down' test ! -e /dev/mapper/volseal-orders-overlay
within 180 'PostgreSQL answers' database_up
expect 'rows' 1001 "$(sql 'select count(*) from kept')"
within 60 'it goes on by itself' working
volseal status orders | grep rotation:

say 'the power fails'
sql 'insert into kept values (1002)'
within 60 'it is at work' in_hot_zone
labctl host power-cut
