# What one wants to know after a failure.
section() { echo "--- $*"; }
section journal of volseal
journalctl --no-pager --output=short-monotonic --lines=200 --unit='volseal*' 2>&1
section kernel log
dmesg 2>&1 | tail -n 40
section mappings
dmsetup info -c 2>&1
section disks
lsblk -o NAME,SERIAL,SIZE,FSTYPE,MOUNTPOINTS 2>&1
section failed units and waiting jobs
systemctl --failed --plain --no-legend --no-pager 2>&1
systemctl list-jobs --plain --no-legend --no-pager 2>&1
