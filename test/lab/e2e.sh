#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# e2e.sh [REGEXP] runs the lab's scenarios, and reports in the manner of go test.
#
# A directory under test/lab/scenarios is one set: its files run in lexical
# order in one virtual machine, so a set may reboot it between two files. The
# regexp picks whole sets, because a file may stand on what the one before left.
set -euo pipefail

cd "$(dirname "$0")/../.."
wanted=${1:-.}

passed=0 failed=0 why='' begin=$SECONDS
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for dir in test/lab/scenarios/*/; do
	set=$(basename "$dir")
	shopt -s nullglob
	files=("$dir"*.sh)
	shopt -u nullglob
	[[ ${#files[@]} -gt 0 && $set =~ $wanted ]] || continue

	echo "=== RUN   e2e/$set"
	start=$SECONDS status=0
	bin/lab run "${files[@]}" </dev/null 2>&1 | tee "$log" || status=$?
	took=$((SECONDS - start))
	if [[ $status -eq 0 ]]; then
		passed=$((passed + 1))
		echo "--- PASS: e2e/$set (${took}.00s)"
	else
		failed=$((failed + 1))
		why+=$(grep -h '^FAILED: \|^--- .*FAILED' "$log" || true)$'\n'
		echo "--- FAIL: e2e/$set (${took}.00s), exit status $status"
	fi
done

echo "$passed passed, $failed failed"
if [[ $failed -gt 0 ]]; then
	printf '%s' "$why"
	echo "FAIL	github.com/volseal/volseal/test/lab/scenarios	$((SECONDS - begin)).000s"
	exit 1
fi
if [[ $passed -eq 0 ]]; then
	echo "FAIL	github.com/volseal/volseal/test/lab/scenarios	no set matches '$wanted'"
	exit 1
fi
echo "ok  	github.com/volseal/volseal/test/lab/scenarios	$((SECONDS - begin)).000s"
