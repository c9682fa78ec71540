# SPDX-License-Identifier: Apache-2.0
# alone: it measures how soon root is answered
# Attacks on the socket, by users with and without permission. After each the agent answers, has the files open that it had before, and no more memory than is its due.
. /lab/lib.sh

agent=$(systemctl show -p MainPID --value volseal.service)
as() { runuser -u "$1" -- "${@:2}"; }
files() { find "/proc/$agent/fd" -mindepth 1 2>/dev/null | wc -l; }
rss() { awk '/^VmRSS/ {print int($2 / 1024)}' "/proc/$agent/status"; }
now() { date +%s%3N; }
denied_lines() { journalctl --sync && journalctl -q -u volseal.service -o json VOLSEAL_UID="$(id -u "$1")" VOLSEAL_OUTCOME=permission_denied | wc -l; }

# took COMMAND… prints how many milliseconds it takes.
took() {
	local begin
	begin=$(now)
	"$@" >/dev/null || return
	echo $(($(now) - begin))
}
volseal status --quiet
files_before=$(files) rss_before=$(rss)
few_files() { (($(files) <= files_before + 1)); } # one for a client that has just left

# sound WHAT insists that the agent is as it was.
sound() {
	rm -f /run/crowd.*
	[[ $(systemctl show -p MainPID --value volseal.service) == "$agent" ]] || die "$1: the agent is another"
	curl -fsS --max-time 5 --unix-socket $socket http://volseal/v1/healthz >/dev/null || die "$1: the agent does not answer"
	within 15 "$1: the agent is as before" few_files
	(($(rss) <= rss_before + 64)) || die "$1: $(rss) MiB of memory, $rss_before before"
}

# asks USER WANT CURL-ARGUMENTS… makes a request that must be answered so.
asks() {
	local user=$1 want=$2 got
	shift 2
	got=$(as "$user" curl -sS -o /dev/null -w '%{http_code}' --max-time 15 --unix-socket $socket "$@" </dev/null) || true
	[[ $got == "$want" ]] || die "$user: $*: $got, want $want"
}
v1=http://volseal/v1
json='Content-Type: application/json'

say 'a browser, also through a forwarded port'
for user in oncall root; do
	asks $user 403 -X POST -H 'Origin: http://evil.example' $v1/volumes/orders/lock
	asks $user 403 -X POST -H 'Origin: null' $v1/volumes/orders/lock
	asks $user 403 -H 'Sec-Fetch-Site: cross-site' $v1/volumes
	asks $user 403 -H 'Host: localhost:8080' $v1/volumes
	asks $user 403 -H 'Host: evil.example' $v1/volumes
	asks $user 403 -H 'Host: 127.0.0.1' $v1/volumes
	asks $user 403 -X OPTIONS -H 'Origin: http://evil.example' -H 'Access-Control-Request-Method: POST' $v1/volumes/orders/lock
done
sound 'a browser'

say 'paths'
for path in /v1//volumes /v1/../v1/volumes /v1/./volumes /v2/volumes / /v1/volumes/; do
	asks oncall 404 --path-as-is "http://volseal$path"
done
asks oncall 404 --path-as-is -X POST $v1/volumes/%2e%2e/lock
asks oncall 404 --path-as-is -X POST $v1/volumes/..%2F..%2Fetc/lock
asks oncall 404 --path-as-is -X POST $v1/volumes/orders%00/lock
asks oncall 404 --path-as-is -X POST "$v1/volumes/$(printf 'a%.0s' {1..4000})/lock"
asks oncall 405 -X DELETE $v1/volumes/orders
asks oncall 400 -X POST "$v1/volumes/orders/lock?force=1"
asks oncall 400 "$v1/volumes?wait=24h"
sound 'paths'

say 'bodies and headers'
head -c 1M /dev/zero >/run/megabyte
chmod 644 /run/megabyte
asks oncall 413 -X POST -H "$json" --data-binary @/run/megabyte $v1/volumes/orders/lock
asks oncall 400 -X POST -H "$json" -d '{"force":true}' $v1/volumes/orders/lock
asks oncall 400 -X POST -H "$json" -d '{} {}' $v1/volumes/orders/lock
asks oncall 400 -X POST -H "$json" -d '[]' $v1/reload
asks oncall 415 -X POST -d 'force=1' $v1/volumes/orders/lock
asks oncall 431 -H "X: $(printf 'a%.0s' {1..60000})" $v1/volumes
asks reader 400 -X GET -H "$json" -d '{}' $v1/volumes
asks stranger 403 -X POST -H "$json" --data-binary @/run/megabyte $v1/volumes/orders/lock
sound 'bodies and headers'

