# SPDX-License-Identifier: Apache-2.0
# release gives the volume back to EC2, holds over a restart of the agent, and reattach takes it again.
. /lab/lib.sh

volseal release orders --wait=2m
expect 'orders' Detached "$(field orders phase)"
closed orders /var/lib/postgresql
systemctl restart volseal.service
within 30 'the wish is known after a restart' is orders wish detached
expect 'orders' Detached "$(field orders phase)"
volseal reattach orders --wait=2m
expect 'orders' Mounted "$(field orders phase)"
within 60 'PostgreSQL answers' database_up
