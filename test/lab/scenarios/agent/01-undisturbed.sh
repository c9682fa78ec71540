# SPDX-License-Identifier: Apache-2.0
# The agent is killed, restarted, upgraded and misconfigured under a running pgbench, which must not notice.
. /lab/lib.sh

make_volume orders /var/lib/postgresql 'database_unit: postgresql.service'
agent_settings
start_agent
volseal init orders --wait=3m
make_database
runuser -u postgres -- pgbench -q -i -s 1 postgres 2>/dev/null
transactions 600 >/root/pgbench.log 2>&1 &
bench=$!

mounted_again() { is orders phase Mounted; }
agent_pid() { systemctl show -p MainPID --value volseal.service; }
other_pid() { local p; p=$(agent_pid); [[ $p != 0 && $p != "$1" ]] && mounted_again; }

say 'killed'
before=$(agent_pid)
kill -KILL "$before"
within 30 'another agent has taken over' other_pid "$before"

say 'restarted'
before=$(agent_pid)
systemctl restart volseal.service
within 30 'another agent has taken over' other_pid "$before"

say 'upgraded'
before=$(agent_pid)
dpkg -i /lab/volseal.deb >/root/dpkg.log 2>&1 || die "$(cat /root/dpkg.log)"
within 30 'another agent has taken over' other_pid "$before"

say 'reloaded with a broken configuration, then with a sound one'
echo 'no_such_key: 1' >/etc/volseal/volumes.d/broken.yaml
exits 3 volseal reload
expect 'the old configuration stays' Mounted "$(field orders phase)"
rm /etc/volseal/volumes.d/broken.yaml
volseal reload
mounted_again || die 'orders is not mounted after a reload'

say 'a re-attach of what is mounted and sound does nothing'
volseal reattach orders --wait=30s

made_progress() { ((5 <= $(grep -c '^progress: .* 0 failed' /root/pgbench.log))); }
within 60 'pgbench has gone on all the while' made_progress
kill -0 $bench || die "pgbench ended early: $(cat /root/pgbench.log)"
pkill -TERM -x pgbench
wait $bench || true
! grep -Eiq 'error|fatal|aborted' /root/pgbench.log || die "pgbench: $(cat /root/pgbench.log)"
sql 'select 1' >/dev/null
restarts=$(systemctl show -p NRestarts --value postgresql@15-main.service)
expect 'restarts of PostgreSQL' 0 "$restarts"
