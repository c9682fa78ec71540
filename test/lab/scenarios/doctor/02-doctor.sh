# SPDX-License-Identifier: Apache-2.0
# doctor has no line against a sound host, and one with a remedy for each thing that is broken; mended, it is silent again.
. /lab/lib.sh

unit=db.service
printf '[Service]\nExecStart=/usr/bin/sleep infinity\n' >/etc/systemd/system/$unit
make_volume orders /srv/orders "database_unit: $unit"
volseal reload
init_all orders
within 60 'the agent has backed the header up' compgen -G '/var/lib/volseal/headers/orders/g1-*.img'

# finds CODE STATUS NAME runs doctor, which must end so, with just that line failed or warned of.
finds() {
	local code=$1 want=$2 got=0
	volseal doctor --json >/root/doctor.json 2>/root/doctor.err || got=$?
	[[ $got == "$code" ]] || die "doctor: exit status $got, want $code: $(cat /root/doctor.json)"
	expect "exit $code" "$want" "$(jq -r '[.checks[] | select(.status == "failed" or .status == "warn") | .status + " " + .name] | join(", ")' /root/doctor.json)"
	jq -e 'all(.checks[]; .status != "failed" or .remedy != "")' /root/doctor.json >/dev/null || die "a failed line without remedy"
}

say 'a sound host'
finds 0 ''
expect 'nothing that root cannot see' '' "$(jq -r '.checks[] | select(.status == "skipped") | .name' /root/doctor.json)"
runuser -u nobody -- volseal doctor >/root/nobody.txt || die 'doctor fails for who may see little'
grep -q '^skipped  agent: ' /root/nobody.txt || die 'nobody was not told that the agent refuses'

say 'the generator cannot be executed'
generator=/usr/lib/systemd/system-generators/volseal-generator
mv $generator /root/generator
install -m 0644 /dev/null $generator
finds 14 'failed generator'
rm $generator && mv /root/generator $generator

say 'systemctl daemon-reload was forgotten'
echo 'unlock_timeout: 20m' >>/etc/volseal/volumes.d/orders.yaml
finds 14 'failed generated units'
systemctl daemon-reload
volseal reload

say 'the database does not wait for its volume'
mkdir -p /etc/systemd/system/$unit.d
: >/etc/systemd/system/$unit.d/50-volseal.conf
systemctl daemon-reload
finds 14 'failed database of orders'
rm -r /etc/systemd/system/$unit.d
systemctl daemon-reload

say 'a group is missing'
groupdel volseal-operators
finds 14 'failed group volseal-operators'
systemd-sysusers volseal.conf
volseal reload

say 'garbage for a claim'
install -m 0600 /etc/hostname /var/lib/volseal/claims/ghost.json
finds 14 'failed claim "ghost"'
rm /var/lib/volseal/claims/ghost.json

say 'the clock'
date -s '+2 minutes' >/dev/null
finds 0 'warn clock' # nothing that went before is still broken
date -s '-2 minutes' >/dev/null

say 'the sandbox was opened'
mkdir -p /etc/systemd/system/volseal.service.d
printf '[Service]\nLimitCORE=infinity\n' >/etc/systemd/system/volseal.service.d/dump.conf
systemctl daemon-reload
finds 0 'warn sandbox'
grep -q dump.conf /root/doctor.json || die 'the drop-in is not named'
rm -r /etc/systemd/system/volseal.service.d
systemctl daemon-reload

say 'the role and the key'
labctl ec2 deny DetachVolume
finds 14 'failed ec2:DetachVolume'
labctl ec2 allow
key=$(recall orders.key)
labctl key disable "$key"
finds 14 "failed key ${key##*/}"
labctl key enable "$key"
finds 0 ''

say 'without the agent'
systemctl stop volseal.socket volseal.service
finds 4 'failed agent, failed socket, failed volseal.socket, failed volseal.service'
systemctl start volseal.socket volseal.service
within 30 'the agent answers' field orders phase
finds 0 ''
mountpoint -q /srv/orders || die 'the volume was touched'
systemctl is-active --quiet $unit || die 'the database was touched'
