# SPDX-License-Identifier: Apache-2.0
# KMS has not worked since before the boot, and fails in one way after the other: everything stays shut. Each way ends in Mounted by itself.
. /lab/lib.sh

volumes=(a b c)

# shut CLASS CODE insists that the volumes are refused with that class and that nothing of them is open.
shut() {
	local v
	for v in "${volumes[@]}"; do
		within 90 "$v is refused" is "$v" class "$1"
		closed "$v" "/srv/$v"
	done
	exits "$2" volseal unlock a --wait=4s
	printf "   a: %s\n" "$(field a error)"
	for v in "${volumes[@]}"; do closed "$v" "/srv/$v"; done
}

# mended waits for what must happen with nobody's help.
mended() {
	local v
	labctl fault kms off
	for v in "${volumes[@]}"; do within 40 "$v is mounted by itself" is "$v" phase Mounted; done
	for v in "${volumes[@]}"; do expect "row of $v" "row of $v" "$(cat "/srv/$v/row")"; done
}

# again FAULT CLASS CODE closes what is open and lets it meet the fault.
again() {
	local v
	for v in "${volumes[@]}"; do volseal lock "$v" --wait=1m; done
	labctl fault kms "$1"
	for v in "${volumes[@]}"; do volseal unlock "$v" >/dev/null; done
	shut "$2" "$3"
	mended
}

say 'no answer, since before the boot'
shut unreachable 11
say 'every connection is reset'
labctl fault kms reset
shut unreachable 11
say 'every answer is later than the time limit'
labctl fault kms latency=20s
shut unreachable 11
say 'every request is throttled'
labctl fault kms throttle
shut throttled 12
mended

say 'each of the others, mended'
again blackhole unreachable 11
again reset unreachable 11
again latency=20s unreachable 11
