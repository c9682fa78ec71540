# SPDX-License-Identifier: Apache-2.0
# key check names what is wrong with each CMK, and the statements that it prints mend what a policy can mend.
. /lab/lib.sh

agent_settings
start_agent

# checked CODE KEY FAILED-LINE… runs the check, which must end so, with just these lines failed.
checked() {
	local code=$1 key=$2 got=0 report
	shift 2
	report=$(volseal key check "$key" --json 2>/dev/null) || got=$?
	[[ $got == "$code" ]] || die "key check: exit status $got, want $code: $report"
	expect "exit $code, failed" "$*" "$(jq -r '[.checks[] | select(.status == "failed") | .name] | join(" ")' <<<"$report")"
	jq -e 'all(.checks[]; .status != "failed" or (.remedy != "" and .class != "" and .who != []))' <<<"$report" >/dev/null ||
		die "a failed line without remedy: $report"
}

# paste KEY does what the customer does: the owner's statement, and those that key check printed.
paste() {
	{ volseal key check "$1" --json 2>/dev/null || true; } | jq '{Version: "2012-10-17", Statement: ([
		{Sid: "Enable IAM User Permissions", Effect: "Allow", Principal: {AWS: "arn:aws:iam::111111111111:root"}, Action: "kms:*", Resource: "*"}
	] + .missing_statements)}' >/root/policy.json
	labctl key policy "$1" /root/policy.json
}

say 'a key that was shared as documented'
good=$(labctl key create)
mark=$(labctl mark)
exits 0 volseal key check "$good"
expect 'real calls besides the description' 0 "$(labctl calls kms --since "$mark" | jq -s '[.[] | select(.operation != "DescribeKey" and (.dry_run | not))] | length')"
expect 'grants left behind' 0 "$(labctl key show "$good" | jq '.grants // 0')"

say 'keys that can never be used'
checked 14 "$(labctl key create --spec RSA_2048)" kind
checked 14 "$(labctl key create --origin EXTERNAL)" state material
checked 14 "$(labctl key create --region eu-west-1)" region
exits 14 volseal key check arn:aws:kms:us-east-1:111111111111:alias/orders
exits 2 volseal key check orders

say 'keys in a state'
labctl key disable "$good"
checked 10 "$good" state
labctl key enable "$good"
labctl key schedule-deletion "$good"
checked 10 "$good" state
labctl key cancel-deletion "$good"
labctl key enable "$good"

say 'one action that is missing: its statement mends it'
declare -A line=(
	[DescribeKey]=kms:DescribeKey [GenerateDataKeyWithoutPlaintext]=kms:GenerateDataKeyWithoutPlaintext [ReEncryptTo]='kms:ReEncrypt*'
)
for action in "${!line[@]}"; do
	labctl key deny "$good" "$action"
	checked 10 "$good" "${line[$action]}"
	labctl key allow "$good"
done
labctl key deny "$good" Decrypt
checked 10 "$good" kms:Decrypt
paste "$good"
checked 0 "$good"

say 'a key that was never shared: the printed statements are all it takes'
closed=$(labctl key create --unshared)
checked 10 "$closed" kms:DescribeKey kms:GenerateDataKey kms:Decrypt kms:GenerateDataKeyWithoutPlaintext 'kms:ReEncrypt*'
paste "$closed"
checked 0 "$closed"
expect 'the statements are the documented ones' "$(volseal key policy --principal 916150859591 | jq -c .)" "$(jq -c '.Statement[1:]' /root/policy.json)"
describe pasted "$(labctl volume create --size 1 --key "$closed")" "$closed" /srv/pasted
volseal reload
within 60 'EBS may use it too: a volume under it is attached' is pasted reason not-initialised
rm /etc/volseal/volumes.d/pasted.yaml
volseal reload
rm -f /var/lib/volseal/claims/pasted.json

say 'an outage is no verdict on the key'
labctl fault kms error=KMSInternalException
exits 11 volseal key check "$good" >/dev/null 2>&1
labctl fault kms off
