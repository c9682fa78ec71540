# SPDX-License-Identifier: Apache-2.0
# Hostile headers: each is refused by the rule that names it, KMS is not asked before policy has passed, and not one byte of the device changes.
. /lab/lib.sh

# made NAME DATABASE KEY makes a volume with rows on it, by the product's own hand.
made() {
	local vol
	vol=$(labctl volume create --size 1 --key "$3")
	remember "$1.vol" "$vol"
	describe "$1" "$vol" "$3" "/srv/$1"
	sed -i "s/^database: .*/database: $2/" "/etc/volseal/volumes.d/$1.yaml"
}

say 'a volume, another of the same database, and one under an attacker'\''s CMK'
key=$(labctl key create)
evil=$(labctl key create --account 222222222222)
remember orders.key "$key"
made orders db-orders "$key"
made wal db-orders "$key"
made evil db-orders "$evil"
agent_settings 'kms: {proof_max_age: 60s}'
start_agent
for v in orders wal evil; do volseal init $v; done
for v in orders wal evil; do within 300 "$v is mounted" is $v phase Mounted; done
echo 'rows of orders' >/srv/orders/rows
for v in orders wal evil; do volseal release $v; done
cd "$(mktemp -d)"
for v in orders wal evil; do
	volseal release $v --wait=2m
	labctl volume read "$(recall $v.vol)" 0 290816 >$v.head # both copies and the first keyslot's area
	labctl header text "$(recall $v.vol)" >$v.json
	rm /etc/volseal/volumes.d/$v.yaml
done
volseal reload
snap=$(labctl snapshot create "$(recall orders.vol)")
remember orders.snap "$snap"
directory=$(dirname "$(labctl volume image "$(recall orders.vol)")")
[[ $(jq -r '.tokens["0"].wrapped_key' orders.json) == "$(jq -r '.tokens["0"].wrapped_key' wal.json)" ]] ||
	die 'two volumes of one database do not share a data key'

# What an attack does with the detached volume $vol.
write() { labctl volume write "$vol" "$1" -; }
edit() { jq -c "$1" orders.json | labctl header set "$vol" -; }
edit_with() { jq -c --slurpfile other "$1.json" "$2" orders.json | labctl header set "$vol" -; }
text() { sed "$1" orders.json | labctl header set "$vol" -; }
# formatted OPTION… is a header made by cryptsetup itself, with the true token in it.
formatted() {
	truncate -s 32M "$vol.img"
	printf secret | cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --offset 32768 --sector-size 4096 "$@" --key-file - "$vol.img"
	jq -c '.tokens["0"]' orders.json | cryptsetup token import --token-id 0 "$vol.img"
	head -c 290816 "$vol.img" | write 0
}
luks1() {
	truncate -s 32M "$vol.img"
	printf secret | cryptsetup luksFormat -q --type luks1 --pbkdf-force-iterations 1000 --key-file - "$vol.img"
	head -c 4M "$vol.img" | write 0
}
labelled() {
	{ cat orders.head; head -c 32M /dev/zero; } >"$vol.img"
	cryptsetup config --label evil "$vol.img"
	head -c 32768 "$vol.img" | write 0
}
zeros() { head -c "$2" /dev/zero | write "$1"; }
nested() {
	{
		printf '{"tokens":'
		head -c $(($1 / 2 - 64)) /dev/zero | tr '\0' '['
		head -c $(($1 / 2 - 64)) /dev/zero | tr '\0' ']'
		printf '}'
	} | labctl header set "$vol" - "${@:2}"
}
# remembered FILTER gives this host a memory of the volume.
remembered() { jq --arg v "$vol" ".volume_id=\$v | .wish=\"mounted\" | $1" /var/lib/volseal/claims/orders.json >"$vol.claim"; }
huge_token() { jq -c '.tokens["0"].mac="A"*65536' orders.json | labctl header set "$vol" - --size 131072; }
other_uuid() { labctl header field "$vol" uuid 00000000-0000-4000-8000-000000000000; }
other_uuid_than_remembered() { other_uuid && remembered .; }
other_header() { write 0 <"$1.head"; }
other_area() { tail -c +32769 wal.head | write 32768; }
other_keyslot() { edit_with wal '.keyslots["0"]=$other[0].keyslots["0"]' && other_area; }

