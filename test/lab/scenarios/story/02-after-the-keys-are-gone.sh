# SPDX-License-Identifier: Apache-2.0
# What had a second key is there; what had none is gone for good, and volseal says so.
. /lab/lib.sh

say 'under the second key, all is there'
within 90 'restored is mounted' is restored phase Mounted
. /root/restored.sh
restored_database start
expect 'rows' 1000 "$(sql_restored 'select count(*) from orders')"
restored_database stop

say 'without one, the data are gone for good'
within 60 'ledger is refused' is ledger class revoked
closed ledger /srv/ledger
volseal explain ledger | tee /root/explain.txt
tr -s '[:space:]' ' ' </root/explain.txt | grep -q 'it cannot be restored, and what it encrypted is lost' || die 'not said plainly'
exits 10 volseal key check "$(recall only)"

say 'nor does a snapshot bring them back'
describe_unmade again db-9c2e "$(recall only)" /srv/again
volseal reload
exits 10 volseal restore again --snapshot "$(recall ledger.snapshot)" --wait=1m 2>/root/restore.err
cat /root/restore.err
grep -q -- '^- FAILED: Create .*database volume' /root/restore.err || die 'the step is not named'
grep -q 'what it encrypted is lost' /root/restore.err || die 'not said plainly'
closed again /srv/again
volseal release again --wait=1m
