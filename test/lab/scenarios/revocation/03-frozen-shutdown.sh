# SPDX-License-Identifier: Apache-2.0
# A host is shut down while a volume is frozen under a service that writes: that must not wait for a key that may never come back.
. /lab/lib.sh

expect 'stock' Sealed "$(field stock phase)"
expect 'suspended' Suspended "$(dmsetup info -c --noheadings -o suspended volseal-stock)"
systemctl is-active --quiet stock.service || die 'nobody writes to the frozen volume'
remember down "$(date +%s)"
labctl host reboot
