# SPDX-License-Identifier: Apache-2.0
# Device names say nothing: volumes swapped in order are still found by their serial.
. /lab/lib.sh

rm -f /etc/volseal/volumes.d/*.yaml
for v in one two; do make_volume $v /srv/$v; done
volseal reload
for v in one two; do
	volseal init $v --wait=3m
	echo "this is $v" >/srv/$v/name
done
for v in one two; do volseal release $v --wait=2m; done
volseal reattach two --wait=2m
name=$(field two device)
volseal release two --wait=2m
volseal reattach one --wait=2m
expect 'one now has the name that two had' "$name" "$(field one device)"
volseal reattach two --wait=2m
for v in one two; do expect "$v" "this is $v" "$(cat /srv/$v/name)"; done

say 'a mount of something else at the mount point'
volseal lock one --wait=2m
mount -t tmpfs tmpfs /srv/one
exits 14 volseal unlock one --wait=20s
! mapped one || die 'one is open although it cannot be mounted'
umount /srv/one
volseal unlock one --wait=60s

say 'a volume that is attached elsewhere'
volseal release one --wait=2m
labctl volume attach "$(recall one.vol)" --instance i-0fedcba9876543210
exits 14 volseal reattach one --wait=20s
expect 'reason' attached-elsewhere "$(field one reason)"