# attack NAME REASON COMMAND… has the command attack a copy of the volume.
# REASON mounted: it must not be refused.
names=() bad=0
declare -A reason database=([other-database]=db-payroll)
attack() {
	names+=("$1")
	reason[$1]=$2
	{
		vol=$(labctl volume create --snapshot "$snap")
		remember "$1.vol" "$vol"
		"${@:3}"
		: >"$1.done"
	} &
}

state_of_images() { # one line a volume: the bytes where a header can be, and when anything was last written
	labctl host sh -c 'for f; do echo "$(head -c 18874368 "$f" | sha256sum) $(stat -c %y "$f")"; done' sh "$@"
}

# judge CALLS presents all attacked volumes at once and looks at each refusal.
judge() {
	local n vol images=() begin=$SECONDS mark got
	wait
	printf '   attacked (%d s)\n' $((SECONDS - begin))
	for n in "${names[@]}"; do
		[[ -e $n.done ]] || die "the attack $n itself failed"
		vol=$(recall "$n.vol")
		images+=("$directory/$vol.raw")
		describe "$n" "$vol" "$key" "/srv/$n"
		sed -i "s/^database: .*/database: ${database[$n]:-db-orders}/" "/etc/volseal/volumes.d/$n.yaml"
		if [[ -e $vol.claim ]]; then jq --arg n "$n" '.name=$n' "$vol.claim" >"/var/lib/volseal/claims/$n.json"; fi
	done
	state_of_images "${images[@]}" >before
	mark=$(labctl mark)
	volseal reload
	within 240 "${#names[@]} volumes are judged" bash -c "volseal status --json | jq -e '[.volumes[] | .phase == \"Quarantined\" or .would_survive_reboot] | all'"
	volseal status --json | jq -r '.volumes[] | .name + " " + if .phase == "Mounted" then "mounted" else .class + " " + .reason end' >judged
	for n in "${names[@]}"; do
		got=$(sed -n "s/^$n //p" judged)
		[[ ${reason[$n]} == mounted ]] || reason[$n]="integrity ${reason[$n]}"
		printf '   %-28s %s\n' "$n" "$got"
		[[ $got == "${reason[$n]}" ]] || { bad=1 && printf 'FAILED: %s: want %s\n' "$n" "${reason[$n]}" >&2; }
		[[ ${reason[$n]} == mounted ]] || ! mapped "$n" || die "$n is mapped"
	done
	labctl calls kms --since "$mark" | jq -c 'select(.via == null)' >calls
	printf '   KMS was asked %d times\n' "$(wc -l <calls)"
	[[ $(wc -l <calls) == "$1" ]] || { bad=1 && jq -c '{operation,context,result}' calls && printf 'FAILED: want %d\n' "$1" >&2; }
	for n in "${names[@]}"; do
		if [[ ${reason[$n]} == mounted ]]; then
			expect "rows on $n" 'rows of orders' "$(cat "/srv/$n/rows")"
			volseal lock "$n" --wait=1m
		fi
		rm "/etc/volseal/volumes.d/$n.yaml"
	done
	volseal reload
	state_of_images "${images[@]}" >after
	local i=0 line
	while read -r line; do
		n=${names[i++]}
		[[ ${reason[$n]} == mounted || $line == "$(sed -n "${i}p" before)" ]] || die "the device of $n changed"
	done <after
	for n in "${names[@]}"; do labctl volume detach "$(recall "$n.vol")" >/dev/null & done # the next attacks begin meanwhile
	printf '   not a byte of the refused devices changed (%d s)\n' $((SECONDS - begin))
	names=()
}

