# SPDX-License-Identifier: Apache-2.0
# A damaged and a destroyed header come back from the backups that the agent took, with the data behind them; killed half-way, the same word completes it.
. /lab/lib.sh

headers=/var/lib/volseal/headers/orders
verify() { volseal header verify orders --json | jq -r --arg n "$1" '.checks[] | select(.name == $n) | .status'; }
sum() { sha256sum /srv/orders/rows | cut -d' ' -f1; }
sealed() { [[ $(field orders phase) == Sealed && $(field orders mapping) == '' ]]; }
seal() {
	volseal lock orders --wait=2m
	dev=$(field orders device)
}
quarantined() { is orders phase Quarantined; }
# opened [FLAG…] restores the header; the operator's lock still stands then.
opened() {
	volseal header restore orders "$@"
	volseal unlock orders --wait=2m
	expect 'the data' "$before" "$(sum)"
}

agent_settings 'kms: {proof_max_age: 60s}'
make_volume orders /srv/orders
start_agent
volseal init orders --wait=5m
head -c 4M /dev/urandom >/srv/orders/rows
before=$(sum)
backed_up() { compgen -G "$headers/g1-*.img"; }
within 60 'the agent took a backup by itself' backed_up
expect 'mode of the backup' 600 "$(stat -c %a "$(backed_up)")"
volseal header verify orders
volseal header backup orders | grep 'has not changed since'

say 'a damaged primary: told while mounted, and mended beneath the mount'
dev=$(field orders device)
head -c 4096 /dev/urandom | dd of="$dev" bs=4096 conv=notrunc,fsync status=none
exits 13 volseal header verify orders
expect 'the secondary' ok "$(verify secondary || true)"
exits 13 volseal header backup orders
volseal header restore orders
volseal header verify orders >/dev/null
expect 'still mounted' "$before" "$(sum)"

say 'a damaged primary, found when it is opened'
seal
head -c 4096 /dev/urandom | dd of="$dev" bs=4096 conv=notrunc,fsync status=none
volseal unlock orders || true # the agent may have seen it already
within 60 'it is quarantined' quarantined
volseal explain orders
opened

destroyed() { # WITH: 16 MiB of it over the header
	say "a header destroyed with $1"
	seal
	dd if="$1" of="$dev" bs=1M count=16 iflag=fullblock conv=notrunc,fsync status=none
	volseal unlock orders || true
	within 60 'it is quarantined' quarantined
	exits 13 volseal init orders
}
destroyed /dev/urandom
opened

destroyed /dev/zero
say 'killed in the middle of the restoration'
begun() { compgen -G "$headers/replaced-*.img"; }                                                            # what was there is safe
writing() { ! cmp -s -n 4096 <(dd if="$dev" bs=4096 skip=8 count=1 iflag=direct status=none) /dev/zero; } # the first keyslot is there
for moment in begun writing; do
	rm -f "$headers"/replaced-*.img
	volseal header restore orders >/dev/null 2>&1 &
	restoring=$!
	until $moment >/dev/null; do kill -0 "$restoring" || die "the restoration ended before it was $moment"; done
	systemctl kill --signal=KILL --kill-whom=main volseal.service
	wait "$restoring" || true
	within 60 'the agent is back' field orders phase
	printf '   killed when %s: %s, %s\n' "$moment" "$(field orders phase)" "$(field orders reason)"
	[[ $(field orders phase) =~ ^(Quarantined|Sealed|Mounted)$ ]] || die 'it looks blank'
done
opened
volseal header verify orders

say 'an older header'
seal
systemctl stop volseal.service
claim=/var/lib/volseal/claims/orders.json
jq '.generation = 2' $claim >/root/claim && cat /root/claim >$claim
systemctl start volseal.service
within 60 'the agent is back' sealed
exits 13 volseal header verify orders
exits 13 volseal header restore orders --generation 1
exits 14 volseal header restore orders
opened --generation 1 --accept-older
expect 'generation' 1 "$(field orders generation)"
