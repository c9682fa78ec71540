# SPDX-License-Identifier: Apache-2.0
# Without the old CMK the volume is mounted after the boot, with its rows. The power fails in the middle of another rotation.
. /lab/lib.sh

within 90 'PostgreSQL answers after the boot' database_up
expect 'rows' 1000 "$(sql 'select count(*) from kept')"
within 60 'it would survive a reboot' is orders would_survive_reboot true
volseal rotate orders --new-data-key
sql 'insert into kept values (1001)'
sleep 0.4
labctl host power-cut
