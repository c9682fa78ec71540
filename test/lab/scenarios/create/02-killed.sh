# SPDX-License-Identifier: Apache-2.0
# The agent is killed while EC2 is being asked, and again while the volume comes into use: one volume is made, and mounted.
. /lab/lib.sh

claim() { jq -e "$1" /var/lib/volseal/claims/twice.json; }
agent_pid() { systemctl show -p MainPID --value volseal.service; }
kill_agent() {
	local pid
	pid=$(agent_pid)
	kill -KILL "$pid"
	printf '   killed %s, with the claim at: %s\n' "$pid" "$(jq -c '[.volume_id, .stage, .making.asked]' /var/lib/volseal/claims/twice.json)"
}

describe_unmade twice db-4 "$(recall good)" /srv/twice
volseal reload
labctl fault ec2 latency=1s
volseal create twice --size 1

say 'killed while EC2 is being asked'
within 30 'the claim says that EC2 is asked' claim '.making.asked != null'
kill_agent
[[ $(claim .volume_id) == '""' ]] || die 'too late: EC2 had answered'

say 'killed when EC2 has named the volume'
within 60 'the claim names it' claim '.volume_id != ""'
kill_agent
labctl fault ec2 off
within 180 'it is mounted' is twice phase Mounted
expect 'EC2 has made' "$(field twice volume_id)" "$(made twice)"
expect 'CreateVolume' 1 "$(labctl volume list | jq '[.[] | select(.tags["volseal:database"] == "db-4")] | length')"
