#!/bin/bash
# vspd.service, on a system that is run by systemd; see ../systemd-guest.sh. Everything of vspd's goes
# when a test begins.
. "${BASH_SOURCE[0]%/*}/../lib.sh"

sockets=/run/hvkit/vsp

# vspd, with no definitions, and the journal from here on.
start_anew() {
	systemctl stop vspd
	systemctl reset-failed vspd 2>/dev/null || : # not loaded
	rm -rf /etc/hvkit /var/log/hvkit
	journal_begin=$(journalctl -n 1 -o export | sed -n 's/^__CURSOR=//p')
	systemctl start vspd || {
		journalctl -u vspd --after-cursor="$journal_begin" --no-pager
		fail "vspd does not start: $(journal | head -n 1)"
	}
}

# What vspd had to say, systemd about it when something is wrong, and the kernel.
journal() {
	journalctl -u vspd --after-cursor="$journal_begin" -p warning -o cat --no-pager -q
	journalctl -k --after-cursor="$journal_begin" -o cat --no-pager -q | grep -E 'vspd|SECCOMP' || :
}

expect_quiet_journal() {
	expect_equal "$(journal)" ""
}

show() {
	systemctl show -P "$1" vspd
}

await() { # WHAT COMMAND...
	for _ in {1..300}; do
		! "${@:2}" || return 0
		sleep 0.1
	done
	fail "$1 does not come: $(systemctl status vspd --no-pager 2>&1 | tail -n 5)"
}

# Writes and reads a disk through its socket.
expect_io() { # VM DISK
	expect_exit 0 qemu-io -f raw -c 'write -P 5 1M 1M' -c flush -c 'read -P 5 1M 1M' \
		"nbd:unix:$sockets/$1/$2.nbd"
}

# new_disk FILE [vhdtool create option...]
new_disk() {
	mkdir -p "${1%/*}"
	vhdtool create -q "${@:2}" --dynamic 16M "$1"
	defer "rm -f $1"
}

# A user, and what he does.
new_user() { # NAME [GROUP]
	useradd ${2:+-G "$2"} -m "$1"
	defer "userdel -r $1 2>/dev/null"
}

as() {
	runuser -u "$1" -- "${@:2}"
}

# ---- Installing and starting ----

test_unit_is_sound_and_the_group_made() {
	expect_exit 2 getent group hvkit
	expect_exit 0 systemd-sysusers
	expect_exit 0 getent group hvkit
	expect_exit 0 systemd-analyze verify --man=no vspd.service
	expect_equal "$(cat "$err")" ""
	expect_exit 0 systemctl enable vspd
	expect_equal "$(systemctl is-enabled vspd)" enabled
}

test_starts_and_makes_its_directories() {
	start_anew
	expect_equal "$(show ActiveState) $(show SubState) $(show NRestarts)" "active running 0"
	expect_exit 0 vspctl vm list
	expect_equal "$(stat -c '%n %a %U' /etc/hvkit /run/hvkit /var/log/hvkit /run/hvkit/vspd.sock)" \
		"/etc/hvkit 755 root
/run/hvkit 755 root
/var/log/hvkit 750 root
/run/hvkit/vspd.sock 666 root"
	expect_quiet_journal
}

test_tmpfiles_makes_the_same_directories() {
	systemctl stop vspd
	rm -rf /etc/hvkit /var/log/hvkit
	expect_exit 0 systemd-tmpfiles --create
	expect_equal "$(stat -c '%n %a %U' /etc/hvkit/vms /run/hvkit /var/log/hvkit)" \
		"/etc/hvkit/vms 755 root
/run/hvkit 755 root
/var/log/hvkit 750 root"
}

test_is_wanted_when_the_system_starts() {
	start_anew
	systemctl stop vspd
	systemctl enable vspd
	systemctl start multi-user.target
	await vspd systemctl is-active vspd
	expect_quiet_journal
}

