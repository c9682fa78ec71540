# SPDX-License-Identifier: Apache-2.0
# Three volumes of three customers; two of the customers take their keys away, each in another way.
. /lab/lib.sh

make_volume a /srv/a
make_volume b /srv/b
make_volume c /srv/c
agent_settings 'kms: {timeout: 2s}'
start_agent
init_all a b c
for v in a b c; do
	echo "row of $v" >/srv/$v/row
done
sync
labctl key schedule-deletion "$(recall a.key)"
labctl key deny "$(recall b.key)" kms:Decrypt
labctl host reboot
