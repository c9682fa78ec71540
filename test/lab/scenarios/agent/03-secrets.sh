# SPDX-License-Identifier: Apache-2.0
# No key bytes where they could stay: journal, state, command lines, environment, a core.
. /lab/lib.sh

say 'the keys, worked out by the KMS emulator and from the header'
device=$(field orders device)
token=$(cryptsetup token export --token-id 0 "$device")
datakey=$(labctl key unwrap "$(recall orders.key)" "$(jq -r .wrapped_key <<<"$token")" "$(jq -c .encryption_context <<<"$token")")
[[ ${#datakey} == 64 ]] || die 'no data key'
salt=$(jq -r .salt <<<"$token" | base64 -d | od -An -v -tx1 | tr -d ' \n')
openssl kdf -keylen 32 -kdfopt digest:SHA256 -kdfopt "hexkey:$datakey" -kdfopt "hexsalt:$salt" \
	-kdfopt 'info:volseal/v1 keyslot' -binary -out /run/passphrase HKDF
cryptsetup open --test-passphrase --key-file /run/passphrase "$device" || die 'that is not the passphrase'
cryptsetup luksDump --batch-mode --dump-volume-key --volume-key-file /run/volumekey --key-file /run/passphrase "$device" >/dev/null
hex() { od -An -v -tx1 "$1" | tr -d ' \n'; }
printf '%s\n' "$datakey" "$(hex /run/passphrase)" "$(hex /run/volumekey)" >/run/needles
[[ $(wc -l </run/needles) == 3 ]] || die 'not three keys'

# seek FILE… fails if a key is in one of the files: as bytes, in hexadecimal or in base64.
seek() {
	local key raw
	while read -r key; do
		raw=$(sed 's/../\\x&/g' <<<"$key")
		! LC_ALL=C grep -alP "$raw" "$@" || die 'a key is there, as bytes'
		! grep -alFi "$key" "$@" || die 'a key is there, in hexadecimal'
		! grep -alF "$(printf '%b' "$raw" | base64 -w0 | cut -c1-40)" "$@" || die 'a key is there, in base64'
	done </run/needles
	printf '   no key in: %s\n' "$*"
}
while read -r key; do printf '%b' "$(sed 's/../\\x&/g' <<<"$key")"; done </run/needles >/run/planted
(seek /run/planted) >/dev/null 2>&1 && die 'the search finds nothing: the test proves nothing'

say 'where they must not be'
pid=$(systemctl show -p MainPID --value volseal.service)
ulimit -c unlimited
mkdir -p /run/haystack
journalctl -o export --no-pager >/run/haystack/journal
tar -C /var/lib -cf /run/haystack/state volseal
tar -C /run -cf /run/haystack/run volseal 2>/dev/null || true
cat "/proc/$pid/cmdline" "/proc/$pid/environ" >/run/haystack/process
for n in 1 2 3; do
	volseal lock orders --wait=2m
	volseal unlock orders &
	for _ in $(seq 40); do cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ >>/run/haystack/process 2>/dev/null || true; done
	wait
	volseal unlock orders --wait=2m
done
seek /run/haystack/*

say 'a crash of the agent leaves no core'
mkdir -p /root/cores
sysctl -qw kernel.core_pattern=/root/cores/%e.%p
(ulimit -c unlimited; sh -c 'kill -SEGV $$') || true
[[ -n $(ls -A /root/cores) ]] || die 'this machine does not write cores at all: the test proves nothing'
rm -f /root/cores/*
kill -SEGV "$pid"
within 30 'the agent is up again' bash -c "p=\$(systemctl show -p MainPID --value volseal.service); [ \"\$p\" != 0 ] && [ \"\$p\" != $pid ]"
[[ -z $(ls -A /root/cores) ]] || die 'the agent left a core'
rm -f /run/passphrase /run/volumekey /run/needles /run/planted
rm -rf /run/haystack