test_is_confined() {
	local pid
	start_anew
	pid=$(show MainPID)
	expect_equal "$(grep -hE '^(NoNewPrivs|Seccomp|CapEff|CapBnd):' /proc/"$pid"/task/*/status |
		sort -u | tr -s '\t\n' ' ')" \
		"CapBnd: 0000000000000007 CapEff: 0000000000000007 NoNewPrivs: 1 Seccomp: 2 "
	expect_exit 0 systemd-analyze security --threshold=28 --no-pager vspd.service
	cat "$out"
}

# ---- Disks ----

serve_from() { # PLACE
	new_disk "$1/place.vhd"
	expect_exit 0 vspctl vm add place --disk "d=$1/place.vhd"
	expect_io place d
	expect_exit 0 vspctl vm remove place
	expect_exit 0 vhdtool check "$1/place.vhd"
}

test_serves_disks_of_ordinary_places() {
	local place
	start_anew
	for place in /vms /srv/vms /home/disks /root /opt/vms /mnt /media/usb /tmp /var/tmp \
		/var/lib/vms /var/lib/libvirt/images /var/cache/vms /run/vms /dev/shm; do
		subtest "$place" serve_from "$place"
	done
	expect_quiet_journal
}

test_serves_disks_of_others() {
	start_anew
	new_user owner
	chmod 700 /home/owner
	new_disk /home/owner/d.vhd
	chown owner: /home/owner/d.vhd
	chmod 600 /home/owner/d.vhd
	expect_exit 0 vspctl vm add theirs --disk d=/home/owner/d.vhd
	expect_io theirs d
	expect_exit 0 vspctl vm remove theirs
	expect_equal "$(stat -c '%U %a' /home/owner/d.vhd)" "owner 600"
	expect_quiet_journal
}

test_serves_a_chain_of_several_places() {
	start_anew
	new_disk /srv/base.vhd
	mkdir -p /home/chain
	vhdtool create -q --diff /srv/base.vhd /home/chain/child.vhd
	defer rm -r /home/chain
	expect_exit 0 vspctl vm add chain --disk d=/home/chain/child.vhd
	expect_io chain d
	expect_exit 0 vspctl vm remove chain
	expect_quiet_journal
}

test_serves_block_devices() {
	local loop
	start_anew
	# Of a driver that comes only now.
	expect_exit 1 grep -q ramdisk /proc/devices
	modprobe brd rd_nr=1 rd_size=32768
	defer modprobe -r brd
	truncate -s 32M backing.raw
	loop=$(loop_on backing.raw)
	defer "losetup -d $loop"
	expect_exit 0 vspctl vm add block --disk ram=/dev/ram0,format=raw --disk "loop=$loop" \
		--disk spare=/dev/disk/by-id/virtio-spare,format=raw
	expect_io block ram
	expect_io block loop
	expect_io block spare
	expect_exit 0 vspctl vm remove block
	expect_quiet_journal
}

test_no_other_devices_are_there() {
	start_anew
	mknod /srv/mem c 1 1
	defer rm /srv/mem
	expect_exit 1 vspctl vm add device --disk d=/srv/mem
	expect_sentence /srv/mem
	cat "$err"
}

test_serves_from_what_is_mounted_later() {
	start_anew
	modprobe loop
	mkdir -p /late
	truncate -s 64M late.raw
	mke2fs -q -t ext4 late.raw
	mount -o loop late.raw /late
	defer 'umount /late'
	serve_from /late
	rm -f /late/place.vhd
	expect_exit 0 umount /late
	mount -o loop late.raw /late
	expect_quiet_journal
}

test_system_directories_are_only_read() {
	start_anew
	new_disk /usr/share/system.vhd
	expect_exit 1 vspctl vm add system --disk d=/usr/share/system.vhd
	expect_sentence /usr/share/system.vhd
	cat "$err"
	expect_exit 0 vspctl vm add system --disk d=/usr/share/system.vhd,readonly
	expect_exit 0 qemu-io -r -f raw -c 'read -P 0 0 1M' "nbd:unix:$sockets/system/d.nbd"
	expect_exit 0 vspctl vm remove system
}

# ---- Clients ----

