# What must not outlive a scenario: each is named, and any one fails the run. The
# agent may be in the middle of a pass, so that it is looked for several times;
# volumes, mappings and mounts that are finished are allowed to stay.
leftovers() {
	for name in /sys/block/dm-*/dm/name; do
		[ -e "$name" ] || continue
		case $(cat "$name" 2>/dev/null) in
		volseal-*.pending | temporary-cryptsetup-* | *-hotzone-* | *-overlay) echo "mapping $(cat "$name")" ;;
		esac
	done
	for process in /proc/[0-9]*/comm; do
		case $(cat "$process" 2>/dev/null) in
		cryptsetup) echo "process cryptsetup, pid $(basename "${process%/comm}")" ;;
		esac
	done
	find /run/volseal/headers -type f -printf 'file %p\n' 2>/dev/null
	find /tmp /var/tmp /dev/shm -mindepth 1 -maxdepth 1 -name '*volseal*' ! -name 'systemd-private-*' -printf 'file %p\n' 2>/dev/null
}

tries=20
while left=$(leftovers); [ -n "$left" ]; do
	tries=$((tries - 1))
	[ "$tries" -gt 0 ] || break
	sleep 0.5
done
systemctl --failed --plain --no-legend 2>/dev/null | awk '{print "note: failed unit " $1}'
[ -z "$left" ] || { echo "left over in the guest:"; echo "$left"; exit 1; } >&2
