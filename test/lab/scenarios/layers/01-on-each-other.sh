# SPDX-License-Identifier: Apache-2.0
# kernel: generic
# The platform's default layer, eCryptfs with AES-256, lies on a volume of ours, and PostgreSQL on it.
. /lab/lib.sh

volume=/var/lib/postgresql data=/var/lib/postgresql/15
marker=marker-of-a-row-7f3a9c

# What the platform has on its hosts: a key of its own, and a unit between the
# volume and the database. volseal knows nothing of either.
head -c 24 /dev/urandom | base64 -w0 >/root/platform.pass
cat >/usr/local/sbin/platform-layer <<'SH'
#!/bin/bash
# platform-layer LOWER PATH mounts eCryptfs, names encrypted too. The session
# keyring of a service holds nothing by itself.
set -euo pipefail
keyctl link @u @s
mapfile -t sig < <(ecryptfs-add-passphrase --fnek - </root/platform.pass | sed -n 's/.*\[\(.*\)\].*/\1/p')
mount -i -t ecryptfs -o "ecryptfs_sig=${sig[0]},ecryptfs_fnek_sig=${sig[1]},ecryptfs_cipher=aes,ecryptfs_key_bytes=32" "$1" "$2"
SH
chmod 755 /usr/local/sbin/platform-layer
cat >/etc/systemd/system/platform-layer.service <<UNIT
[Unit]
RequiresMountsFor=$volume
Before=postgresql@15-main.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/platform-layer $data $data
ExecStop=umount $data

[Install]
RequiredBy=postgresql@15-main.service
UNIT

# layers prints "ebs luks2 …", from the disk upwards.
layers() { status_of orders | jq -r '.layers | map(.layer) | join(" ")'; }
layers_are() { [[ $(layers) == "$1" ]]; }
layer() { status_of orders | jq -r ".layers[] | select(.layer == \"$1\") | .$2"; }

# lower runs a command that sees the volume without what lies on it.
lower() { unshare --mount sh -c 'umount "$0" && "$@"' $data "$@"; }

# magic FILE BLOCK says whether that block begins as eCryptfs begins each file:
# two words that differ by its magic number.
magic() {
	local a b
	read -r a b < <(od -An -tx4 --endian=big -j$(($2 * 4096 + 8)) -N8 "$1")
	(((0x$a ^ 0x$b) == 0x3c81b7f5)) && echo eCryptfs || echo none
}

# on_disk TEXT asks the host, which has the disk as EBS has it.
on_disk() { labctl host sh -c 'grep -qaF "$0" "$1" && echo there || echo absent' "$1" "$(labctl volume image "$(recall orders.vol)")"; }

say 'a volume'
make_volume orders $volume 'database_unit: postgresql.service'
agent_settings
start_agent
volseal init orders --wait=3m
expect 'layers' 'ebs luks2 filesystem' "$(layers)"

say 'an eCryptfs that systemd knows nothing of holds a lock up, and is named'
mkdir $volume/lower /srv/by-hand
platform-layer $volume/lower /srv/by-hand
echo kept >/srv/by-hand/file
within 30 'status has seen it' layers_are 'ebs luks2 filesystem ecryptfs'
expect 'it is' "/srv/by-hand over $volume/lower" "$(layer ecryptfs path) over $(layer ecryptfs lower)"
exits 16 volseal lock orders --wait=5s
expect 'reason' busy "$(field orders reason)"
expect 'error' 'The volume cannot be unmounted while eCryptfs is mounted at /srv/by-hand.' "$(field orders error)"
expect 'phase' Mounted "$(field orders phase)"
expect 'its file' kept "$(cat /srv/by-hand/file)"
umount /srv/by-hand
within 30 'the lock comes true by itself' is orders phase Sealed
closed orders $volume
volseal unlock orders --wait=2m

say 'over the mount point itself: still our volume, and a lock takes both'
platform-layer $volume $volume
within 30 'status has seen it' layers_are 'ebs luks2 filesystem ecryptfs'
expect 'phase' Mounted "$(field orders phase)"
volseal lock orders --wait=2m
closed orders $volume
volseal unlock orders --wait=2m

say 'as the platform has it'
mkdir $data
chown postgres:postgres $data
systemctl enable --quiet platform-layer.service
systemctl start platform-layer.service
within 30 'status has seen it' layers_are 'ebs luks2 filesystem ecryptfs'

say 'each layer as it is'
expect 'EBS' "true $(recall orders.key)" "$(layer ebs encrypted) $(layer ebs key_arn)"
expect 'LUKS2' "aes-xts-plain64 $(field orders luks_uuid)" "$(layer luks2 cipher) $(layer luks2 uuid)"
expect 'file system' ext4 "$(layer filesystem type)"
expect 'eCryptfs' "$data over $data" "$(layer ecryptfs path) over $(layer ecryptfs lower)"
findmnt -no OPTIONS $data | grep -q 'ecryptfs_cipher=aes,ecryptfs_key_bytes=32' || die 'the platform layer is not AES-256'
volseal status orders

say 'PostgreSQL on both'
make_database
sql "create table kept as select i as id, '$marker ' || i as what from generate_series(1, 1000) i"
sql checkpoint
sync

say 'each layer hides what is above it'
file=$(sql "select pg_relation_filepath('kept')")
expect 'rows, through both layers' there "$(grep -qaF $marker "$data/main/$file" && echo there)"
inode=$(stat -c %i "$data/main/$file") # eCryptfs has that of the file beneath
! lower grep -rqaF $marker $volume || die 'a row can be read beneath eCryptfs'
names=$(lower ls $data)
[[ $names == ECRYPTFS_FNEK_ENCRYPTED.* ]] || die "names beneath eCryptfs: $names"
block=$(debugfs -R "blocks <$inode>" /dev/mapper/volseal-orders 2>/dev/null | awk '{print $1}')
expect 'the file in the mapping' eCryptfs "$(magic /dev/mapper/volseal-orders "$block")"
expect 'the file on the disk, 16 MiB further on' none "$(magic "$(field orders device)" $((block + 4096)))"
expect 'names of eCryptfs on the disk' absent "$(on_disk ECRYPTFS_FNEK_ENCRYPTED)"
expect 'rows on the disk' absent "$(on_disk $marker)"
expect 'that search finds what is there' there "$(on_disk volseal-kms)"

say 'a lock takes them off from the top'
volseal lock orders --wait=2m
closed orders $volume
stopped() { systemctl show -p InactiveEnterTimestampMonotonic --value "$1"; }
(($(stopped postgresql@15-main.service) <= $(stopped platform-layer.service) && $(stopped platform-layer.service) <= $(stopped var-lib-postgresql.mount))) ||
	die 'not in order: database, platform layer, volume'
expect 'layers' ebs "$(layers)"
volseal unlock orders --wait=2m
within 60 'PostgreSQL answers' database_up
expect 'rows' 1000 "$(sql "select count(*) from kept where what = '$marker ' || id")"

labctl host reboot
