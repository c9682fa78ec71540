# SPDX-License-Identifier: Apache-2.0
# KMS has reset every connection since before the boot.
. /lab/lib.sh

outage unreachable 11 a b c

labctl fault kms latency=20s
labctl host reboot
