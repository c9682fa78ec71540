# SPDX-License-Identifier: Apache-2.0
# The demo, third boot: nothing mounts without the key, and everything does with it.
. /lab/lib.sh

story() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { printf '  \033[2m$ %s\033[0m\n' "$*"; "$@" 2>&1 | sed 's/^/  /'; }

story '10. Without a live answer from KMS nothing is unlocked.'
within 60 'refused' is orders class revoked
run volseal status
run volseal explain orders
exits 10 volseal unlock orders --wait=20s
closed orders /var/lib/postgresql
expect 'PostgreSQL' inactive "$(systemctl is-active postgresql@15-main.service || true)"

story '11. The customer enables the key again, and goes home.'
labctl key enable "$(recall key)"
within 40 'mounted, with nobody'"'"'s help' is orders phase Mounted
within 60 'PostgreSQL answers' database_up
expect 'rows' 1000 "$(sql 'select count(*) from orders')"
run volseal status
