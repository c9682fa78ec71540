# SPDX-License-Identifier: Apache-2.0
# Each mistake in the configuration, and each CMK that cannot work, is a clear error with a hint.
. /lab/lib.sh

dir=/run/try
good=$(labctl key create)

# refused NAME EXPECTED-TEXT < volume file
refused() {
	rm -rf $dir && mkdir -p $dir/volumes.d
	cat >$dir/volumes.d/orders.yaml
	[[ ! -f $dir.extra ]] || mv $dir.extra $dir/volumes.d/other.yaml
	local out
	out=$(volseal config check $dir 2>&1) && die "$1 was accepted"
	grep -qiF -- "$2" <<<"$out" || die "$1: no '$2' in: $out"
	grep -qF 'hint:' <<<"$out" || die "$1: no hint in: $out"
	printf '   %s: %s\n' "$1" "$(grep -iF -m 1 -- "$2" <<<"$out")"
}

volume_file() {
	printf 'name: orders\ndatabase: db-1\nvolume_id: vol-0123456789abcdef0\nkey_arn: %s\nmountpoint: %s\n' "${1:-$good}" "${2:-/srv/orders}"
}

say 'mistakes that need no AWS'
{ volume_file; echo 'mount_point: /srv'; } | refused 'an unknown key' 'mount_point'
volume_file arn:aws:kms:us-east-1:111111111111:alias/orders | refused 'an alias' 'alias'
volume_file | sed 's/^name: orders/name: other/; s/cdef0$/cdef1/' >$dir.extra
volume_file | refused 'two volumes at one mount point' 'mountpoint'

say 'CMKs that cannot work'
n=0
# unusable CLASS CODE KEY
unusable() {
	n=$((n + 1))
	local vol
	vol=$(labctl volume create --size 1 --key "$good")
	describe "u$n" "$vol" "$2" "/srv/u$n"
	volseal reload
	within 60 "u$n is attached" is "u$n" reason not-initialised
	exits 14 volseal init "u$n" --wait=2m
	[[ -n $(field "u$n" hint) ]] || die "no hint for $1"
	printf '   %s: %s\n' "$1" "$(field "u$n" error)"
}
rm -f /etc/volseal/volumes.d/*.yaml
unusable 'asymmetric' "$(labctl key create --spec RSA_2048)"
unusable 'imported material' "$(labctl key create --origin EXTERNAL)"
unusable 'wrong region' "$(labctl key create --region eu-west-1)"
rm -rf $dir /etc/volseal/volumes.d/*.yaml
volseal reload
