# SPDX-License-Identifier: Apache-2.0
# With 2 s on each answer of KMS and EC2, eight volumes wait for them side by side and not in turn.
# The ratio is printed. It is bounded loosely: under emulation eight openings on two cores cost real time too.
# alone: it measures.
. /lab/lib.sh

names=(v1 v2 v3 v4 v5 v6 v7 v8)
for v in "${names[@]}"; do make_volume $v /srv/$v; done
agent_settings
start_agent
init_all "${names[@]}"

released() { for v in "$@"; do volseal release $v >/dev/null; done; for v in "$@"; do volseal release $v --wait=2m; done; }

# milliseconds VOLUME… prints how long it takes from Detached to Mounted.
milliseconds() {
	local begin v limit=$((SECONDS + 180))
	begin=$(date +%s%3N)
	for v in "$@"; do volseal reattach "$v" >/dev/null; done
	for v in "$@"; do
		until is "$v" phase Mounted; do
			((SECONDS < limit)) || die "$v is not mounted"
			pause
		done
	done
	echo $(($(date +%s%3N) - begin))
}

released "${names[@]}"
labctl fault kms latency=2s
labctl fault ec2 latency=2s
volseal cache flush
one=$(milliseconds v1)
released v1
volseal cache flush
eight=$(milliseconds "${names[@]}")
labctl fault kms off
labctl fault ec2 off
printf '   one volume: %d ms, eight volumes: %d ms, ratio %d.%02d\n' "$one" "$eight" $((eight / one)) $((eight * 100 / one % 100))
((eight <= one * 3)) || die 'eight volumes wait for one another: in turn they would take eight times as long'
