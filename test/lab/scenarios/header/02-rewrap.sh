# SPDX-License-Identifier: Apache-2.0
# A volume moves to another CMK by the intent in its claim: the old one is then needed for nothing. Killed and refused half-way, it loses nothing.
. /lab/lib.sh

claim=/var/lib/volseal/claims/orders.json
before=$(sha256sum /srv/orders/rows | cut -d' ' -f1)
old=$(recall orders.key)
new=$(labctl key create --account 222222222222)
intend() {
	systemctl stop volseal.service
	jq --arg to "$new" "$1" $claim >/root/claim && cat /root/claim >$claim
	systemctl start volseal.service
}

say 'the new CMK does not allow it yet'
volseal lock orders --wait=2m
labctl key deny "$new" kms:ReEncryptTo
intend '.rewrap = {"to": $to} | .wish = "mounted"'
within 60 'it is refused' is orders class misconfigured
volseal explain orders
closed orders /srv/orders
expect 'tokens in the header' 1 "$(cryptsetup luksDump --dump-json-metadata "$(field orders device)" | jq '.tokens | length')"
expect 'the pinned CMK' "$old" "$(field orders key_arn)"

say 'it allows it, and the agent is killed again and again'
labctl key allow "$new"
for delay in 1 2 3; do
	volseal unlock orders # ends the pause
	sleep "$delay"
	pid=$(systemctl show -p MainPID --value volseal.service)
	if ((pid > 0)); then kill -9 "$pid"; fi
	within 60 'the agent is back' field orders phase
done
volseal unlock orders
within 90 'orders is mounted' is orders phase Mounted
expect 'the pinned CMK' "$new" "$(field orders key_arn)"
expect 'generation' 2 "$(field orders generation)"
volseal status orders
field orders notice | grep -F "$new"
expect 'tokens in the header' 1 "$(cryptsetup luksDump --dump-json-metadata "$(field orders device)" | jq '.tokens | length')"
within 60 'there is a backup of it' compgen -G '/var/lib/volseal/headers/orders/g2-*.img'

say 'the old CMK goes'
labctl key delete "$old"
volseal lock orders --wait=2m
volseal unlock orders --wait=2m
expect 'the data' "$before" "$(sha256sum /srv/orders/rows | cut -d' ' -f1)"
volseal header verify orders
exits 13 volseal header restore orders --generation 1 --accept-older

say 'the configuration follows'
sed -i "s|^key_arn: .*|key_arn: $new|" /etc/volseal/volumes.d/orders.yaml
volseal reload
within 30 'there is nothing left to notice' is orders notice ''
unpinned() { [[ $(jq -r '.pin' $claim) == null ]]; }
within 70 'the claim has forgotten the move' unpinned
is orders phase Mounted
