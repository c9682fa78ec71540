# SPDX-License-Identifier: Apache-2.0
# KMS has not answered since before the boot.
. /lab/lib.sh

outage unreachable 11 a b c

labctl fault kms reset
labctl host reboot
