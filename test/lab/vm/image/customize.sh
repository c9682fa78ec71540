#!/bin/sh
# mmdebstrap customize hook: makes a Debian tree the lab's guest.
# $1 is the root directory of the guest; FILES holds our files for it, KERNEL is
# the package of the kernel, BOOT is where its image goes, and its initrd if it
# needs one. apt is mmdebstrap's, with the host's sources.
set -eu
root=$1
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"

# The kernel is unpacked, not installed: installing would bring an initrd and the
# tools to make it.
kernel=$(apt-cache depends "$KERNEL" | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1)
[ -n "$kernel" ] || { echo "no kernel behind $KERNEL" >&2; exit 1; }
version=${kernel#linux-image-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$work" && apt-get -qq -o APT::Sandbox::User=root download "$kernel")
dpkg-deb --extract "$work"/linux-image-*.deb "$work/kernel"
mkdir -p "$root/usr/lib/modules"
cp -a "$work/kernel/lib/modules/$version" "$root/usr/lib/modules/"
cp "$work/kernel/boot/vmlinuz-$version" "$BOOT/vmlinuz"
chroot "$root" depmod "$version"
grep -q /nvme.ko "$root/usr/lib/modules/$version/modules.builtin" || sh "${0%/*}/initrd.sh" "$root" "$version" "$BOOT/initrd"

cp -r "$FILES/." "$root/"
ln -s /lab/labctl /lab/jq "$root/usr/local/bin/"
mkdir -p "$root/lab"
rm -f "$root/etc/resolv.conf" # there is nobody to ask

# What a boot does not need costs seconds under software emulation.
chroot "$root" systemctl --quiet mask \
	apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
	fstrim.timer systemd-tmpfiles-clean.timer \
	getty.target getty@tty1.service serial-getty@ttyS0.service systemd-logind.service \
	systemd-ask-password-console.path systemd-ask-password-wall.path systemd-initctl.socket \
	systemd-binfmt.service proc-sys-fs-binfmt_misc.automount \
	systemd-boot-system-token.service systemd-boot-update.service systemd-pcrphase.service systemd-pcrphase-sysinit.service \
	systemd-firstboot.service systemd-machine-id-commit.service systemd-repart.service systemd-sysext.service \
	systemd-fsck-root.service systemd-remount-fs.service \
	systemd-hwdb-update.service systemd-journal-catalog-update.service systemd-update-done.service systemd-sysusers.service \
	systemd-journal-flush.service systemd-journald-audit.socket systemd-pstore.service systemd-random-seed.service \
	systemd-networkd-wait-online.service systemd-timesyncd.service \
	systemd-update-utmp.service systemd-update-utmp-runlevel.service \
	dev-hugepages.mount dev-mqueue.mount \
	sys-fs-fuse-connections.mount sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
	kmod-static-nodes.service modprobe@configfs.service modprobe@drm.service modprobe@efi_pstore.service \
	modprobe@fuse.service modprobe@loop.service
# Nor what udev asks of each device for the sake of desktops.
for rules in 60-autosuspend 60-cdrom_id 60-drm 60-evdev 60-fido-id 60-infiniband 60-input-id 60-persistent-alsa 60-persistent-input \
	60-persistent-storage-tape 60-persistent-v4l 60-sensor 60-serial 64-btrfs 70-camera 70-joystick 70-memory 70-mouse 70-power-switch \
	70-touchpad 70-uaccess 71-seat 73-seat-late 75-probe_mtd 78-sound-card 85-hwclock; do
	ln -s /dev/null "$root/etc/udev/rules.d/$rules.rules"
done

# A PostgreSQL cluster to copy: initdb takes half a minute under emulation. Small
# segments of its log, since they too go through a cipher. Here it finds no /dev/shm.
cluster=/usr/share/lab/cluster
chroot "$root" install -d -o postgres -g postgres "${cluster%/*}"
chroot "$root" setpriv --reuid=postgres --regid=postgres --clear-groups env LC_ALL=C.UTF-8 /usr/lib/postgresql/15/bin/initdb \
	--auth-local=peer --auth-host=scram-sha-256 --wal-segsize=1 --no-sync --no-instructions -D $cluster >/dev/null
sed -i 's/^dynamic_shared_memory_type = .*/dynamic_shared_memory_type = posix/' "$root$cluster/postgresql.conf"

mkdir -p "$root/etc/systemd/system-generators"
for generator in bless-boot cryptsetup debug getty gpt-auto hibernate-resume integritysetup rc-local run system-update sysv veritysetup; do
	ln -s /dev/null "$root/etc/systemd/system-generators/systemd-$generator-generator"
done
chroot "$root" systemctl --quiet disable prometheus.service
chroot "$root" systemctl --quiet enable lab-guest.service lab-network.service

# A package that a scenario installs is unpacked whole.
rm -f "$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap"
rm -rf "$root"/usr/lib/udev/hwdb.d "$root"/usr/lib/udev/hwdb.bin "$root"/etc/udev/hwdb.bin "$root"/var/cache/apt/*
