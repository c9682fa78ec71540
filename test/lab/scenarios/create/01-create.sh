# SPDX-License-Identifier: Apache-2.0
# A volume is made by one word, under a key that is shared, one that is shared too late, and one that EC2 alone may not use.
. /lab/lib.sh

# share KEY-ARN pastes the statements that the package has for the customer.
share() {
	jq '{Version: "2012-10-17", Statement: ([{Sid: "Owner", Effect: "Allow", Principal: {AWS: "arn:aws:iam::111111111111:root"}, Action: "kms:*", Resource: "*"}] + .)}' \
		/usr/share/doc/volseal/examples/iam/key-policy-statements.json | labctl key policy "$1" -
}

good=$(labctl key create)
unshared=$(labctl key create --unshared)
half=$(labctl key create)
remember good "$good"
agent_settings
describe_unmade orders db-1 "$good" /srv/orders
describe_unmade late db-2 "$unshared" /srv/late
describe_unmade half db-3 "$half" /srv/half
start_agent
within 30 'nothing is made unasked' is orders reason no-volume-id
[[ $(labctl volume list) == '[]' ]] || die "volumes: $(labctl volume list)"

say 'EC2 alone may not use the key: told in the background, see below'
labctl key deny "$half" GenerateDataKeyWithoutPlaintext
(
	code=0
	volseal create half --size 1 --wait=2m 2>/root/half.err || code=$?
	echo $code >/root/half.code
) &

say 'a key that is shared'
volseal create orders --size 1 --wait=2m
expect 'orders' Mounted "$(field orders phase)"
vol=$(field orders volume_id)
expect 'EC2 has made' "$vol" "$(made orders)"
expect 'under the key, in GiB' "$good 1" "$(labctl volume show "$vol" | jq -r '"\(.key_arn) \(.size_gib)"')"
mountpoint -q /srv/orders || die 'nothing is mounted at /srv/orders'
echo 'rows of orders' >/srv/orders/rows
sync -f /srv/orders
exits 16 volseal create orders --size 1
exits 16 volseal init orders

say 'a key that the customer forgot to share'
code=0
volseal create late --size 1 --wait=1m --json >/root/late.json 2>/root/late.err || code=$?
cat /root/late.err
expect 'exit status' 10 "$code"
grep -qx -- '- FAILED: Create 1 GB database volume' /root/late.err || die 'the step is not named'
grep -qF "not have been shared with this account: volseal key check $unshared" /root/late.err || die 'no hint about sharing'
expect 'JSON' 'Create 1 GB database volume' "$(jq -r .failed_step /root/late.json)"
[[ -z $(made late) ]] || die "EC2 was asked for a volume under an unusable key"
share "$unshared"
named() { [[ -n $(field late volume_id) ]]; }
within 60 'EC2 is asked by itself once the key is shared' named
within 180 'late is mounted' is late phase Mounted
expect 'volumes of late' "$(field late volume_id)" "$(made late)"

say 'EC2 alone may not use the key'
wait
cat /root/half.err
expect 'exit status' 14 "$(cat /root/half.code)"
grep -qx -- '- FAILED: Create 1 GB database volume' /root/half.err || die 'the step is not named'
grep -qF 'has vanished since' /root/half.err || die 'the cause is not told'
grep -qF 'kms:CreateGrant' /root/half.err || die 'no hint about what EC2 needs'
volseal release half --wait=30s
within 30 'the order is called off' is half reason no-volume-id
[[ -z $(made half) ]] || die 'a volume is left'
