# SPDX-License-Identifier: Apache-2.0
# What a reencryption at the default pace costs the database: pgbench's latency beside it and without it. Emulation slows cipher and disk alike, so the ratio counts and the milliseconds do not.
. /lab/lib.sh

agent_settings
make_volume orders /var/lib/postgresql 'database_unit: postgresql.service'
start_agent
init_all orders
make_database
runuser -u postgres -- pgbench -q -i -s 2 postgres 2>/dev/null
within 60 'it would survive a reboot' is orders would_survive_reboot true

under_way() { (($(field orders rotation.done_bytes) > 0)); }
# latency NAME PERCENTILE prints it in milliseconds, of every transaction of a run.
latency() { cat /var/tmp/bench/"$1".[0-9]* | awk '{print $3}' | sort -n | awk -v p="$2" '{v[NR] = $1} END {printf "%.1f", v[int((NR - 1) * p / 100) + 1] / 1000}'; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN {printf "%.2f", b / a}'; }

bench 30 without
faultless without
volseal rotate orders --reencrypt
within 120 'it is at work' under_way
bench 30 beside
faultless beside
rotation orders .stage reencrypting || die 'it was over before pgbench was'
volseal status orders | grep rotation:
for p in 50 95 99; do
	a=$(latency without $p) b=$(latency beside $p)
	printf 'BENCH reencrypt latency-p%s without=%sms beside=%sms ratio=%s\n' $p "$a" "$b" "$(ratio "$a" "$b")"
done
printf 'BENCH reencrypt longest-gap without=%sms beside=%sms\n' "$(gap without)" "$(gap beside)"
volseal rotate orders --pause