test_copies_over_nbd() {
	start_anew
	new_disk /srv/copy.vhd
	expect_exit 0 vspctl vm add copy --disk d=/srv/copy.vhd
	head -c 16M /dev/urandom >in.raw
	expect_exit 0 nbdcopy --flush in.raw "nbd+unix:///?socket=$sockets/copy/d.nbd"
	expect_exit 0 nbdcopy "nbd+unix:///?socket=$sockets/copy/d.nbd" out.raw
	expect_same_file in.raw out.raw
	expect_exit 0 vspctl stats copy --json
	cat "$out"
	expect_exit 0 vspctl vm remove copy
	expect_contents /srv/copy.vhd in.raw
	expect_quiet_journal
}

test_serves_a_guest_under_load() {
	start_anew
	new_disk /srv/guest.vhd
	expect_exit 0 vspctl vm add guest --disk d=/srv/guest.vhd,cache=writeback
	expect_exit 0 "$HVKIT_ROOT/vhostload" --socket $sockets/guest/d.vhost --pattern randwrite \
		--seconds 2 --sleep --inflight
	expect_exit 0 vspctl vm remove guest
	expect_exit 0 vhdtool check /srv/guest.vhd
	expect_quiet_journal
}

test_sockets_belong_to_the_group_that_is_told() {
	start_anew
	new_user member kvm
	new_user stranger
	new_disk /srv/shared.vhd
	expect_exit 0 vspctl vm add shared --disk d=/srv/shared.vhd --set socket-group=kvm
	expect_equal "$(stat -c '%a %U %G' $sockets/shared/d.{nbd,vhost})" "660 root kvm
660 root kvm"
	expect_exit 0 as member nbdinfo --size "nbd+unix:///?socket=$sockets/shared/d.nbd"
	expect_exit 1 as stranger nbdinfo --size "nbd+unix:///?socket=$sockets/shared/d.nbd"
	sed -i /socket-group/d /etc/hvkit/vms/shared.conf
	expect_exit 0 systemctl reload vspd
	expect_exit 1 as member nbdinfo --size "nbd+unix:///?socket=$sockets/shared/d.nbd"
	expect_exit 0 vspctl vm remove shared
	expect_quiet_journal
}

# ---- Roles ----

test_members_of_the_group_may_do_everything() {
	start_anew
	new_user member hvkit
	new_disk /srv/member.vhd
	expect_exit 0 as member vspctl vm add mine --disk d=/srv/member.vhd
	expect_exit 0 as member vspctl vm list
	expect_out mine
	expect_exit 0 as member vspctl vm set mine iops=100
	expect_exit 0 as member vspctl stats mine
	expect_exit 0 as member vspctl vm remove mine
	grep -q "\"uid\": *$(id -u member)" /var/log/hvkit/audit.log || fail "$(cat /var/log/hvkit/audit.log)"
	expect_exit 1 as member cat /var/log/hvkit/audit.log
	expect_quiet_journal
}

test_others_are_told_what_they_lack() {
	start_anew
	new_user stranger
	new_disk /srv/d.vhd
	expect_exit 0 vspctl vm add web --disk d=/srv/d.vhd
	expect_exit 1 as stranger vspctl vm add mine --disk d=/srv/d.vhd
	expect_sentence "access denied: needs administrator on"
	expect_exit 1 as stranger vspctl vm show web
	expect_sentence "access denied: needs viewer on VM web"
	expect_exit 1 as stranger vspctl reload
	expect_sentence "access denied: needs operator"
	echo 'operator = user stranger on web' >/etc/hvkit/roles.conf
	expect_exit 0 systemctl reload vspd
	expect_exit 0 as stranger vspctl vm show web
	expect_exit 0 as stranger vspctl vm set web iops=10
	expect_exit 1 as stranger vspctl vm remove web
	expect_sentence "access denied: needs administrator on VM web"
	expect_exit 0 vspctl vm remove web
	expect_quiet_journal
}

test_group_that_is_made_later_is_found() {
	groupdel hvkit
	start_anew
	systemd-sysusers
	new_user member hvkit
	expect_exit 1 as member vspctl vm remove none
	expect_sentence "access denied"
	expect_exit 0 systemctl reload vspd
	expect_exit 1 as member vspctl vm remove none
	expect_sentence 'no VM "none"'
	expect_quiet_journal
}

