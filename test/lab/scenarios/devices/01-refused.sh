# SPDX-License-Identifier: Apache-2.0
# What is not provably ours or provably blank is refused, and not one byte of it changes.
. /lab/lib.sh

arn=$(labctl key create)
agent_settings
start_agent

# prepare NAME COMMAND… makes a volume, runs the command on its device, and
# gives it back; the volume is then configured and its bytes are remembered.
prepare() {
	local name=$1 vol dev
	shift
	vol=$(labctl volume create --size 1 --key "$arn")
	labctl volume attach "$vol"
	dev=$(device_of "$vol")
	"$@" "$dev" >/dev/null 2>&1
	sync
	labctl volume detach "$vol"
	remember "$name.vol" "$vol"
	describe "$name" "$vol" "$arn" "/srv/$name"
}

device_of() {
	local serial=${1/-/} ctrl
	for _ in $(seq 100); do
		for ctrl in /sys/class/nvme/nvme*; do
			[[ $(tr -d ' ' <"$ctrl/serial") == "$serial" ]] || continue
			[[ -b /dev/${ctrl##*/}n1 ]] && echo "/dev/${ctrl##*/}n1" && return
		done
		sleep 0.1
	done
	return 1
}

sum_of() { labctl host sha256sum "$(labctl volume image "$(recall "$1.vol")")" | cut -d' ' -f1; }

foreign_luks() { printf secret | cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file - "$1"; }
far_away() { echo 'rows of somebody' | dd of="$1" bs=1M seek=700 conv=notrunc; }
torn() { foreign_luks "$1"; dd if=/dev/urandom of="$1" bs=4096 count=1 conv=notrunc; }

say 'volumes that are not ours'
prepare plain mkfs.ext4 -q
prepare foreign foreign_luks
prepare damaged torn
prepare faraway far_away
prepare blank true
for v in plain foreign damaged faraway blank; do sum_of $v >"$memory/$v.sum"; done
volseal reload

for v in plain foreign damaged; do
	within 60 "$v is quarantined" is $v phase Quarantined
	exits 13 volseal unlock $v --wait=20s
	exits 13 volseal init $v --wait=20s
	closed $v /srv/$v
done

say 'blank, but for something far behind the header: init looks everywhere'
within 60 'faraway waits for init' is faraway reason not-initialised
exits 13 volseal init faraway --wait=5m
expect 'reason' not-blank "$(field faraway reason)"

say 'blank, and nobody said init'
within 60 'blank waits for init' is blank reason not-initialised
exits 14 volseal unlock blank --wait=20s
closed blank /srv/blank

say 'not a byte has changed'
for v in plain foreign damaged faraway blank; do
	volseal release $v --wait=2m
	expect "$v" "$(cat "$memory/$v.sum")" "$(sum_of $v)"
done
