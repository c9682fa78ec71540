# SPDX-License-Identifier: Apache-2.0
# With the key disabled nothing opens after a reboot; with the key back, all by itself.
. /lab/lib.sh

within 60 'archive, under another key, is mounted' mountpoint -q /srv/archive
within 60 'orders is refused' is orders class revoked
closed orders /var/lib/postgresql
! systemctl is-active --quiet postgresql@15-main.service || die 'PostgreSQL runs without its volume'
[[ -z $(ls -A /var/lib/postgresql) ]] || die 'something was written beneath the mount point'
exits 10 volseal unlock orders --wait=30s
volseal explain orders
refusals=$(metric 'volseal_mount_refusals_total{class="revoked",volume="orders"}')
((refusals >= 1)) || die "volseal_mount_refusals_total is '$refusals'"
failures=$(metric 'volseal_decrypt_failures_total{class="revoked",volume="orders"}')
((failures >= 1)) || die "volseal_decrypt_failures_total is '$failures'"
expect 'phase metric' 1 "$(metric 'volseal_volume_phase{phase="Sealed",volume="orders"}')"

say 'the customer enables the key'
labctl key enable "$(recall orders.key)"
within 40 'orders is mounted with nobody'"'"'s help' is orders phase Mounted
within 60 'PostgreSQL answers' database_up
((1000 < $(sql 'select count(*) from orders'))) || die 'rows are gone'