# ---- Reloading, restarting, stopping ----

test_reload_follows_the_files() {
	start_anew
	new_disk /srv/a.vhd
	new_disk /srv/b.vhd
	expect_exit 0 vspctl vm add web --disk a=/srv/a.vhd
	printf '\n[disk b]\nfile = /srv/b.vhd\n' >>/etc/hvkit/vms/web.conf
	expect_exit 0 systemctl reload vspd
	expect_io web a
	expect_io web b
	expect_quiet_journal
	echo 'nonsense = 1' >/etc/hvkit/vms/bad.conf
	expect_exit 1 systemctl reload vspd
	expect_equal "$(systemctl is-active vspd)" active
	[[ $(journal) == *"bad.conf:1"* ]] || fail "the journal does not tell: $(journal)"
	expect_io web a
	rm /etc/hvkit/vms/bad.conf
	expect_exit 0 systemctl reload vspd
}

# bench VM DISK: writes until it is told to end, whatever becomes of vspd.
bench() {
	local disk=driver=nbd,server.type=unix,server.path=$sockets/$1/$2.nbd
	disk+=,reconnect-delay=60,open-timeout=60
	while [ ! -e enough ]; do
		qemu-img bench --image-opts -w -c 2000 -d 8 -s 4k -S 64k "$disk" || return
		echo round >>rounds
	done >bench.log 2>&1
}

start_load() {
	new_disk /srv/load.vhd
	expect_exit 0 vspctl vm add load --disk d=/srv/load.vhd,cache=writeback
	bench load d &
	load=$!
	await "load" test -s bench.log
}

expect_load_ended_well() { # [STATUS]: of check; who is killed may leave room that nothing uses
	touch enough
	wait $load || fail "the load failed: $(tail -n 1 bench.log)"
	expect_io load d
	expect_exit 0 vspctl vm remove load
	vhdtool check /srv/load.vhd || [ $? = "${1-0}" ] || fail "the disk is not sound"
}

test_restart_under_load_keeps_vms() {
	local runtime
	start_anew
	runtime=$(stat -c %i /run/hvkit)
	start_load
	for _ in 1 2 3; do
		sleep 1
		expect_exit 0 systemctl restart vspd
		kill -0 $load || fail "the load has ended: $(tail -n 1 bench.log)"
	done
	expect_equal "$(stat -c %i /run/hvkit)" "$runtime"
	expect_file $sockets/load/d.{nbd,vhost}
	expect_load_ended_well
	expect_quiet_journal
}

runs_other_than() { # PID: then its id is in $pid
	{ read -r pid </sys/fs/cgroup/system.slice/vspd.service/cgroup.procs; } 2>/dev/null &&
		[ "$pid" != "$1" ]
}

is_back() { # RESTARTS
	[ "$(show NRestarts) $(show ActiveState)" = "$1 active" ]
}

test_killed_often_it_is_back_each_time() {
	local pid=0
	start_anew
	start_load
	for _ in {1..12}; do
		await "another vspd" runs_other_than "$pid"
		kill -KILL "$pid"
	done
	await "vspd after 12 kills" is_back 12
	expect_exit 0 vspctl vm list
	expect_out load
	expect_load_ended_well 4
}

test_stop_under_load_leaves_sound_disks_and_nothing_else() {
	start_anew
	start_load
	sleep 1
	expect_exit 0 systemctl stop vspd
	expect_equal "$(show ActiveState) $(show Result)" "inactive success"
	expect_no_file /run/hvkit
	kill $load
	expect_exit 0 vhdtool check /srv/load.vhd
	expect_quiet_journal
	expect_exit 0 systemctl start vspd
	expect_io load d
	expect_exit 0 vspctl vm remove load
}

test_shutdown_by_vspctl_is_no_failure() {
	start_anew
	expect_exit 0 vspctl shutdown
	await "the end" test "$(show ActiveState)" = inactive
	sleep 1
	expect_equal "$(show ActiveState) $(show Result)" "inactive success"
	expect_quiet_journal
}
