# SPDX-License-Identifier: Apache-2.0
# A mounted volume moves to another CMK: the old one is then needed for nothing. Refused and killed half-way, it loses nothing and stays mounted.
. /lab/lib.sh

claim=/var/lib/volseal/claims/orders.json
before=$(sha256sum /srv/orders/rows | cut -d' ' -f1)
old=$(recall orders.key)
new=$(labctl key create --account 222222222222)
tokens() { cryptsetup luksDump --dump-json-metadata "$(field orders device)" | jq '.tokens | length'; }


say 'the new CMK does not allow it yet'
labctl key deny "$new" kms:Decrypt
exits 14 volseal rotate orders --key-arn "$new"
rotation orders '' null
labctl key deny "$new" kms:ReEncryptTo
volseal rotate orders --key-arn "$new"
within 60 'it is held up' rotation orders .class misconfigured
volseal explain orders
is orders phase Mounted
is orders would_survive_reboot true
expect 'tokens in the header' 1 "$(tokens)"
expect 'the pinned CMK' "$old" "$(field orders key_arn)"
volseal lock orders --wait=2m
volseal unlock orders --wait=2m

say 'it allows it, and the agent is killed again and again'
labctl key allow "$new"
volseal rotate orders --key-arn "$new"
for delay in 1 2 3; do
	volseal unlock orders # ends the pause
	sleep "$delay"
	pid=$(systemctl show -p MainPID --value volseal.service)
	if ((pid > 0)); then kill -9 "$pid"; fi
	within 60 'the agent is back' field orders phase
done
within 90 'the rotation is over' rotation orders '' null
is orders phase Mounted
expect 'the pinned CMK' "$new" "$(field orders key_arn)"
expect 'generation' 2 "$(field orders generation)"
volseal status orders
field orders notice | grep -F "$new"
expect 'tokens in the header' 1 "$(tokens)"
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
