# SPDX-License-Identifier: Apache-2.0
# A customer brings a key: made, not shared, shared; a database is made under it, and moves to a second key by a snapshot. A second customer has no second key.
. /lab/lib.sh

# paste KEY-ARN does what the customer does: the owner's statement, and those that key check printed.
paste() {
	{ volseal key check "$1" --json 2>/dev/null || true; } | jq '{Version: "2012-10-17", Statement: ([
		{Sid: "Enable IAM User Permissions", Effect: "Allow", Principal: {AWS: "arn:aws:iam::111111111111:root"}, Action: "kms:*", Resource: "*"}
	] + .missing_statements)}' >/root/policy.json
	labctl key policy "$1" /root/policy.json
}

# The database that runs on the restored volume, beside the other one.
cat >/root/restored.sh <<'SH'
restored_database() {
	runuser -u postgres -- pg_ctl -s -w -D /srv/restored/15/main -l /tmp/restored.log "$1" \
		-o '-p 5433 -c config_file=/etc/postgresql/15/main/postgresql.conf -c data_directory=/srv/restored/15/main -c external_pid_file=/tmp/restored.pid'
}
sql_restored() { runuser -u postgres -- psql -p 5433 -XAtqc "$1"; }
SH
. /root/restored.sh

say 'the customer makes a key, and forgets to share it'
first=$(labctl key create --unshared)
remember first "$first"
agent_settings
describe_unmade orders db-7f3a "$first" /var/lib/postgresql 'database_unit: postgresql@15-main.service'
start_agent
exits 10 volseal create orders --size 1 --wait=1m 2>/root/create.err
cat /root/create.err
grep -qx 'SUMMARY: Execution failed because of:' /root/create.err || die 'no summary'
grep -qx -- '- FAILED: Create 1 GB database volume' /root/create.err || die 'the step is not named'
grep -q 'hint: .*shared' /root/create.err || die 'no hint about sharing'

say 'key check says what is missing; the customer pastes it'
exits 10 volseal key check "$first"
paste "$first"
exits 0 volseal key check "$first"
within 120 'the volume is made, with nobody saying it again' is orders phase Mounted
make_database
sql 'create table orders(id int primary key)'
sql 'insert into orders select generate_series(1, 1000)'
sql 'checkpoint'

say 'another customer has one key, and no second one'
only=$(labctl key create)
remember only "$only"
describe_unmade ledger db-9c2e "$only" /srv/ledger
volseal reload
volseal create ledger --size 1 --wait=3m
echo 'the only copy' >/srv/ledger/book
sync -f /srv/ledger

say 'both are backed up by snapshots'
snapshot=$(labctl snapshot create "$(field orders volume_id)")
remember ledger.snapshot "$(labctl snapshot create "$(field ledger volume_id)")"

say 'the first customer changes keys: restored under a second one'
second=$(labctl key create)
remember second "$second"
describe_unmade restored db-7f3a "$first" /srv/restored
volseal reload
volseal restore restored --snapshot "$snapshot" --key-arn "$second" --wait=3m
expect 'the key that opens it' "$second" "$(field restored key_arn)"
[[ $(field restored notice) == *"$second"* ]] || die "notice: $(field restored notice)"
sed -i "s|^key_arn: .*|key_arn: $second|" /etc/volseal/volumes.d/restored.yaml
volseal reload
within 30 'the configuration has followed' is restored notice ''
expect 'EBS uses the second key too' "$second" "$(labctl volume show "$(field restored volume_id)" | jq -r .key_arn)"
rm /srv/restored/15/main/postmaster.pid # names the database that was snapshotted, which runs beside it
restored_database start
expect 'rows' 1000 "$(sql_restored 'select count(*) from orders')"
restored_database stop

say 'the old keys are deleted, and the host is booted'
systemctl disable --quiet postgresql.service
rm /etc/volseal/volumes.d/orders.yaml
volseal reload
for key in "$first" "$only"; do
	labctl key schedule-deletion "$key"
	labctl key delete "$key"
done
labctl host reboot
