# What must not outlive a scenario: each is named, and any one fails the run. The
# agent may be in the middle of a pass, so that it is looked for several times;
# volumes, mappings and mounts that are finished are allowed to stay. Nothing is
# forked in a loop: that takes seconds under emulation.
leftovers() {
	for file in /sys/block/dm-*/dm/name; do
		{ read -r name <"$file"; } 2>/dev/null || continue
		case $name in
		volseal-*.pending | temporary-cryptsetup-* | *-hotzone-* | *-overlay) echo "mapping $name" ;;
		esac
	done
	for file in /proc/[0-9]*/comm; do
		{ read -r name <"$file"; } 2>/dev/null || continue
		case $name in
		cryptsetup) echo "process $file: $name" ;;
		esac
	done
	for file in /run/volseal/headers/* /tmp/*volseal* /var/tmp/*volseal* /dev/shm/*volseal*; do
		case $file in */systemd-private-*) continue ;; esac # the agent's own, while it runs
		[ ! -e "$file" ] || echo "file $file"
	done
}

tries=20
while left=$(leftovers); [ -n "$left" ]; do
	tries=$((tries - 1))
	[ "$tries" -gt 0 ] || break
	sleep 0.5
done
systemctl --failed --plain --no-legend 2>/dev/null | awk '{print "note: failed unit " $1}'
[ -z "$left" ] || { echo "left over in the guest:"; echo "$left"; exit 1; } >&2
