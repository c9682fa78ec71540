#!/bin/sh
# initrd.sh ROOT VERSION OUT makes the least initrd by which the kernel VERSION
# of the tree ROOT gets at the root disk, whose serial is in ROOT_SERIAL: a
# shell, and the modules for nvme and ext4 in the order in which they depend on
# each other.
set -eu
root=$1 version=$2 out=$3

tree=$root/initrd
mkdir -p "$tree/bin" "$tree/dev" "$tree/proc" "$tree/sys" "$tree/root"
cp "$root/bin/busybox" "$tree/bin/"
for module in nvme ext4; do
	chroot "$root" modprobe --show-depends --set-version "$version" "$module"
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$tree/modules"
[ -s "$tree/modules" ]
while read -r file; do cp "$root$file" "$tree/"; done <"$tree/modules"

# A checksum that this CPU has no instruction for is no failure; without the
# root disk the kernel panics, as it would by itself.
cat >"$tree/init" <<END
#!/bin/busybox sh
busybox mount -t devtmpfs dev /dev
busybox mount -t sysfs sys /sys
while read -r file; do busybox insmod "/\${file##*/}" 2>/dev/null; done </modules
until [ -n "\$disk" ]; do
	for serial in /sys/block/nvme*/device/serial; do
		read -r text <"\$serial" || continue
		[ "\$text" = $ROOT_SERIAL ] && disk=\${serial#/sys/block/} && disk=\${disk%%/*}
	done
done
until busybox mount -t ext4 "/dev/\${disk}p1" /root 2>/dev/null; do :; done
busybox umount /sys
busybox mount --move /dev /root/dev
exec busybox switch_root /root /sbin/init
END
chmod 755 "$tree/init"
(cd "$tree" && find . | "$root/bin/busybox" cpio -o -H newc 2>/dev/null) >"$out"
rm -rf "$tree"