say 'refused by what the header says: no KMS call'
attack null-cipher segment-cipher edit '.segments["0"].encryption="cipher_null-ecb"'
attack null-cipher-keyslot keyslot-cipher edit '.keyslots["0"].area.encryption="cipher_null-ecb"'
attack weak-cipher segment-cipher formatted --cipher aes-cbc-essiv:sha256 --key-size 256
attack linear-segment segment-type edit '.segments["1"]={"type":"linear","offset":"16777216","size":"4096"}'
attack shifted-offset segment-bounds edit '.segments["0"].offset="16781312"'
attack sector-size segment-sector-size formatted --sector-size 512 --key-size 512
attack integrity segment-integrity edit '.segments["0"].integrity={"type":"hmac(sha256)","journal_encryption":"none","journal_integrity":"none"}'
attack faked-reencryption requirements edit '.config.requirements={"mandatory":["online-reencrypt-v2"]}
	| .keyslots["1"]={"type":"reencrypt","mode":"decrypt","key_size":1,"direction":"forward","area":{"type":"none","offset":"290816","size":"4096"}}
	| .segments["1"]=(.segments["0"] | .flags=["backup-previous"])'
attack unknown-requirement requirements edit '.config.requirements={"mandatory":["x"]}'
attack foreign-keyslot keyslot-unbound edit '.keyslots["1"]=(.keyslots["0"] | .area.offset="290816") | .digests["0"].keyslots=["0","1"]'
attack keyring-token token-foreign edit '.tokens["1"]={"type":"luks2-keyring","keyslots":["0"],"key_description":"evil"}'
attack iterations keyslot-kdf edit '.keyslots["0"].kdf.iterations=4294967295'
attack argon2 metadata-form edit '.keyslots["0"].kdf={"type":"argon2id","time":4,"memory":4194304,"cpus":4,"salt":.keyslots["0"].kdf.salt}'
attack stored-flags config-flags edit '.config.flags=["allow-discards"]'
attack label header-label labelled
judge 0

say 'refused by its form, or because it is another'\''s: no KMS call'
attack nested-4-mib header-area-size nested 4190208 --size 4194304
attack nested metadata-json nested 12288
attack duplicate-keys metadata-json text 's/"encryption":"aes-xts-plain64"/"encryption":"aes-xts-plain64","encryption":"aes-xts-plain64"/'
attack nan metadata-json text 's/"iterations":1000/"iterations":NaN/'
attack torn-primary header-checksum zeros 4096 4096
attack torn-both header-checksum zeros 4096 28672
attack no-magic header-foreign zeros 0 4096
attack luks1 header-foreign luks1
attack token-64-kib header-area-size huge_token
attack token-5-kib token-size edit '.tokens["0"].mac=("A"*5000)'
attack future-token token-version edit '.tokens["0"].version=2'
attack attackers-cmk token-key other_header evil
attack other-database token-context true
attack older-generation token-generation remembered '.generation=2'
attack uuid-known-here uuid other_uuid_than_remembered
judge 0

say 'refused by the MAC or the keyslot, after one Decrypt for them all; and what must work'
attack uuid mac other_uuid
attack token-of-another-volume mac edit_with wal '.tokens["0"]=$other[0].tokens["0"]'
attack keyslot-of-another-volume mac other_keyslot
attack keyslot-bytes-of-another keyslot-passphrase other_area
attack digest-of-another mac edit_with wal '.digests["0"]=$other[0].digests["0"]'
attack salt-of-another mac edit_with wal '.tokens["0"].salt=$other[0].tokens["0"].salt'
attack raised-generation mac edit '.tokens["0"].generation=7'
attack wrapped-by-attacker IncorrectKeyException edit_with evil '.tokens["0"].wrapped_key=$other[0].tokens["0"].wrapped_key'
attack wrapped-key-cut-off InvalidCiphertextException edit '.tokens["0"].wrapped_key |= .[:40]'
attack thirty-two-tokens mounted edit '.tokens={"31":.tokens["0"]} + ([range(31) | {(tostring): {"type":"junk","keyslots":[],"x":("y"*100)}}] | add)'
attack written-again mounted edit .
judge 3
wait
[[ $bad == 0 ]] || die 'refused otherwise than by its own rule, or KMS was asked otherwise'

say 'this host is gone; the next one knows nothing of the volume'
systemctl disable --quiet --now volseal.socket volseal.service
rm -rf /var/lib/volseal /etc/volseal/volumes.d/*.yaml
sync
labctl host reboot
