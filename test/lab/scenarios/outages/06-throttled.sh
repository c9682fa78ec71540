# SPDX-License-Identifier: Apache-2.0
# KMS has throttled every request since before the boot.
. /lab/lib.sh

outage throttled 12 a b c
for v in a b c; do expect "row of $v" "row of $v" "$(cat /srv/$v/row)"; done
