# SPDX-License-Identifier: Apache-2.0
# What an unlock costs beyond cryptsetup alone, on a real kernel. Emulation slows all of it alike, so the ratios count and the seconds do not.
. /lab/lib.sh

device_of() {
	local ctrl
	for _ in $(seq 100); do
		for ctrl in /sys/class/nvme/nvme*; do
			[[ $(tr -d ' ' <"$ctrl/serial") == "${1/-/}" && -b /dev/${ctrl##*/}n1 ]] && echo "/dev/${ctrl##*/}n1" && return
		done
		sleep 0.1
	done
	return 1
}
device() {
	local vol
	vol=$(labctl volume create --size 1)
	labctl volume attach "$vol" >/dev/null
	device_of "$vol"
}
VOLSEAL_BENCH_DEVICE=$(device)
VOLSEAL_BENCH_DEFAULTS=$(device)
export VOLSEAL_BENCH_DEVICE VOLSEAL_BENCH_DEFAULTS
export TMPDIR=/run # as in production: the frozen copy is in memory
cd "$(mktemp -d)"

# measure NAME TIMES prints the medians of a benchmark, as NAME=MILLISECONDS.
measure() {
	dd if=/dev/zero of="$VOLSEAL_BENCH_DEVICE" bs=1M count=16 conv=fsync status=none
	/lab/luks.test -test.run '^$' -test.bench "^Benchmark$1\$" -test.benchtime "$2" -test.timeout 5m >out || die "$(cat out)"
	awk -v n="Benchmark$1" '$1 ~ "^"n {for (i = 5; i <= NF; i += 2) {sub("-ms", "", $(i + 1)); printf "%s=%d\n", $(i + 1), $i}}' out
}
ratio() { printf '%d.%02d' $(($1 / $2)) $(($1 * 100 / $2 % 100)); }

eval "$(measure Unlock 12x)"
eval "$(measure OpenDefaults 3x)"
printf '\n%-52s %8s %s\n' '' 'ms' 'of bare'
printf '%-52s %8d %s\n' 'cryptsetup open, same header' "$bare" 1.00
printf '%-52s %8d %s\n' 'unlock: freeze, check, open, table check, rename' "$unlock" "$(ratio "$unlock" "$bare")"
printf '    freeze and check %d, open and table %d, rename %d\n' "$freeze" "$open" "$publish"
printf '%-52s %8d %s\n' 'cryptsetup open, its defaults (argon2id)' "$defaults" "$(ratio "$defaults" "$bare")"
if ((unlock * 2 > bare * 3)); then printf 'the target of 1.50 is missed\n'; fi
