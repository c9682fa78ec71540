# SPDX-License-Identifier: Apache-2.0
# The main job from nothing: keys, volumes, init, PostgreSQL on ext4, files on xfs.
. /lab/lib.sh

say 'two keys, two volumes'
make_volume orders /var/lib/postgresql 'database_unit: postgresql.service'
make_volume archive /srv/archive 'filesystem: xfs'
agent_settings
start_agent

say 'a blank volume is not touched until somebody says init'
within 30 'orders waits for init' is orders reason not-initialised
exits 14 volseal unlock orders --wait=20s
volseal init orders --wait=3m
volseal init archive --wait=3m
expect 'orders' Mounted "$(field orders phase)"
expect 'archive' Mounted "$(field archive phase)"
exits 16 volseal init orders

say 'what is really there'
table=$(dmsetup table volseal-orders)
[[ $table == *"aes-xts-plain64 :64:logon:cryptsetup:"*" 32768 "* ]] || die "dm table: $table"
[[ $table == *no_read_workqueue*no_write_workqueue* || $table == *no_write_workqueue*no_read_workqueue* ]] || die "dm table: $table"
expect 'file systems' 'ext4 xfs' "$(findmnt -no FSTYPE /var/lib/postgresql) $(findmnt -no FSTYPE /srv/archive)"
options=$(findmnt -no OPTIONS /var/lib/postgresql)
for o in nosuid nodev noexec; do [[ ,$options, == *,$o,* ]] || die "mounted without $o: $options"; done

say 'PostgreSQL on it'
make_database
sql 'create table orders(id int primary key, what text)'
sql "insert into orders select i, 'order ' || i from generate_series(1, 1000) i"
echo 'kept on xfs' >/srv/archive/file
sync -f /srv/archive/file

say 'a lock stops the database, then unmounts, then takes the key out of the kernel'
volseal lock orders --wait=2m
closed orders /var/lib/postgresql
stopped=$(systemctl show -p InactiveEnterTimestampMonotonic --value postgresql@15-main.service)
unmounted=$(systemctl show -p InactiveEnterTimestampMonotonic --value var-lib-postgresql.mount)
((stopped > 0 && stopped <= unmounted)) || die "PostgreSQL stopped at $stopped, unmounted at $unmounted"
volseal unlock orders --wait=2m
within 60 'PostgreSQL is started again by the mount' database_up
expect 'rows' 1000 "$(sql 'select count(*) from orders')"

labctl host reboot
