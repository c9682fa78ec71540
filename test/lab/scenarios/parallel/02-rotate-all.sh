# SPDX-License-Identifier: Apache-2.0
# Two of the volumes move to another CMK by one command, and the agent is killed meanwhile: said again it goes on, and its report is of both.
. /lab/lib.sh

old=$(recall v1.key)
new=$(labctl key create --account 222222222222)
all() { volseal rotate --all --from "$old" --key-arn "$new" "$@"; }
results() { all --json "$@" | jq -c '[.volumes[] | [.volume, .key_arn[-12:], .generation, .result]]'; }
volseal rotate v2 --key-arn "$old" --wait=2m # so that there are two of them

say 'a CMK that cannot be used, and a dry run: nothing is recorded'
labctl key deny "$new" kms:Decrypt
exits 14 all
labctl key allow "$new"
all --dry-run
for v in v1 v2; do rotation $v '' null; done

say 'the agent is killed meanwhile'
began=$SECONDS
all --wait=1m &
run=$!
sleep 1
systemctl kill --signal=KILL --kill-whom=main volseal.service
wait $run || printf '   the command ended with %s\n' $?
within 90 'said again, both have moved' all
printf '   it took %s s in all\n' $((SECONDS - began))
expect 'the report' "[[\"v1\",\"${new: -12}\",2,\"already\"],[\"v2\",\"${new: -12}\",3,\"already\"]]" "$(results)"
expect 'v1' "{\"keyslots\":[\"0\"],\"tokens\":[[\"${new: -12}\",2]]}" "$(keys_on v1)"
expect 'v2' "{\"keyslots\":[\"0\"],\"tokens\":[[\"${new: -12}\",3]]}" "$(keys_on v2)"
expect 'under way' 0 "$(metric 'volseal_volume_rotation_pending{volume="v1"}')"
