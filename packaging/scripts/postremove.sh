#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# After removal, purge and upgrade. Nothing of a volume is ever touched: claims
# and header backups can be the only way back to the data.
set -eu

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
	udevadm control --reload || true
fi

case "${1:-}" in
purge | 0) ;;
*) exit 0 ;;
esac

if [ -d /var/lib/volseal ]; then
	cat >&2 <<-'EOF'
		volseal: kept /var/lib/volseal (claims and header backups) and
		/etc/volseal/volumes.d. Delete them by hand, once no volume needs them.
		Mount points may still be immutable; chattr -i DIRECTORY undoes that.
	EOF
fi
