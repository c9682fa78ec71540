# SPDX-License-Identifier: Apache-2.0
# For each class of failure, from its cause over the metric, the alert in a real Prometheus, the exit code and explain, back to silence.
. /lab/lib.sh

# prometheus_on RULES scrapes the agent each second, under these rules.
prometheus_on() {
	mkdir -p /root/prometheus
	cat >/root/prometheus/prometheus.yml <<-YAML
		global: {scrape_interval: 1s, evaluation_interval: 1s}
		rule_files: [$1]
		scrape_configs:
		  - job_name: volseal
		    static_configs: [{targets: ['127.0.0.1:9797']}]
	YAML
	promtool check config /root/prometheus/prometheus.yml >/dev/null
	systemd-run --quiet --unit=lab-prometheus prometheus --config.file=/root/prometheus/prometheus.yml \
		--storage.tsdb.path=/root/prometheus/data --web.listen-address=127.0.0.1:9090
}

prometheus_says() { curl -fsS "http://127.0.0.1:9090/api/v1/$1" "${@:2}"; }

# firing NAME [LABEL VALUE] tells whether such an alert fires.
firing() {
	prometheus_says alerts | jq -e --arg n "$1" --arg l "${2:-alertname}" --arg v "${3:-$1}" \
		'any(.data.alerts[]; .state == "firing" and .labels.alertname == $n and .labels[$l] == $v)'
}

quiet() { ! firing "$@"; }

alerted() { within 60 "alert $*" firing "$@"; }
silent() { within 60 "no alert $*" quiet "$@"; }

shows() { [[ $(metric "$1") == "$2" ]]; }

# told VOLUME WHO TEXT insists on what explain says.
told() {
	local text
	text=$(volseal explain "$1")
	[[ $text == *"who:   $2"$'\n'* ]] || die "explain $1 does not name $2: $text"
	[[ $(tr -s ' \n' ' ' <<<"$text") == *"$3"* ]] || die "explain $1 does not say '$3': $text"
	printf '   explain %s: %s must act; "%s"\n' "$1" "$2" "$3"
}

# failing VOLUME CLASS is the way from the class to its metrics.
failing() {
	within 60 "$1 is $2" is "$1" class "$2"
	within 30 "its metric says so" shows "volseal_volume_error{class=\"$2\",volume=\"$1\"}" 1
}

say 'volumes a, b and c, and d with a key that can never do'
for v in a b c; do make_volume $v /srv/$v; done
describe d "$(labctl volume create --size 1 --key "$(recall a.key)")" "$(labctl key create --spec RSA_2048)" /srv/d
# Quick probes; a proof must not be younger than the next probe, or nothing is asked.
agent_settings 'kms: {timeout: 2s, proof_max_age: 3s, probe_interval: 4s}'
start_agent
rules=/usr/share/doc/volseal/prometheus/volseal.rules.yml
# The shipped rules, but for their patience: minutes become seconds.
sed -E 's/^( +for: ).*/\14s/; s/\[10m\]/[10s]/; s/\[15m\]/[30s]/; s/\[1h\]/[60s]/; s/> 20$/> 2/' $rules >/root/quick.rules.yml
init_all a b c
prometheus_on /root/quick.rules.yml
volseal status --watch >/root/watched 2>&1 &
watcher=$!
# An answer without a sample is an answer too; increase() needs one from before the first cause.
scraped() { prometheus_says query -G --data-urlencode 'query=up{job="volseal"} == 1' | jq -e '.data.result != []'; }
within 60 'Prometheus scrapes the agent' scraped
begin=$SECONDS

say 'a: revoked while mounted. b: revoked and shut. c: its header edited. d: misconfigured'
volseal lock b >/dev/null
volseal release c --wait=1m
uuid=$(field c luks_uuid)
labctl header field "$(recall c.vol)" uuid 00000000-0000-4000-8000-000000000000
labctl key disable "$(recall a.key)"
volseal lock b --wait=1m
labctl key deny "$(recall b.key)" kms:Decrypt
volseal reattach c >/dev/null
exits 10 volseal unlock b --wait=30s
exits 13 volseal reattach c --wait=1m
exits 14 volseal init d --wait=30s
exits 0 volseal unlock a --wait=5s
failing a revoked
failing b revoked
failing c integrity
failing d misconfigured
told a customer 'Do not reboot or stop this instance'
told b 'customer, platform' 'its policy does not allow its use'
told c platform 'another UUID'
told d platform 'never initialised'
alerted VolsealWouldNotSurviveReboot volume a
alerted VolsealKeyRevoked
alerted VolsealDecryptFailing volume a
alerted VolsealMountRefused volume b
alerted VolsealVolumeNotMounted volume b
alerted VolsealHeaderRejected volume c
alerted VolsealVolumeQuarantined volume c
alerted VolsealMisconfigured volume d
quiet VolsealWouldNotSurviveReboot volume b >/dev/null || die 'b is not mounted: there is nothing to lose'
quiet VolsealMountRefused volume a >/dev/null || die 'a is mounted, and called refused'

