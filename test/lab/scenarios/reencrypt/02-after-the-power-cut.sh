# SPDX-License-Identifier: Apache-2.0
# After a power cut in the middle of a reencryption each acknowledged row is there. A host that does not know of it refuses, until an operator says so; then it goes on to its end, after which the old header opens nothing.
. /lab/lib.sh

under_way() { (($(field orders rotation.done_bytes) > 0)); }
refused() { is orders phase Quarantined; }

within 120 'PostgreSQL answers after the boot' database_up
expect 'rows' 1002 "$(sql 'select count(*) from kept')"
within 60 'it goes on by itself' under_way

say 'the same disk at a host that does not know of it'
volseal lock orders --wait=2m
closed orders /var/lib/postgresql
systemctl stop volseal.socket volseal.service
mv /var/lib/volseal/claims/orders.json /root/claim.json
systemctl start volseal.service
within 60 'it is refused' refused
expect 'reason' requirements "$(field orders reason)"
closed orders /var/lib/postgresql
volseal rotate orders --reencrypt --rate 400
within 120 'PostgreSQL answers' database_up
expect 'rows' 1002 "$(sql 'select count(*) from kept')"

say 'to its end'
within 400 'the reencryption is over' rotation orders '' null
expect 'generation' 2 "$(field orders generation)"
within 60 'it would survive a reboot' is orders would_survive_reboot true
volseal header verify orders
expect 'the header' '{"keyslots":["1"],"tokens":1}' "$(keys_on orders | jq -c '{keyslots, tokens: (.tokens | length)}')"
expect 'targets of the mapping' 1 "$(dmsetup table volseal-orders | wc -l)"
expect 'rows' 1002 "$(sql 'select count(*) from kept')"

say 'the old header, and the old data key'
cp /root/old.header /var/lib/volseal/headers/orders/old.img
exits 13 volseal header restore orders --from old.img --accept-older
device=$(field orders device)
volseal lock orders --wait=2m
cryptsetup open --header /root/old.header --key-file /root/old.passphrase "$device" stolen
! blkid -p /dev/mapper/stolen || die 'the old volume key still reads it'
dmsetup remove stolen
! cmp -s -n 258048 -i 32768 /root/old.header "$device" || die 'the old keyslot is still on the disk'
volseal unlock orders --wait=2m
within 60 'PostgreSQL answers' database_up
expect 'rows' 1002 "$(sql 'select count(*) from kept')"

say 'a header that only says that it is being reencrypted'
volseal release orders --wait=2m
labctl header text "$(recall orders.vol)" | jq -c '.config.requirements = {mandatory: ["online-reencrypt-v2"]}' | labctl header set "$(recall orders.vol)" -
volseal reattach orders
within 60 'it is refused' refused
expect 'reason' requirements "$(field orders reason)"
closed orders /var/lib/postgresql
