# SPDX-License-Identifier: Apache-2.0
# Who may do what, by the groups that the kernel tells of, and what the journal keeps of it.
. /lab/lib.sh

make_volume orders /srv/orders
agent_settings
useradd --no-create-home --shell /bin/sh stranger
useradd --no-create-home --shell /bin/sh --groups volseal reader
useradd --no-create-home --shell /bin/sh --groups volseal-operators oncall
start_agent
within 30 'the volume is attached' is orders phase Attached
as() { runuser -u "$1" -- "${@:2}"; }

# row CODES VERB… has the four run a verb: a stranger, a reader, an operator, root.
row() {
	local want got users=(stranger reader oncall root)
	read -ra want <<<"$1"
	shift
	for i in 0 1 2 3; do
		got=0
		as "${users[i]}" volseal "$@" >/run/out 2>&1 || got=$?
		[[ $got == "${want[i]}" ]] || die "volseal $* as ${users[i]}: exit status $got, want ${want[i]}: $(cat /run/out)"
		[[ $got != 5 ]] || grep -q '^  hint: Run it as root' /run/out || die "volseal $* as ${users[i]}: no hint: $(cat /run/out)"
	done
	printf '   %-40s stranger %s, reader %s, operator %s, root %s\n' "$*" "${want[@]}"
}

say 'read, operate, destroy' # a verb of each kind; TestPermissionTable has them all
row '5 0 0 0' status
row '5 5 0 0' lock orders
row '5 5 0 0' cache flush
row '5 5 0 0' reload
# Whoever may not do it is not told either whether there is such a volume.
row '5 5 6 6' lock absent
row '5 5 5 6' init absent
row '5 5 5 6' reattach --accept-older-header absent

say 'each verb is in the journal, with who asked and what came of it'
# audited USER VERB OUTCOME prints how many lines say so.
audited() {
	journalctl --sync
	journalctl -q -u volseal.service -o json VOLSEAL_UID="$(id -u "$1")" VOLSEAL_VERB="$2" VOLSEAL_OUTCOME="$3" |
		jq -s 'map(select(._COMM == "volseal" and ._UID == "0" and (.VOLSEAL_PID | tonumber) > 1)) | length'
}
for user in oncall root; do
	for verb in lock cache-flush reload; do
		(($(audited $user $verb accepted) >= 1)) || die "no line on $verb by $user"
	done
done
expect 'init by operator' 1 "$(audited oncall init permission_denied)"
expect 'init by root, of a volume that is not there' 1 "$(audited root init no_such_volume)"
expect 'lock by reader' 2 "$(audited reader lock permission_denied)"
expect 'accept-header by operator' 1 "$(audited oncall accept-header permission_denied)"
as oncall sh -c 'echo $$; exec volseal lock orders' >/run/out
pid=$(head -n 1 /run/out)
expect 'the process is named' lock "$(journalctl -q -u volseal.service -o json VOLSEAL_PID="$pid" | jq -r .VOLSEAL_VERB)"
expect 'reading leaves no line' 0 "$(journalctl -q -u volseal.service -o json VOLSEAL_OUTCOME=accepted | jq -s 'map(select(.VOLSEAL_VERB == null)) | length')"
volseal unlock orders --quiet

say 'groups count as of the moment of the connection, and only those'
gpasswd --delete oncall volseal-operators >/dev/null
exits 5 as oncall volseal lock orders
usermod --append --groups volseal-operators oncall
as oncall volseal unlock orders --quiet
exits 5 setpriv --reuid 1234 --regid 0 --clear-groups volseal status
exits 0 setpriv --reuid 1234 --regid "$(getent group volseal | cut -d: -f3)" --clear-groups volseal status --quiet
if unshare --user --map-root-user true 2>/dev/null; then
	exits 5 as stranger unshare --user --map-root-user volseal status
fi
