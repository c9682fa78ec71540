# SPDX-License-Identifier: Apache-2.0
# A host is shut down while a volume is frozen: that must not wait for a key that may never come back.
. /lab/lib.sh

sql 'create table kept(id int)'
sql 'insert into kept select generate_series(1, 500)'
labctl key disable "$(recall orders.key)"
within 240 'orders is frozen' is orders phase Sealed
expect 'suspended' Suspended "$(dmsetup info -c --noheadings -o suspended volseal-orders)"
remember down "$(date +%s)"
labctl host reboot
