# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What the scenarios share. It is sourced in the guest, as /lab/lib.sh.
# Everything here looks at the machine as an operator would: through volseal,
# systemd, the kernel and PostgreSQL, never through the agent's memory.

set -euo pipefail
PATH=/usr/lib/postgresql/15/bin:$PATH # not the wrappers in Perl, which cost a second each

# What a scenario tells its successor in the next boot.
memory=/root/memory
mkdir -p "$memory"

remember() { printf '%s\n' "$2" >"$memory/$1"; }
recall() { cat "$memory/$1"; }

say() { printf '\n── %s (%d s)\n' "$*" $SECONDS; }

die() {
	printf 'FAILED: %s\n' "$*" >&2
	volseal status >&2 || true
	exit 1
}

exec {nothing}<> <(:)
pause() { read -rt 0.3 -u "$nothing" || true; } # without a process

# within SECONDS WHAT COMMAND… waits until the command succeeds.
within() {
	local limit=$1 what=$2 begin=$SECONDS
	shift 2
	until "$@" >/dev/null 2>&1; do
		((SECONDS - begin <= limit)) || die "not within $limit s: $what"
		pause
	done
	printf '   %s (after %d s)\n' "$what" $((SECONDS - begin))
}

# expect WHAT WANT GOT
expect() {
	[[ $3 == "$2" ]] || die "$1: got '$3', want '$2'"
	printf '   %s: %s\n' "$1" "$3"
}

# exits WANT COMMAND… runs a command that must end with that status.
exits() {
	local want=$1 got=0
	shift
	"$@" || got=$?
	[[ $got == "$want" ]] || die "$*: exit status $got, want $want"
	printf '   %s: exit status %s\n' "$*" "$got"
}

