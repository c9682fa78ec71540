# SPDX-License-Identifier: Apache-2.0
# alone: it compares the latency of two runs of pgbench.
# A volume moves to another CMK under a running pgbench, which meets no error and no pause; the agent is killed in the middle of the next one.
. /lab/lib.sh

rotation() { [[ $(volseal status orders --json | jq -r ".volumes[0].rotation$1") == "$2" ]]; }
header() { cryptsetup luksDump --dump-json-metadata "$(field orders device)" | jq -c '{tokens: [.tokens[] | [.key_arn[-12:], .generation]], keyslots: .keyslots | keys}'; }
# bench SECONDS NAME runs pgbench; every transaction is in /root/bench/NAME.*
bench() { (cd /root/bench && exec runuser -u postgres -- pgbench -n -c 2 -T "$1" -l --log-prefix="/root/bench/$2" postgres) >"/root/bench/$2.out" 2>&1; }
# gap NAME prints the longest time between two commits, in milliseconds.
gap() { cat /root/bench/"$1".[0-9]* | awk '{printf "%d%06d\n", $5, $6}' | sort -n | awk 'NR > 1 && $1 - last > most {most = $1 - last} {last = $1} END {printf "%d\n", most / 1000}'; }
sound() {
	! grep -Eiq 'error|fatal|aborted' "/root/bench/$1.out" || die "pgbench: $(cat "/root/bench/$1.out")"
	grep -q 'number of failed transactions: 0 ' "/root/bench/$1.out" || die "pgbench: $(cat "/root/bench/$1.out")"
}

make_volume orders /var/lib/postgresql 'database_unit: postgresql.service'
agent_settings
start_agent
volseal init orders --wait=3m
make_database
sql 'create table kept(id int)'
sql 'insert into kept select generate_series(1, 1000)'
mkdir -m 0777 /root/bench && chmod 0711 /root
runuser -u postgres -- pgbench -q -i -s 1 postgres 2>/dev/null
within 40 'it would survive a reboot' is orders would_survive_reboot true
old=$(recall orders.key)
new=$(labctl key create --account 222222222222)

say 'a run without a rotation, and one with'
bench 12 before
sound before
bench 20 during &
bench=$!
sleep 4
mark=$(labctl mark)
began=$(date +%s%N)
volseal rotate orders --key-arn "$new" --wait=1m
took=$((($(date +%s%N) - began) / 1000000))
header
expect 'the header' "{\"tokens\":[[\"${new: -12}\",2]],\"keyslots\":[\"0\"]}" "$(header)"
within 10 'it would survive a reboot' is orders would_survive_reboot true
wait $bench
sound during
printf '   rotate --wait: %s ms; agent: %s s in the step rewrap; KMS: %s calls\n' "$took" \
	"$(metric 'volseal_step_duration_seconds_sum{step="rewrap"}')" "$(labctl calls kms --since "$mark" | wc -l)"
printf '   longest gap between commits: %s ms, and %s ms in the run before\n' "$(gap during)" "$(gap before)"

say 'back, and the agent killed again and again meanwhile'
volseal rotate orders --key-arn "$old"
for _ in 1 2 3; do
	sleep 0.7
	kill -9 "$(systemctl show -p MainPID --value volseal.service)" || true
done
within 60 'the rotation is over' rotation '' null
expect 'the header' "{\"tokens\":[[\"${old: -12}\",3]],\"keyslots\":[\"0\"]}" "$(header)"
expect 'notice' '' "$(field orders notice)"

say 'taken back'
labctl key deny "$new" kms:ReEncryptTo
volseal rotate orders --key-arn "$new"
within 30 'it is held up' rotation .class misconfigured
volseal status orders
is orders would_survive_reboot true
volseal rotate orders --abort --wait=1m
exits 16 volseal rotate orders --abort
labctl key allow "$new"
remember new.key "$new"
volseal header verify orders
expect 'rows' 1000 "$(sql 'select count(*) from kept')"