say 'all mended'
labctl key enable "$(recall a.key)"
labctl key allow "$(recall b.key)"
rm /etc/volseal/volumes.d/d.yaml
volseal reload
volseal release c >/dev/null || true
within 60 'c is released' is c device ''
labctl header field "$(recall c.vol)" uuid "$uuid"
volseal reattach c >/dev/null
for v in a b c; do within 60 "$v is mounted, and would be again" is $v would_survive_reboot true; done
silent VolsealWouldNotSurviveReboot
silent VolsealKeyRevoked
silent VolsealVolumeQuarantined
silent VolsealMisconfigured
volseal lock b --wait=1m

say 'KMS resets every connection: unreachable'
labctl fault kms reset
exits 11 volseal unlock b --wait=5s
failing b unreachable
failing a unreachable
told b platform 'route to KMS'
alerted VolsealKMSUnreachable
alerted VolsealWouldNotSurviveReboot volume a
quiet VolsealKeyRevoked >/dev/null || die 'an outage was called a revocation'

say 'KMS throttles'
labctl fault kms throttle
silent VolsealKMSUnreachable &
failing b throttled
exits 12 volseal unlock b --wait=5s
told b platform 'quota'
alerted VolsealThrottled
wait %% || die 'VolsealKMSUnreachable goes on'

say 'a policy of the platform'\''s own denies: class revoked, and no word of the customer'\''s'
labctl fault kms 'error=AccessDeniedException:0:User: x is not authorized to perform: kms:Decrypt with an explicit deny in a service control policy'
within 60 'b is refused by the platform' is b reason denied-by-platform # the pace is slow after throttling
exits 10 volseal unlock b --wait=5s
told b platform 'service control policy'

say 'EC2 resets every connection, then says what nobody knows'
labctl fault ec2 reset
labctl fault kms off
failing b unreachable
exits 11 volseal unlock b --wait=5s
told b 'platform, AWS' 'EC2'
alerted VolsealEC2Unreachable
labctl fault ec2 error=BrandNewCode
failing b unknown
exits 1 volseal unlock b --wait=5s
told b platform 'BrandNewCode'
alerted VolsealUnknownFailure volume b

say 'no instance metadata at the start of the agent: identity'
labctl fault imds error=404
labctl fault ec2 off
systemctl restart volseal.service
failing b identity
failing a identity
exits 15 volseal unlock b --wait=5s
told b platform 'IMDSv2 is enabled'
alerted VolsealIdentityLost volume a
quiet VolsealKeyRevoked >/dev/null || die 'want of an identity was called a revocation'

say 'mended; then a bad configuration'
labctl fault imds off
for v in a b c; do within 60 "$v is mounted, and would be again" is $v would_survive_reboot true; done
echo 'colour: red' >>/etc/volseal/volseal.yaml
exits 3 volseal reload
alerted VolsealReloadFailed
sed -i '/^colour/d' /etc/volseal/volseal.yaml
volseal reload

say 'status --watch has seen it all'
kill -INT $watcher 2>/dev/null || true
wait $watcher || true
for word in Mounted Quarantined revoked integrity unreachable throttled identity; do # over a restart of the agent
	grep -q "$word" /root/watched || die "status --watch has not shown $word"
done
! grep -q $'\x1b' /root/watched || die 'status --watch draws where there is no terminal'
printf '   %d lines, none with an escape\n' "$(wc -l </root/watched)"
got=0
(sleep 5; printf '\003') | script -qec 'NO_COLOR=1 volseal status --watch' /root/drawn >/dev/null || got=$?
expect 'exit status after Ctrl-C' 0 $got
grep -q $'\x1b\\[H' /root/drawn || die 'status --watch does not draw on a terminal'

say 'the agent is gone'
systemctl stop volseal.socket volseal.service # the socket alone would start it again for whoever asks
alerted VolsealAgentDown
systemctl start volseal.socket volseal.service
none() { prometheus_says alerts | jq -e '.data.alerts == []'; }
within 90 'no alert at all' none
printf '   from the first cause to silence: %d s\n' $((SECONDS - begin))

say 'every query of the dashboard'
total=0 empty=0
while read -r query; do
	query=${query//\$__rate_interval/20s} query=${query//\$instance/.*} query=${query//\$volume/a}
	answer=$(prometheus_says query -G --data-urlencode "query=$query") || die "Prometheus refuses $query"
	total=$((total + 1))
	[[ $(jq '.data.result | length' <<<"$answer") -gt 0 ]] || { empty=$((empty + 1)) && printf '   nothing to show: %.100s\n' "$query"; }
done < <(jq -r '.panels[].targets[]?.expr' /usr/share/doc/volseal/prometheus/volseal-dashboard.json)
printf '   %d queries, %d with nothing to show just now\n' $total $empty
printf '   agent: %.1f MiB resident\n' "$(metric process_resident_memory_bytes | awk '{print $1 / 1048576}')"