# ask QUESTION… asks labguest, without a process: see test/lab/cmd/labguest/ask.go.
ask() {
	local line
	exec {line}<>/dev/tcp/127.0.0.1/7
	printf '%s\n' "$*" >&"$line"
	IFS= read -r answer <&"$line" || answer='-no answer'
	exec {line}>&-
	[[ $answer == +* ]] || { printf '%s: %s\n' "$*" "${answer#-}" >&2 && return 1; }
	answer=${answer#+}
}

socket=/run/volseal/volseal.sock

# field VOLUME FIELD prints one field of a volume's status, FIELD.FIELD for one in it.
field() { ask json $socket "/v1/volumes/$1" "$2" && printf '%s\n' "$answer"; }

# status_of VOLUME prints all of it.
status_of() { curl -fsS --unix-socket $socket "http://volseal/v1/volumes/$1"; }

is() { ask json $socket "/v1/volumes/$1" "$2" && [[ $answer == "$3" ]]; }

mapped() { [[ -e /dev/mapper/volseal-$1 ]] || [[ -e /dev/mapper/volseal-$1.pending ]]; }

# closed VOLUME MOUNTPOINT insists that nothing of the volume is open.
closed() {
	! mapped "$1" || die "$1 is mapped"
	! mountpoint -q "$2" || die "$2 is mounted"
	[[ -z $(dmsetup ls --target crypt | grep -F "volseal-$1" || true) ]] || die "the kernel has a mapping of $1"
	printf '   %s: nothing mapped, nothing mounted at %s\n' "$1" "$2"
}

# agent_settings writes volseal.yaml. The model is that of the lab's disks.
agent_settings() {
	cat >/etc/volseal/volseal.yaml <<-YAML
		nvme_models: ["QEMU NVMe Ctrl"]
	YAML
	printf '%s\n' "$@" >>/etc/volseal/volseal.yaml
}

# describe NAME VOLUME-ID KEY-ARN MOUNTPOINT [LINE…] configures a volume.
describe() {
	local name=$1 vol=$2 arn=$3 where=$4
	shift 4
	{
		printf 'name: %s\ndatabase: db-%s\nvolume_id: %s\nkey_arn: %s\nmountpoint: %s\n' "$name" "$name" "$vol" "$arn" "$where"
		printf '%s\n' "$@"
	} >"/etc/volseal/volumes.d/$name.yaml"
}

# describe_unmade NAME DATABASE KEY-ARN MOUNTPOINT [LINE…] configures a volume
# that volseal itself is to have made.
describe_unmade() {
	local name=$1 database=$2 arn=$3 where=$4
	shift 4
	printf '%s\n' "name: $name" "database: $database" "key_arn: $arn" "mountpoint: $where" "$@" >"/etc/volseal/volumes.d/$name.yaml"
}

# made NAME prints the ids of all volumes that EC2 has for the name.
made() { labctl volume list | jq -r --arg n "$1" '.[] | select(.tags["volseal:volume"] == $n) | .id'; }

# make_volume NAME MOUNTPOINT [LINE…] makes a key and a volume and configures
# them; it remembers NAME.vol and NAME.key.
make_volume() {
	local name=$1 where=$2 arn vol
	shift 2
	arn=$(labctl key create)
	vol=$(labctl volume create --size 1 --key "$arn")
	remember "$name.key" "$arn"
	remember "$name.vol" "$vol"
	describe "$name" "$vol" "$arn" "$where" "$@"
}

start_agent() {
	volseal config check
	systemctl enable --quiet --now volseal.service
}

# init_all VOLUME… formats them side by side. (Any other verb would call an init off.)
init_all() {
	local v
	for v in "$@"; do volseal init "$v" --wait=5m & done
	wait
	for v in "$@"; do is "$v" phase Mounted || die "$v is not mounted"; done
}

# metric SERIES prints its value, or nothing.
metric() { ask line 127.0.0.1:9797 /metrics "$1" && printf '%s\n' "$answer"; }

sql() { runuser -u postgres -- psql -XAtq -c "$1" "${@:2}"; }

database_up() { sql 'select 1'; }

# create_cluster NAME DIRECTORY [OPTION…] makes a PostgreSQL cluster there, of the one
# that the image has. Options are pg_createcluster's.
create_cluster() {
	install -d -o postgres -g postgres "${2%/*}"
	cp -a /usr/share/lab/cluster "$2"
	sync -f "$2" # as initdb does: the power may fail next
	pg_createcluster -d "$2" "${@:3}" 15 "$1" >/dev/null
}

# make_database makes a cluster on /var/lib/postgresql, which must be the volume,
# and starts it.
make_database() {
	mountpoint -q /var/lib/postgresql || die "no volume at /var/lib/postgresql"
	chown postgres:postgres /var/lib/postgresql
	create_cluster main /var/lib/postgresql/15/main
	systemctl start postgresql.service
	within 60 'PostgreSQL answers' database_up
}

# rotation NAME PATH WANT: what status says of the volume's rotation; PATH '' is all of it.
rotation() { is "$1" "rotation$2" "$3"; }

# keys_on NAME prints the end of the CMK and the generation of each token, and the keyslots.
keys_on() {
	cryptsetup luksDump --dump-json-metadata "$(field "$1" device)" |
		jq -c '{keyslots: (.keyslots | keys), tokens: [.tokens[] | [.key_arn[-12:], .generation]]}'
}

# transactions LIMIT runs pgbench for at most so many seconds at ten transactions a
# second, which leave the processor to others, and reports every five seconds.
transactions() { runuser -u postgres -- pgbench -n -c 2 -R 10 -P 5 -T "$1" postgres; }

# bench SECONDS NAME runs pgbench as fast as it can and notes every transaction.
bench() {
	mkdir -p -m 0777 /var/tmp/bench
	(cd /var/tmp/bench && exec runuser -u postgres -- pgbench -n -c 2 -T "$1" -l --log-prefix="$2" postgres) >"/var/tmp/bench/$2.out" 2>&1
}

# gap NAME prints the longest time between two commits of that run, in milliseconds.
gap() {
	cat /var/tmp/bench/"$1".[0-9]* | awk '{printf "%d%06d\n", $5, $6}' | sort -n |
		awk 'NR > 1 && $1 - last > most {most = $1 - last} {last = $1} END {printf "%d\n", most / 1000}'
}

# faultless NAME insists that no transaction of that run failed.
faultless() {
	local out=/var/tmp/bench/$1.out
	! grep -Eiq 'error|fatal|aborted' "$out" && grep -q 'number of failed transactions: 0 ' "$out" || die "pgbench: $(cat "$out")"
}
