# SPDX-License-Identifier: Apache-2.0
# KMS has answered later than the time limit since before the boot.
. /lab/lib.sh

outage unreachable 11 a b c

labctl fault kms throttle
labctl host reboot
