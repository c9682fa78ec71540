# SPDX-License-Identifier: Apache-2.0
# The demo, first boot: a key, a volume, a database.
. /lab/lib.sh

story() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { printf '  \033[2m$ %s\033[0m\n' "$*"; "$@" 2>&1 | sed 's/^/  /'; }

story '1. The customer makes a KMS key, and shares it with the platform.'
arn=$(labctl key create)
remember key "$arn"
echo "  $arn"

story '2. The platform makes an EBS volume under that key, and says where it belongs.'
vol=$(labctl volume create --size 1 --key "$arn")
agent_settings
describe orders "$vol" "$arn" /var/lib/postgresql 'database_unit: postgresql.service'
run cat /etc/volseal/volumes.d/orders.yaml
run volseal config check
systemctl enable --quiet --now volseal.service

story '3. The volume is attached, and blank. volseal formats nothing until somebody says so.'
within 30 'attached' is orders phase Attached
run volseal explain orders
run volseal init orders --wait=3m

story '4. What is there now: a LUKS2 mapping on the EBS device, mounted by systemd.'
run volseal status
run lsblk -o NAME,TYPE,SERIAL,SIZE,MOUNTPOINT
echo '  and in the header, a token that anybody may read, and only the CMK can use:'
cryptsetup token export --token-id 0 "$(field orders device)" | jq '{type, version, generation, key_arn, wrapped_key: (.wrapped_key[:40] + "…")}' | sed 's/^/  /'

story '5. PostgreSQL moves in.'
make_database
run sql 'create table orders (id int primary key, what text)'
run sql "insert into orders select i, 'order number ' || i from generate_series(1, 1000) i"
echo "  rows: $(sql 'select count(*) from orders')"

story '6. The host reboots.'
labctl host reboot
