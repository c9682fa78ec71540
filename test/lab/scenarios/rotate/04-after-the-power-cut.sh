# SPDX-License-Identifier: Apache-2.0
# After a power cut in the middle of a rotation the volume is mounted, each acknowledged row is there, and the rotation ends by itself.
. /lab/lib.sh

within 90 'PostgreSQL answers after the boot' database_up
expect 'rows' 1001 "$(sql 'select count(*) from kept')"
within 60 'the rotation is over' rotation orders '' null
within 60 'it would survive a reboot' is orders would_survive_reboot true
keys_on orders
expect 'tokens in the header' 1 "$(keys_on orders | jq '.tokens | length')"
expect 'generation' 6 "$(field orders generation)"
volseal header verify orders
