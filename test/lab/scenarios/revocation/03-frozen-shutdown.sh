# SPDX-License-Identifier: Apache-2.0
# A host is shut down while a volume is frozen: that must not wait for a key that may never come back.
. /lab/lib.sh

sql_ledger() { runuser -u postgres -- psql -p 5433 -XAtq -c "$1"; }
sql_ledger 'create table kept(id int)'
sql_ledger 'insert into kept select generate_series(1, 500)'
labctl key disable "$(recall ledger.key)"
within 240 'ledger is frozen' is ledger phase Sealed
expect 'suspended' Suspended "$(dmsetup info -c --noheadings -o suspended volseal-ledger)"
remember down "$(date +%s)"
labctl host reboot
