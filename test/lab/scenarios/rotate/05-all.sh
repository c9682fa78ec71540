# SPDX-License-Identifier: Apache-2.0
# Two volumes move by one command, and the agent is killed meanwhile: said again it goes on, and its report is of both. One that is locked keeps the code from being 0.
. /lab/lib.sh

old=$(labctl key create)
new=$(labctl key create --account 222222222222)
for name in alpha beta; do
	describe "$name" "$(labctl volume create --size 1 --key "$old")" "$old" "/srv/$name"
done
volseal reload
volseal init alpha
volseal init beta
for name in alpha beta; do
	within 90 "$name is mounted" is "$name" would_survive_reboot true
done
all() { volseal rotate --all --from "$old" --key-arn "$new" "$@"; }
results() { all --json "$@" | jq -c '[.volumes[] | [.volume, .key_arn[-12:], .generation, .result]]'; }

say 'a dry run, and a CMK that cannot be used: nothing is recorded'
all --dry-run
labctl key deny "$new" kms:Decrypt
exits 14 all
labctl key allow "$new"
for name in alpha beta; do
	rotation "$name" '' null
done

say 'the agent is killed meanwhile'
all --wait=1m &
run=$!
sleep 1
systemctl kill --signal=KILL --kill-whom=main volseal.service
wait $run || printf '   the command ended with %s\n' $?
within 90 'said again, both have moved' all
expect 'the report' "[[\"alpha\",\"${new: -12}\",2,\"already\"],[\"beta\",\"${new: -12}\",2,\"already\"]]" "$(results)"
expect 'alpha' "{\"tokens\":[[\"${new: -12}\",2]],\"keyslots\":[\"0\"]}" "$(keys_on alpha)"
expect 'beta' "{\"tokens\":[[\"${new: -12}\",2]],\"keyslots\":[\"0\"]}" "$(keys_on beta)"
expect 'under way' 0 "$(metric 'volseal_volume_rotation_pending{volume="alpha"}')"

say 'and back, but one is locked'
volseal lock beta --wait=1m
exits 16 volseal rotate --all --from "$new" --key-arn "$old"
is alpha key_arn "$old"
is beta key_arn "$new"
