# SPDX-License-Identifier: Apache-2.0
# The demo, second boot: it is all there; the customer takes the key away.
. /lab/lib.sh

story() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { printf '  \033[2m$ %s\033[0m\n' "$*"; "$@" 2>&1 | sed 's/^/  /'; }

story '7. Nobody is at the keyboard. PostgreSQL waits for its volume, and the volume for its key.'
within 90 'PostgreSQL answers' database_up
expect 'rows' 1000 "$(sql 'select count(*) from orders')"
run volseal status

story '8. The customer disables the key. What runs, runs on; the next boot is another matter.'
labctl key disable "$(recall key)"
expect 'rows, still served' 1000 "$(sql 'select count(*) from orders')"

story '9. The host reboots.'
labctl host reboot
