# SPDX-License-Identifier: Apache-2.0
# Where the bytes of the keys are after unlock, lock and cache flush: in the agent's memory, in a core, in swap, in the kernel. docs/key-lifetime.md quotes what this prints.
. /lab/lib.sh

say 'the keys, worked out by the customer'\''s own hand and from the header'
agent_settings
systemctl restart volseal.service # else the connections of what came before are counted too
volseal reattach orders --wait=1m
device=$(field orders device)
token=$(cryptsetup token export --token-id 0 "$device")
datakey=$(labctl key unwrap "$(recall orders.key)" "$(jq -r .wrapped_key <<<"$token")" "$(jq -c .encryption_context <<<"$token")")
hex() { od -An -v -tx1 "$@" | tr -d ' \n'; }
salt=$(jq -r .salt <<<"$token" | base64 -d | hex)
derive() { openssl kdf -keylen 32 -kdfopt digest:SHA256 -kdfopt "hexkey:$datakey" -kdfopt "hexsalt:$salt" -kdfopt "info:volseal/v1 $1" -binary HKDF; }
derive keyslot >/run/passphrase
cryptsetup open --test-passphrase --key-file /run/passphrase "$device" || die 'that is not the passphrase'
cryptsetup luksDump --batch-mode --dump-volume-key --volume-key-file /run/volumekey --key-file /run/passphrase "$device" >/dev/null
cat >/run/needles <<-END
	data-key $datakey
	base64 $(printf '%b' "$(sed 's/../\\x&/g' <<<"$datakey")" | base64 -w0 | cut -c1-40 | tr -d '\n' | hex)
	passphrase $(hex /run/passphrase)
	mac-key $(derive 'header mac' | hex)
	volume-key $(hex /run/volumekey)
END

# scan PID prints, for each key, its copies in that process's writable memory: in
# pages that are locked and never dumped, and elsewhere. Pages that even root
# cannot read (memfd_secret) hold none that can be found.
cat >/run/scan.pl <<'PERL'
my ($pid, %needle) = shift;
open my $n, '<', '/run/needles' or die; while (<$n>) { my ($k, $h) = split; $needle{$k} = pack 'H*', $h }
open my $s, '<', "/proc/$pid/smaps" or die "smaps: $!";
my @maps; while (<$s>) {
	if (/^([0-9a-f]+)-([0-9a-f]+) (\S+)/) { push @maps, [hex $1, hex $2, $3, 0] }
	elsif (/^VmFlags:/) { $maps[-1][3] = / lo / && / dd / ? 1 : 0 }
}
open my $m, '<:raw', "/proc/$pid/mem" or die "mem: $!";
my (%kept, %stray);
for my $r (@maps) {
	next unless $r->[2] =~ /^rw/;
	my $b = ''; sysseek $m, $r->[0], 0;
	my $left = $r->[1] - $r->[0];
	while ($left > 0) { my $got = sysread $m, $b, $left, length $b; last unless $got; $left -= $got }
	for my $k (keys %needle) { for (my $at = 0; ($at = index $b, $needle{$k}, $at) >= 0; $at++) { $r->[3] ? $kept{$k}++ : $stray{$k}++ } }
}
printf "%s %d %d\n", $_, $kept{$_} || 0, $stray{$_} || 0 for qw(data-key base64 passphrase mac-key volume-key);
PERL
scan() { perl /run/scan.pl "$(systemctl show -p MainPID --value volseal.service)"; }
show() { awk -v when="$1" '{printf "   %-14s %-11s %d locked, %d elsewhere\n", when, $1, $2, $3}' "$2"; }
copies() { awk -v k="$2" -v c="$3" '$1 == k {print c == "locked" ? $2 : $3}' "$1"; }
# at_most LIMIT KEY FILE
at_most() { (($(copies "$3" "$2" elsewhere) <= $1)) || die "more than $1 copies of the $2 outside locked memory"; }
# found FILE prints which keys a file holds.
found() {
	local name key
	while read -r name key; do
		LC_ALL=C grep -qaP "$(sed 's/../\\x&/g' <<<"$key")" "$1" && printf '%s ' "$name" || true
	done </run/needles
}

perl -e 'open F, "/run/needles"; $x = join "", map { pack "H*", (split)[1] } <F>; $| = 1; print "ready\n"; sleep 600' >/run/planted.out &
planted=$!
within 60 'a process with the keys in it is up' grep -q ready /run/planted.out
perl /run/scan.pl $planted >/run/planted.scan
kill $planted
for k in data-key passphrase volume-key; do (($(copies /run/planted.scan $k elsewhere) > 0)) || die "the scan finds no planted $k: it proves nothing"; done

say 'after unlock'
if grep -q secretmem "/proc/$(systemctl show -p MainPID --value volseal.service)/maps"; then
	echo '   the keys are in memfd_secret: no scan reads them'
else
	echo '   the keys are in locked memory'
fi
scan >/run/unlocked
show unlocked /run/unlocked
(($(copies /run/unlocked volume-key locked) + $(copies /run/unlocked volume-key elsewhere) == 0)) || die 'the agent knows the volume key'
pid=$(systemctl show -p MainPID --value volseal.service)
gcore -o /run/core "$pid" >/dev/null 2>&1 || true
[[ -s /run/core.$pid ]] || die 'no core was taken: the test proves nothing'
printf '   a core taken by root holds: %s\n' "$(found "/run/core.$pid")"
rm -f "/run/core.$pid"
grep -q 'logon.*cryptsetup' /proc/keys && printf '   the kernel holds the volume key\n'

say 'swap'
dd if=/dev/zero of=/swap bs=1M count=96 status=none
chmod 600 /swap
mkswap -q /swap && swapon /swap
swapped() { dd if=/swap iflag=direct bs=1M status=none; }
# A process that may swap and must, for want of memory, is the counter-proof.
echo '$x = "planted in swap " x 1e6; sleep 600' >/run/planted.pl
systemd-run --quiet --unit planted -p MemoryMax=12M /usr/bin/perl /run/planted.pl
echo 64M >/sys/fs/cgroup/system.slice/volseal.service/memory.reclaim 2>/dev/null || true # as if memory were short
planted_is_swapped() { swapped | LC_ALL=C grep -caF 'planted in swap'; }
within 60 'what is planted is in swap' planted_is_swapped
swapped >/run/swap
expect 'keys in swap' '' "$(found /run/swap)"
rm /run/swap
expect 'the agent in swap' '0 kB' "$(awk '/^VmSwap/ {print $2, $3}' "/proc/$pid/status")"
systemctl stop planted.service
swapoff /swap
rm -f /swap

say 'after lock'
volseal lock orders --wait=1m
scan >/run/locked
show locked /run/locked
! grep -q 'logon.*cryptsetup' /proc/keys || die 'the kernel still holds a volume key'
[[ -z $(dmsetup ls --target crypt) || $(dmsetup ls --target crypt) == 'No devices found' ]] || die 'a mapping is left'

say 'after cache flush'
volseal cache flush
scan >/run/flushed
show flushed /run/flushed
for k in data-key base64 passphrase mac-key volume-key; do
	expect "$k in locked memory" 0 "$(copies /run/flushed $k locked)"
	at_most 8 $k /run/flushed
done
at_most 2 base64 /run/flushed
rm -f /run/needles /run/passphrase /run/volumekey /run/scan.pl /run/planted.* /run/unlocked /run/locked /run/flushed
