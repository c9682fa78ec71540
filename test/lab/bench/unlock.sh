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
cd "$(mktemp -d)"

# measure NAME TIMES prints the milliseconds of one operation.
measure() {
	dd if=/dev/zero of="$VOLSEAL_BENCH_DEVICE" bs=1M count=16 conv=fsync status=none
	/lab/luks.test -test.run '^$' -test.bench "^Benchmark$1\$" -test.benchtime "$2" -test.timeout 5m >out || die "$(cat out)"
	awk -v n="Benchmark$1" '$1 ~ "^"n {printf "%.0f\n", $3 / 1e6; found = 1} END {exit !found}' out || die "no figure: $(cat out)"
}
ratio() { printf '%d.%02d' $(($1 / $2)) $(($1 * 100 / $2 % 100)); }

measure OpenBare 2x >/dev/null # caches and modules
bare=$(measure OpenBare 10x)
unlock=$(measure Unlock 10x)
defaults=$(measure OpenDefaults 2x)
printf '\n%-52s %8s %s\n' '' 'ms' 'of bare'
printf '%-52s %8d %s\n' 'cryptsetup open, same header' "$bare" 1.00
printf '%-52s %8d %s\n' 'unlock: freeze, check, open, table check, rename' "$unlock" "$(ratio "$unlock" "$bare")"
printf '%-52s %8d %s\n' 'cryptsetup open, its defaults (argon2id)' "$defaults" "$(ratio "$defaults" "$bare")"
((unlock * 2 <= bare * 3)) || die 'an unlock takes more than 1.5 times what cryptsetup alone does'
