# SPDX-License-Identifier: Apache-2.0
# A volume moves to another CMK under a running pgbench, which meets no error and no pause; the agent is killed in the middle of the next move.
. /lab/lib.sh

# The EBS layer has a CMK of its own here, so that the old one can go in the end.
old=$(labctl key create)
new=$(labctl key create --account 222222222222)
remember old "$old"
remember new "$new"
describe orders "$(labctl volume create --size 1 --key "$(labctl key create)")" "$old" /var/lib/postgresql 'database_unit: postgresql.service'
agent_settings
start_agent
volseal init orders --wait=3m
make_database
sql 'create table kept(id int)'
sql 'insert into kept select generate_series(1, 1000)'
runuser -u postgres -- pgbench -q -i -s 1 postgres 2>/dev/null
within 40 'it would survive a reboot' is orders would_survive_reboot true

say 'a run without a rotation, and one with'
bench 12 before
faultless before
bench 30 during &
bench=$!
sleep 4
mark=$(labctl mark)
began=$(date +%s%N)
volseal rotate orders --key-arn "$new" --wait=2m
took=$((($(date +%s%N) - began) / 1000000))
expect 'the header' "{\"keyslots\":[\"0\"],\"tokens\":[[\"${new: -12}\",2]]}" "$(keys_on orders)"
within 10 'it would survive a reboot' is orders would_survive_reboot true
wait $bench
faultless during
printf '   rotate --wait: %s ms; the agent at work on it: %s s; KMS: %s calls\n' "$took" \
	"$(metric 'volseal_step_duration_seconds_sum{step="rewrap"}')" "$(labctl calls kms --since "$mark" | wc -l)"
printf '   longest gap between commits: %s ms, and %s ms in the run before\n' "$(gap during)" "$(gap before)"

say 'back, and the agent killed again and again meanwhile'
volseal rotate orders --key-arn "$old"
for _ in 1 2 3; do
	sleep 2
	systemctl kill --signal=KILL --kill-whom=main volseal.service || true # it may be starting
done
within 120 'the rotation is over' rotation orders '' null
expect 'the header' "{\"keyslots\":[\"0\"],\"tokens\":[[\"${old: -12}\",3]]}" "$(keys_on orders)"
expect 'notice' '' "$(field orders notice)"

say 'refused before anything is recorded'
labctl key deny "$new" kms:Decrypt
exits 14 volseal rotate orders --key-arn "$new"
rotation orders '' null
labctl key allow "$new"

say 'held up, and taken back'
labctl key deny "$new" kms:ReEncryptTo
volseal rotate orders --key-arn "$new"
within 30 'it is held up' rotation orders .class misconfigured
volseal status orders
volseal explain orders
is orders would_survive_reboot true
is orders phase Mounted
volseal rotate orders --abort --wait=2m
exits 16 volseal rotate orders --abort
labctl key allow "$new"
expect 'rows' 1000 "$(sql 'select count(*) from kept')"
