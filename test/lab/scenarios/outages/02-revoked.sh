# SPDX-License-Identifier: Apache-2.0
# Pending deletion and access denied keep their volumes shut, and no others.
. /lab/lib.sh

within 60 'c is mounted' is c phase Mounted
for v in a b; do
	within 60 "$v is refused" is $v class revoked
	exits 10 volseal unlock $v --wait=30s
	closed $v /srv/$v
done
labctl key cancel-deletion "$(recall a.key)"
labctl key enable "$(recall a.key)"
labctl key allow "$(recall b.key)"
within 40 'a is mounted by itself' is a phase Mounted
within 40 'b is mounted by itself' is b phase Mounted
for v in a b c; do expect "row of $v" "row of $v" "$(cat /srv/$v/row)"; done

labctl fault kms blackhole
labctl host reboot
