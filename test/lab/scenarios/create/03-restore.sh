# SPDX-License-Identifier: Apache-2.0
# A snapshot of a mounted volume comes back beside it, with the data and the same LUKS UUID.
. /lab/lib.sh

snap=$(labctl snapshot create "$(field orders volume_id)")
describe_unmade copy db-1 "$(recall good)" /srv/copy
volseal reload
exits 14 volseal restore copy --snapshot snap-00000000000000000 --wait=30s
exits 16 volseal restore copy --snapshot "$snap"
volseal release copy --wait=30s
within 30 'the order is called off' is copy reason no-volume-id

volseal restore copy --snapshot "$snap" --wait=2m
expect 'copy' Mounted "$(field copy phase)"
expect 'the data' 'rows of orders' "$(cat /srv/copy/rows)"
expect 'the same LUKS UUID' "$(field orders luks_uuid)" "$(field copy luks_uuid)"
expect 'EC2 has made' "$(field copy volume_id)" "$(made copy)"
[[ $(findmnt -no SOURCE /srv/copy) != "$(findmnt -no SOURCE /srv/orders)" ]] || die 'both are one mapping'
echo 'rows of the copy' >/srv/copy/rows
sync -f /srv/copy
expect 'the original' 'rows of orders' "$(cat /srv/orders/rows)"
within 30 'both would survive a reboot' is copy would_survive_reboot true
is orders would_survive_reboot true || die "orders: $(field orders error)"

for v in copy orders late twice; do volseal release $v --wait=1m & done
wait
closed copy /srv/copy
