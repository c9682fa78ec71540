# SPDX-License-Identifier: Apache-2.0
# A new data key under another CMK, under a running pgbench; the next one with the agent killed meanwhile. Then the old CMK is deleted, and the host boots.
. /lab/lib.sh

old=$(recall old)
new=$(recall new)
bench 25 renewed &
bench=$!
sleep 3
volseal rotate orders --key-arn "$new" --new-data-key --wait=2m
expect 'the header' "{\"keyslots\":[\"1\"],\"tokens\":[[\"${new: -12}\",4]]}" "$(keys_on orders)"
volseal header verify orders
wait $bench
faultless renewed
printf '   longest gap between commits: %s ms\n' "$(gap renewed)"

say 'another one, and the agent killed again and again meanwhile'
volseal rotate orders --new-data-key
for _ in 1 2 3; do
	sleep 2
	systemctl kill --signal=KILL --kill-whom=main volseal.service || true # it may be starting
done
within 120 'the rotation is over' rotation orders '' null
expect 'the header' "{\"keyslots\":[\"0\"],\"tokens\":[[\"${new: -12}\",5]]}" "$(keys_on orders)"
expect 'rows' 1000 "$(sql 'select count(*) from kept')"

say 'the configuration follows, the old CMK goes, and the host boots'
field orders notice | grep -F "$new"
unpinned() { [[ $(jq -r '.pin' /var/lib/volseal/claims/orders.json) == null ]]; }
sed -i "s|^key_arn: .*|key_arn: $new|" /etc/volseal/volumes.d/orders.yaml
volseal reload
within 30 'there is nothing left to notice' is orders notice ''
within 70 'the claim has forgotten the move' unpinned
within 60 'there is a backup of it' compgen -G '/var/lib/volseal/headers/orders/g5-*.img'
labctl key delete "$old"
exits 13 volseal header restore orders --generation 3 --accept-older
labctl host reboot