say 'what is not HTTP, and HTTP that is too clever'
# says WANT BYTES speaks bytes, as printf takes them; the answer begins so.
says() {
	local got
	got=$(printf '%b' "$2" | as reader timeout 30 /lab/labguest speak $socket | head -n 1 | tr -d '\r')
	[[ $got == $1* ]] || die "$2: '$got', want '$1'"
}
says 'HTTP/1.1 400' '\x16\x03\x01\x02\x00\x01\x00\r\n\r\n'
says 'HTTP/1.1 400' 'GET /v1/volumes HTTP/1.1\r\n\r\n'
says 'HTTP/1.1 400' 'GET /v1/volumes HTTP/1.1\r\nHost: volseal\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n'
says 'HTTP/1.1 400' 'GET /v1/volumes HTTP/1.1\r\nHost: volseal\r\nContent-Length: 100000\r\n\r\n'
says 'HTTP/1.1 501' 'GET /v1/volumes HTTP/1.1\r\nHost: volseal\r\nTransfer-Encoding: gzip\r\n\r\n'
says 'HTTP/1.1 505' 'GET /v1/volumes HTTP/3.0\r\n\r\n'
printf 'GET /v1/volumes HTTP/1.1\r\nHost: volseal\r\n\r\nPOST /v1/reload HTTP/1.1\r\nHost: volseal\r\n\r\nGET /v1/volumes HTTP/1.1\r\nHost: volseal\r\nConnection: close\r\n\r\n' |
	as reader timeout 30 /lab/labguest speak $socket | grep -a '^HTTP/1.1 ' | tr -d '\r' >/run/pipelined
expect 'pipelined: read, operate, read' 'HTTP/1.1 200 OK,HTTP/1.1 403 Forbidden,HTTP/1.1 200 OK' "$(paste -sd, /run/pipelined)"
sound 'what is not HTTP'

# crowded WHAT runs meanwhile until the crowds, all jobs of this shell, have
# gone: root is answered each time, within a second beyond what the start of the
# command takes by itself in that crowd, and the agent's files are bounded.
crowded() {
	local what=$1 answer start worst=0 slowest=0 most=0 n tries=0
	while [[ -n $(jobs -rp) ]]; do
		answer=$(took volseal status --json) || die "$what: root is not answered"
		start=$(took volseal version)
		((answer <= worst)) || worst=$answer
		((start <= slowest)) || slowest=$start
		n=$(files)
		((n <= most)) || most=$n
		tries=$((tries + 1))
	done
	wait
	grep -H '^connected' /run/crowd.*
	printf '   %s: root was answered %d times, at the latest after %d ms (version: %d); files: %d before, %d at most\n' \
		"$what" $tries "$worst" "$slowest" "$files_before" "$most"
	((most <= files_before + 16 + 32 + 8)) || die "$what: $most files were open" # strangers, one reader, root
	((tries > 0 && worst <= slowest + 1000)) || die "$what: root waited $worst ms"
}
# crowd USER KIND CLIENTS SECONDS REQUEST begins one. Crowds are nice: it is the
# socket that they fight for here, not the processor.
crowd() { printf '%b' "$5" | nice -n 19 runuser -u "$1" -- /lab/labguest "$2" $socket "$3" "$4" >"/run/crowd.$1" 2>&1 & }
lock='POST /v1/volumes/orders/lock HTTP/1.1\r\nHost: volseal\r\n\r\n'

say 'thousands of connections of a user who may do nothing'
lines=$(denied_lines stranger)
denied=$(metric 'volseal_operator_requests_total{result="denied",verb="lock"}')
crowd stranger knock 500 8 "$lock"
crowded 'a crowd of strangers'
denied=$(($(metric 'volseal_operator_requests_total{result="denied",verb="lock"}') - denied))
lines=$(($(denied_lines stranger) - lines))
printf '   %d requests were denied and counted, %d lines are in the journal\n' $denied $lines
# Most are turned away before they have asked: strangers share 16 places.
read -r _ connected _ < <(grep '^connected' /run/crowd.stranger)
((connected >= 1000 && denied >= 30)) || die 'that was no flood'
((lines >= 1 && lines <= 8)) || die 'the journal is drowned, or silent'
sound 'a crowd of strangers'

say 'two thousand who hold their connections, a byte a second; and readers who do the same'
crowd stranger dawdle 2000 8 "$lock"
crowd reader dawdle 200 8 'GET /v1/volumes HTTP/1.1\r\nHost: volseal\r\nX: aaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\r\n'
crowded 'a crowd that dawdles'
sound 'a crowd that dawdles'

say 'readers who wait for changes, more than there are places for'
cursor=$(curl -fsS -D - -o /dev/null --unix-socket $socket $v1/volumes | tr -d '\r' | awk 'tolower($1) == "volseal-cursor:" {print $2}')
crowd reader knock 200 7 "GET /v1/volumes?wait=6s&cursor=$cursor HTTP/1.1\r\nHost: volseal\r\n\r\n"
crowded 'readers who wait'
sound 'readers who wait'

expect 'the agent was not restarted' 0 "$(systemctl show -p NRestarts --value volseal.service)"
! journalctl -q -u volseal.service | grep -F 'request panicked' || die 'a request panicked'
is orders wish mounted || die 'an attack changed the wish'
