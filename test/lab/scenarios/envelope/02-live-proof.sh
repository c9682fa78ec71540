# SPDX-License-Identifier: Apache-2.0
# A snapshot opens on a host that has never seen it; a header swapped after the check changes nothing; a cached key bridges no outage, and no clock moves it.
. /lab/lib.sh

key=$(recall orders.key)
decrypts() { labctl calls kms --since "$1" | jq -c 'select(.via == null and .operation == "Decrypt")' | wc -l; }

say 'another host, another volume id'
[[ -z $(find /var/lib/volseal -type f) ]] || die 'this host remembers something'
vol=$(labctl volume create --snapshot "$(recall orders.snap)")
[[ $vol != "$(recall orders.vol)" ]] || die 'that is the same volume'
remember orders.vol "$vol"
describe orders "$vol" "$key" /srv/orders
agent_settings 'kms: {timeout: 2s, proof_max_age: 5s, probe_interval: 1h}' 'cache: {ttl: 1h}'
start_agent
volseal unlock orders --wait=2m
expect 'rows' 'rows of orders' "$(cat /srv/orders/rows)"
device=$(field orders device)
cached() { [[ $(metric volseal_data_key_cache_entries) == "$1" ]]; }
cached 1 || die 'no key in the cache'

say 'the clock goes forth and back a day: neither the cached key nor its proof knows'
mark=$(labctl mark)
last_pass() { metric volseal_last_reconcile_timestamp_seconds; }
passed() { [[ $(last_pass) != "$1" ]]; }
for step in '+1 day' '-2 days' '+1 day'; do
	date -s "$(date -d "$step")" >/dev/null
	before=$(last_pass)
	udevadm trigger --action=change "$device"
	within 30 "a pass after $step" passed "$before"
	cached 1 || die "the cached key is gone after $step"
	[[ $(field orders would_survive_reboot) == true ]] || die "the proof is gone after $step"
done
expect 'Decrypts because a clock was set' 0 "$(decrypts "$mark")"

say 'the cache is warm, KMS is gone: another volume of this database, with this very wrapped key, stays shut'
second=$(labctl volume create --snapshot "$(recall orders.snap)")
describe second "$second" "$key" /srv/second
sed -i 's/^database: .*/database: db-orders/' /etc/volseal/volumes.d/second.yaml
sleep 5 # until the proof is too old, by any clock: this wait is what is tested
labctl fault kms reset
volseal reload
within 60 'second is refused' is second class unreachable
closed second /srv/second
cached 1 || die 'the key was not in the cache: the test proves nothing'
labctl key disable "$key"
labctl fault kms off
within 60 'second is refused for the key itself' is second class revoked
closed second /srv/second
expect 'orders, mounted before' Mounted "$(field orders phase)"
cached 0 || die 'the key of a disabled CMK is still in the cache'
labctl key enable "$key"
within 60 'second is mounted by itself' is second phase Mounted
volseal release second --wait=1m
rm /etc/volseal/volumes.d/second.yaml

say 'a key in the cache ends by the time that passes, not by the time that is told'
cached 1 || die 'no key in the cache'
agent_settings 'kms: {probe_interval: 1h}' 'cache: {ttl: 10s}'
volseal reload
date -s "$(date -d '-1 day')" >/dev/null
within 20 'the key is gone' cached 0
date -s "$(date -d '+1 day')" >/dev/null

say 'a header swapped between check and open changes nothing'
head -c 16M "$device" >/root/sound
volseal lock orders --wait=1m
# The attacker writes a header of his own at the moment that cryptsetup is told to open.
truncate -s 32M /run/evil
printf secret | cryptsetup luksFormat -q --type luks2 --cipher aes-cbc-essiv:sha256 --key-size 256 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file - /run/evil
mv /usr/sbin/cryptsetup /usr/sbin/cryptsetup.real
cat >/usr/sbin/cryptsetup <<-SH
	#!/bin/sh
	[ "\$1" != open ] || dd if=/run/evil of=$device bs=64k count=1 conv=notrunc,fsync status=none
	exec /usr/sbin/cryptsetup.real "\$@"
SH
chmod 755 /usr/sbin/cryptsetup
volseal unlock orders
within 60 'orders is mounted' mountpoint -q /srv/orders
mv /usr/sbin/cryptsetup.real /usr/sbin/cryptsetup
[[ $(head -c 32768 "$device" | sha256sum) == "$(head -c 32768 /run/evil | sha256sum)" ]] || die 'the swap did not happen: the test proves nothing'
expect 'cipher of the mapping' aes-xts-plain64 "$(dmsetup table volseal-orders | cut -d' ' -f4)"
expect 'rows' 'rows of orders' "$(cat /srv/orders/rows)"
volseal reload # asks all that the next boot would ask, and not in an hour
within 60 'the change is noticed' is orders reason segment-cipher
volseal lock orders --wait=1m
exits 13 volseal unlock orders --wait=1m
closed orders /srv/orders
dd if=/root/sound of="$device" bs=1M conv=notrunc,fsync status=none
volseal reattach orders --wait=1m
expect 'rows' 'rows of orders' "$(cat /srv/orders/rows)"
rm /run/evil /root/sound
