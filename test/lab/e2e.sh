#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# e2e.sh [REGEXP] runs the lab's scenarios, and reports in the manner of go test.
#
# A directory under test/lab/scenarios is one set: its files run in lexical
# order in one virtual machine, so a set may reboot it between two files. The
# regexp picks whole sets, because a file may stand on what the one before left.
#
# Three sets run at a time, each in a machine of its own, so that what one waits
# for is another's time. What a set prints is shown when it has ended, unless it
# is the only one. A set that measures says so in a line "# alone: why", one that
# wants another kernel than the cloud's in a line "# kernel: generic".
#
# Scenarios hold the product to times that a host of its own would keep. So a set
# that failed beside another runs once more, by itself, and that decides; both
# runs are told. One that failed by itself has failed.
set -euo pipefail

cd "$(dirname "$0")/../.."
wanted=${1:-.}

sets=() alone=() again=() lanes=1 cpus=2
for dir in $(printf '%s\n' test/lab/scenarios/*/ | sort -r); do # revocation waits longest, and so begins
	set=$(basename "$dir")
	[[ $set =~ $wanted ]] || continue
	if grep -q '^# alone: ' "$dir"*.sh; then alone+=("$set"); else sets+=("$set"); fi
done
if ((${#sets[@]} + ${#alone[@]} == 0)); then
	echo "FAIL	github.com/volseal/volseal/test/lab/scenarios	no set matches '$wanted'"
	exit 1
fi

logs=$(mktemp -d)
stop() {
	local running
	running=$(jobs -p)
	# shellcheck disable=SC2086 # several numbers
	if [[ -n $running ]]; then kill $running || true; wait; fi
	rm -rf "$logs"
}
trap stop EXIT
trap 'exit 130' INT TERM

begin=$SECONDS failed=0 summary='' single=$((${#sets[@]} + ${#alone[@]} == 1))
declare -A names=() started=()

launch() {
	local kernel
	kernel=$(sed -n '/^# kernel: /{s///p;q}' "test/lab/scenarios/$1"/*.sh)
	echo "=== RUN   e2e/$1"
	: >"$logs/$1" # before anybody looks
	bin/lab run --kernel "${kernel:-cloud}" --cpus "$cpus" "test/lab/scenarios/$1"/*.sh </dev/null >"$logs/$1" 2>&1 &
	names[$!]=$1 started[$!]=$SECONDS
}

# reap waits for the end of any one set.
reap() {
	local pid status=0 name line
	if ((single)); then tail -n +1 -f --pid="${!names[*]}" "$logs/${names[*]}"; fi
	wait -n -p pid "${!names[@]}" || status=$?
	name=${names[$pid]}
	unset "names[$pid]"
	((single)) || cat "$logs/$name"
	line="e2e/$name ($((SECONDS - started[$pid])).00s)"
	if ((status == 0)); then
		line="--- PASS: $line"
	else
		local verdict=FAIL
		if ((lanes > 1)); then verdict=AGAIN again+=("$name"); else failed=$((failed + 1)); fi
		line="--- $verdict: $line, exit status $status, $lanes at a time"$'\n'$(grep -h '^FAILED: \|^--- .*FAILED' "$logs/$name" || true)
	fi
	echo "$line"
	summary+=$line$'\n'
}

# side_by_side LANES SET… runs so many at a time.
side_by_side() {
	local set
	lanes=$1 cpus=$(($1 > 1 ? 1 : 2))
	shift
	for set in "$@"; do
		((${#names[@]} < lanes)) || reap
		launch "$set"
	done
	while ((${#names[@]} > 0)); do reap; done
}

side_by_side $((single ? 1 : 3)) "${sets[@]}"
side_by_side 1 "${alone[@]}" "${again[@]}"

printf '\n%s' "$summary"
if ((failed > 0)); then
	echo "FAIL	github.com/volseal/volseal/test/lab/scenarios	$((SECONDS - begin)).000s"
	exit 1
fi
echo "ok  	github.com/volseal/volseal/test/lab/scenarios	$((SECONDS - begin)).000s"
