#!/bin/bash
# vspctl and the daemon behind it, as root and as somebody else: VMs and disks come, change and go,
# faults stay where they are, and who may not is told so.
. "${BASH_SOURCE[0]%/*}/../lib.sh"
. "$HVKIT_ROOT/tests/vspd.sh"


disks() {
	vhdtool create -q --dynamic 16M system.vhd
	vhdtool create -q --fixed 8M data.vhd
}

# The value that a jq filter gives of a command's JSON.
ask() { # FILTER COMMAND...
	local filter=$1
	shift
	vspctl "$@" --json | jq -r "$filter"
}

# Sends lines to the control socket, prints what comes back.
say() {
	python3 -c '
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(sys.stdin.buffer.read())
s.shutdown(socket.SHUT_WR)
while True:
    data = s.recv(65536)
    if not data: break
    sys.stdout.buffer.write(data)' run/vspd.sock
}

test_needs_no_configuration_to_start() {
	need_tool jq
	start_daemon
	expect_equal "$(ask '.vms | length' vm list)" 0
	expect_file etc/vms run/vsp
	stop_vspd
	expect_no_file run/vspd.sock pid
	expect_quiet_vspd
}

test_without_vspd_there_is_a_sentence() {
	expect_exit 1 vspctl vm list
	expect_sentence "run/vspd.sock" "vspd is not running"
}

test_mistakes_of_the_command_line() {
	expect_exit 2 "$HVKIT_BUILD/bin/vspctl" vm
	expect_sentence "'vm' needs a command"
	expect_exit 2 vspctl vm ad
	expect_sentence "vm add"
	expect_exit 2 vspctl disk resize web data big
	expect_sentence big
	expect_exit 2 vspctl stats --watch=0
	expect_sentence "'0'"
}

test_a_vm_is_a_file_and_its_disks_are_sockets() {
	need_tool jq nbdinfo
	disks
	start_daemon
	expect_exit 0 vspctl vm add web --disk system=system.vhd --disk data=data.vhd,iops=2000 \
		--set iops=5000
	expect_equal "$(cat etc/vms/web.conf)" "iops = 5000

[disk system]
file = $PWD/system.vhd

[disk data]
file = $PWD/data.vhd
iops = 2000"
	expect_equal "$(stat -c %a run/vsp/web/data.{nbd,vhost} | tr '\n' ' ')" "600 600 "
	expect_equal "$(nbdinfo --size "nbd+unix:///data?socket=$run/vsp/web/data.nbd")" 8388608
	expect_exit 0 vspctl vm show web
	expect_out system "16 MiB" dynamic data fixed "iops 5000"
	expect_exit 0 vspctl vm list
	expect_out web ok
	expect_exit 0 vspctl vm remove web
	expect_no_file etc/vms/web.conf run/vsp/web
	expect_exit 0 vhdtool check system.vhd
	expect_exit 1 vspctl vm show web
	expect_sentence 'no VM "web"'
	stop_vspd
}

test_what_fails_leaves_everything_as_it_was() {
	need_tool jq
	disks
	start_daemon
	expect_exit 1 vspctl vm add web --disk system=system.vhd --disk data=missing.vhd
	expect_sentence data missing.vhd
	expect_no_file etc/vms/web.conf run/vsp/web
	expect_exit 1 vspctl vm add ../web
	expect_sentence '"../web"' letters
	expect_exit 1 vspctl vm add web --disk system.vhd
	expect_sentence "no name"
	expect_exit 1 vspctl vm add web --disk system=system.vhd,speed=1
	expect_sentence speed
	expect_exit 0 vspctl vm add web --disk system=system.vhd
	cp etc/vms/web.conf before
	expect_exit 1 vspctl vm add web
	expect_sentence already
	expect_exit 1 vspctl disk attach web data=missing.vhd
	expect_sentence missing.vhd
	expect_exit 1 vspctl disk attach web system=data.vhd
	expect_sentence already
	expect_exit 1 vspctl disk attach web again=system.vhd
	expect_sentence system.vhd
	expect_exit 1 vspctl disk set web system iops=many
	expect_sentence many
	expect_exit 1 vspctl disk set web system cache=writeback
	expect_sentence --reattach
	expect_exit 1 vspctl disk resize web system 1M
	expect_sentence shrink
	expect_exit 1 vspctl disk detach web data
	expect_sentence '"data"'
	expect_same_file etc/vms/web.conf before
	expect_equal "$(ask '.disks[] | .name + " " + .state' vm show web)" "system served"
	stop_vspd
}

test_disks_come_change_and_go_while_they_are_served() {
	need_tool jq qemu-io nbdinfo
	disks
	start_daemon
	vspctl vm add web --disk system=system.vhd
	expect_exit 0 vspctl disk attach web data=data.vhd,serial=S7
	qemu-io -f raw -c 'write -P 7 0 1M' "nbd:unix:$run/vsp/web/data.nbd" >/dev/null
	expect_exit 0 vspctl disk set web data iops=100 bandwidth=10M
	expect_equal "$(ask '.disks[1].limits | "\(.iops) \(.bandwidth)"' vm show web)" "100 10485760"
	expect_exit 0 vspctl disk set web data readonly=on --reattach
	expect_equal "$(ask '.disks[1] | "\(.state) \(.readonly)"' vm show web)" "served true"
	expect_exit 0 vspctl disk resize web system 20M
	expect_equal "$(nbdinfo --size "nbd+unix:///?socket=$run/vsp/web/system.nbd")" 20971520
	expect_exit 0 vspctl disk detach web data
	expect_no_file run/vsp/web/data.nbd run/vsp/web/data.vhost
	expect_exit 0 qemu-io -f vpc -c 'read -P 7 0 1M' data.vhd
	expect_out "read 1048576/1048576"
	expect_equal "$(ask '.disks | length' vm show web)" 1
	stop_vspd
	expect_exit 0 vhdtool check system.vhd
}

test_a_limit_holds_and_changes_while_it_does() {
	need_tool jq qemu-io
	disks
	start_daemon
	local reads=() i
	for i in $(seq 40); do
		reads+=(-c "aio_read -q ${i}k 1k")
	done
	vspctl vm add web --disk data=data.vhd,iops=20,iops-burst=1
	timeout 60 qemu-io -f raw "${reads[@]}" -c aio_flush \
		"nbd:unix:$run/vsp/web/data.nbd" >/dev/null 2>&1 &
	sleep 0.7
	[ "$(ask '.disks[0].read.operations' stats web)" -lt 30 ] || fail "the limit does not hold"
	expect_exit 0 vspctl disk set web data iops=0
	wait $!
	[ "$(ask '.disks[0].delayed' stats web)" -gt 0 ] || fail "nothing was delayed"
	stop_vspd
}

test_files_may_be_edited_by_hand() {
	need_tool jq
	disks
	start_daemon
	vspctl vm add web --disk system=system.vhd
	cat >>etc/vms/web.conf <<-END
		# by hand
		[disk data]
		file = $PWD/data.vhd
	END
	printf '[disk one]\nfile = %s/missing.vhd\n' "$PWD" >etc/vms/db.conf
	expect_exit 1 vspctl reload
	expect_sentence db one missing.vhd
	expect_equal "$(ask '[.disks[].state] | join(" ")' vm show web)" "served served"
	expect_exit 0 vspctl disk set web data iops=5
	grep -q '^# by hand$' etc/vms/web.conf || fail "the comment is gone"
	rm etc/vms/db.conf
	expect_exit 0 vspctl reload
	expect_equal "$(ask '[.vms[].name] | join(" ")' vm list)" web
	stop_vspd
}

test_a_file_that_is_changed_keeps_its_owner_and_mode() {
	need_root
	disks
	start_daemon
	vspctl vm add web --disk system=system.vhd
	chown 65534:65533 etc/vms/web.conf
	chmod 640 etc/vms/web.conf
	expect_exit 0 vspctl vm set web iops=5
	expect_equal "$(stat -c '%u:%g %a' etc/vms/web.conf)" "65534:65533 640"
	stop_vspd
	expect_quiet_vspd
}

test_a_broken_file_takes_nobody_down() {
	need_tool jq
	disks
	mkdir -p etc/vms
	printf '[disk a]\nfile = %s/system.vhd\n' "$PWD" >etc/vms/web.conf
	printf 'iops = 1\nspeed = 2\n' >etc/vms/bad.conf
	printf '\xff\x01' >etc/vms/worse.conf
	mkdir etc/vms/directory.conf
	start_daemon
	grep -q 'bad.conf:2: "speed" is no setting' "$vspd_err" || fail "not reported"
	expect_equal "$(ask '.disks[0].state' vm show web)" served
	expect_equal "$(ask '[.vms[] | select(.fault) | .name] | join(" ")' vm list)" \
		"bad directory worse"
	echo 'speed = 3' >>etc/vms/web.conf
	expect_exit 1 vspctl reload web
	expect_sentence "web.conf:3:"
	expect_equal "$(ask '.disks[0].state' vm show web)" served
	expect_exit 1 vspctl disk set web a iops=7
	expect_sentence "web.conf:3:"
	kill -HUP "$daemon"
	expect_exit 0 vspctl vm list
	stop_vspd
}

test_all_vms_are_back_after_kill_9() {
	need_tool jq qemu-io
	disks
	start_daemon
	vspctl vm add web --disk system=system.vhd
	vspctl vm add db --disk data=data.vhd
	qemu-io -f raw -c 'write -f -P 9 4k 64k' "nbd:unix:$run/vsp/web/system.nbd" >/dev/null
	kill -KILL "$daemon"
	wait "$daemon" 2>/dev/null || :
	rm pid
	expect_file run/vspd.sock run/vsp/web/system.nbd
	start_daemon
	expect_equal "$(ask '[.vms[] | .name + "=" + .disks[0].state] | join(" ")' vm list)" \
		"db=served web=served"
	expect_exit 0 qemu-io -f raw -c 'read -P 9 4k 64k' "nbd:unix:$run/vsp/web/system.nbd"
	expect_out "read 65536/65536"
	stop_vspd
}

test_a_second_vspd_is_refused() {
	start_daemon
	expect_exit 1 "$HVKIT_BUILD/bin/vspd" --config-dir "$PWD/etc" --runtime-dir "$run" \
		--audit-log "$PWD/audit.log"
	expect_sentence "$run/vspd.sock" "listens there already"
	expect_exit 0 vspctl vm list
	stop_vspd
}

test_drain_gives_the_files_back_until_reload() {
	need_tool jq
	disks
	start_daemon
	vspctl vm add web --disk system=system.vhd
	vspctl vm add db --disk data=data.vhd
	expect_exit 1 vhdtool resize system.vhd 32M
	expect_exit 0 vspctl drain web
	expect_exit 0 vhdtool resize system.vhd 32M
	expect_equal "$(ask '[.vms[].disks[].state] | join(" ")' vm list)" "served absent"
	expect_exit 0 vspctl reload
	expect_equal "$(ask '.disks[0].size_bytes' vm show web)" 33554432
	expect_exit 0 vspctl drain
	expect_equal "$(ask '[.vms[].disks[].state] | join(" ")' vm list)" "absent absent"
	stop_vspd
}

test_events_and_the_audit_log_tell_what_happened() {
	need_tool jq
	disks
	start_daemon
	"$HVKIT_BUILD/bin/vspctl" events --json --socket run/vspd.sock >events &
	sleep 0.3
	vspctl vm add web --disk system=system.vhd
	expect_exit 1 vspctl vm remove db
	vspctl vm remove web
	vspctl shutdown
	wait "$daemon" || fail "status $?"
	wait
	expect_equal "$(jq -r '.event + " " + .vm' events | sort | tr '\n' ',')" \
		"disk.attached web,disk.detached web,vm.added web,vm.removed web,"
	expect_equal "$(jq -r '"\(.uid) \(.request.command) \(.result)"' audit.log)" \
		"$(id -u) vm.add ok
$(id -u) vm.remove there is no VM \"db\"
$(id -u) vm.remove ok
$(id -u) shutdown ok"
	expect_equal "$(stat -c %a audit.log)" 600
}

test_stats_are_told_in_three_ways() {
	need_tool jq qemu-io
	disks
	start_daemon
	vspctl vm add web --disk system=system.vhd
	qemu-io -f raw -c 'write 0 1M' -c 'write 1M 1M' "nbd:unix:$run/vsp/web/system.nbd" >/dev/null
	expect_equal "$(ask '.disks[0].write | "\(.operations) \(.bytes) \(.errors)"' stats)" "2 2097152 0"
	expect_exit 0 vspctl stats web
	expect_out write "2 MiB"
	expect_exit 0 vspctl stats --prometheus
	expect_out 'hvkit_disk_operations_total{vm="web",disk="system",op="write"} 2' \
		'hvkit_disk_latency_seconds_bucket{vm="web",disk="system",op="write",up_to_bytes="1048576",le="+Inf"} 2' \
		'# TYPE hvkit_disk_latency_seconds histogram'
	stop_vspd
}

test_qemu_is_told_how() {
	disks
	start_daemon
	vspctl vm add web --disk "system=system.vhd,serial=A&B" --disk data=data.vhd,readonly
	expect_exit 0 vspctl qemu-args web --memory 2G --queues 4
	expect_equal "$(cat "$out")" "-m 2048M
-object memory-backend-memfd,id=vsp-memory,size=2048M,share=on
-machine memory-backend=vsp-memory
-chardev socket,id=vsp-system,path=$run/vsp/web/system.vhost,reconnect=1
-device vhost-user-blk-pci,id=system,chardev=vsp-system,num-queues=4
-chardev socket,id=vsp-data,path=$run/vsp/web/data.vhost,reconnect=1
-device vhost-user-blk-pci,id=data,chardev=vsp-data,num-queues=4"
	expect_exit 0 vspctl qemu-args web --libvirt
	expect_out "<access mode='shared'/>" "<disk type='vhostuser'" \
		"<source type='unix' path='$run/vsp/web/data.vhost'>" "queues='1'" "vdb"
	expect_exit 0 vspctl qemu-args web --nbd
	expect_out "server.path=$run/vsp/web/system.nbd,export=system" "drive=vsp1" \
		"read-only=on" "'virtio-blk-pci,id=system,drive=vsp0,num-queues=1,serial=A&B'"
	expect_exit 0 vspctl qemu-args web --nbd --libvirt
	expect_out "socket='$run/vsp/web/data.nbd'" "<readonly/>" "<serial>A&#38;B</serial>" "vdb"
	expect_exit 0 vspctl qemu-args web --nbd --json
	expect_json '.arguments | length == 8 and .[6] == "-device"'
	expect_exit 2 vspctl qemu-args web --queues 65
	expect_sentence "1 to 64"
	expect_exit 2 vspctl qemu-args web --memory 1000K
	expect_sentence "1M"
	expect_exit 0 vspctl drain web
	expect_exit 1 vspctl qemu-args web
	expect_sentence '"system" is not being served'
	stop_vspd
}

test_who_may_not_is_told_what_is_missing() {
	need_root
	need_tool jq
	disks
	chmod 755 . # the socket is for everybody, below directories that are
	install -m 755 "$HVKIT_BUILD/bin/vspctl" vspctl
	mkdir -p etc
	printf 'operator = user 65534 on web\nviewer = user 65534 on db\n' >etc/roles.conf
	start_daemon
	vspctl vm add web --disk system=system.vhd
	vspctl vm add db --disk data=data.vhd
	vspctl vm add secret
	ordinary() {
		setpriv --reuid=65534 --regid=65534 --clear-groups -- ./vspctl "$@" --socket run/vspd.sock
	}
	expect_exit 0 ordinary vm list --json
	expect_json '[.vms[].name] == ["db", "web"]'
	expect_exit 0 ordinary disk set web system iops=9
	expect_exit 1 ordinary disk set db data iops=9
	expect_sentence "access denied: needs operator on VM db"
	expect_exit 1 ordinary disk set web system readonly=on --reattach
	expect_sentence "access denied: needs administrator on VM web"
	expect_exit 1 ordinary disk attach web x=/etc/passwd
	expect_sentence "access denied: needs administrator on VM web"
	expect_exit 1 ordinary vm show secret
	expect_sentence "access denied: needs viewer on VM secret"
	expect_exit 1 ordinary vm show nothing
	expect_sentence "access denied: needs viewer on VM nothing"
	expect_exit 1 ordinary shutdown
	expect_sentence "access denied: needs administrator on all VMs"
	expect_exit 1 ordinary drain
	expect_sentence "access denied: needs operator on all VMs"
	expect_equal "$(jq -r 'select(.uid == 65534) | .request.command + ": " + .result' audit.log | tail -n 1)" \
		"drain: access denied: needs operator on all VMs"
	echo 'operator = friends' >>etc/roles.conf
	rm etc/roles.conf
	vspctl reload
	expect_exit 1 ordinary disk set web system iops=9
	expect_sentence "access denied: needs operator on VM web"
	stop_vspd
}

test_roles_with_a_fault_are_nobodys() {
	need_root
	mkdir -p etc
	printf 'viewer = everybody\noperator = friends\n' >etc/roles.conf
	install -m 755 "$HVKIT_BUILD/bin/vspctl" vspctl
	start_daemon
	grep -q 'roles.conf:2: "friends": user NAME' "$vspd_err" || fail "not reported"
	vspctl vm add web
	expect_exit 1 setpriv --reuid=65534 --regid=65534 --clear-groups -- ./vspctl vm show web \
		--socket run/vspd.sock
	expect_sentence "access denied"
	stop_vspd
}

test_an_ordinary_user_has_a_vspd_of_his_own() {
	need_root
	need_tool jq
	disks
	install -m 755 "$HVKIT_BUILD/bin/vspctl" vspctl
	install -m 755 "$HVKIT_BUILD/bin/vspd" vspd
	mkdir home
	short_directory runtime
	chown 65534 . home runtime ./*.vhd
	his() {
		setpriv --reuid=65534 --regid=65534 --clear-groups -- env -i HOME="$PWD/home" \
			XDG_RUNTIME_DIR="$(realpath runtime)" PATH="$PATH" \
			ASAN_OPTIONS="${ASAN_OPTIONS-}" "$@"
	}
	his ./vspd --pidfile pid 2>>"$vspd_err" &
	daemon=$!
	await_vspd
	expect_exit 0 his ./vspctl vm add web --disk system=system.vhd
	expect_file home/.config/hvkit/vms/web.conf runtime/hvkit/vsp/web/system.nbd \
		home/.local/state/hvkit/audit.log
	expect_exit 0 his ./vspctl vm list --json
	expect_json '.vms[0].disks[0].state == "served"'
	expect_exit 0 his ./vspctl shutdown
	wait "$daemon" || fail "status $?"
}

test_the_group_of_a_vm_may_connect() {
	need_root
	disks
	start_daemon
	expect_exit 1 vspctl vm add web --disk system=system.vhd --set socket-group=no-such-group
	expect_sentence "no-such-group"
	expect_exit 0 vspctl vm add web --disk system=system.vhd --set socket-group=daemon
	expect_equal "$(stat -c '%a %G' run/vsp/web/system.*)" "660 daemon
660 daemon"
	expect_exit 1 vspctl vm set web socket-group= iops=
	expect_sentence '"iops" is not set'
	expect_equal "$(ask .socket_group vm show web)" daemon
	expect_exit 0 vspctl vm set web socket-group=
	expect_equal "$(ask .socket_group vm show web)" null
	expect_equal "$(stat -c %a "$run/vsp/web/system.nbd")" 600
	expect_exit 0 vspctl vm set web socket-group=adm
	expect_equal "$(stat -c '%a %G' run/vsp/web/system.*)" "660 adm
660 adm"
	stop_vspd
}

test_hostile_lines_are_answered() {
	need_tool jq
	start_daemon
	printf '%s\n' '' '[' '{}' '{"command":1}' '{"command":"fly"}' '{"command":"vm.show"}' \
		'{"command":"vm.show","vm":7}' '{"command":"reload","vm":"../../x"}' \
		'{"command":"vm.add","vm":"a","disks":7}' '{"command":"vm.add","vm":"a","disks":[7]}' \
		'{"command":"disk.resize","vm":"a"}' '{"command":"ping"}' | say >answers
	expect_equal "$(jq -r '.code // "ok"' answers | tr '\n' ' ')" \
		"EINVAL EINVAL EINVAL EINVAL ENOSYS EINVAL EINVAL EINVAL EINVAL EINVAL ENOENT ok "
	head -c 100000 /dev/zero | tr '\0' x | say >answers || :
	python3 -c 'print("[" * 60000)' | say >answers
	expect_exit 0 vspctl vm list
	stop_vspd
}

test_several_commands_may_be_sent_at_once() {
	need_tool jq
	start_daemon
	printf '{"command":"drain"}\n{"command":"reload"}\n{"command":"drain"}\n{"command":"ping"}\n' |
		say >answers
	expect_equal "$(jq -r '.ok' answers | tr '\n' ' ')" "true true true true "
	stop_vspd
}

test_a_crowd_of_clients_does_no_harm() {
	start_daemon
	python3 -c '
import socket, sys
held = []
for i in range(200):
    s = socket.socket(socket.AF_UNIX)
    s.setblocking(False)
    try:
        s.connect(sys.argv[1])
        s.send(b"{\"command\": \"events\"}\n{\"comm")
    except OSError:
        pass
    held.append(s)' run/vspd.sock
	expect_exit 0 timeout 10 "$HVKIT_BUILD/bin/vspctl" vm list --socket run/vspd.sock
	stop_vspd
}

# ---- Storage that fails ----

# A small filesystem in "small", most of it taken by a file.
small_fs() {
	new_fs ext4 48M small -m 0
	fallocate -l 32M small/ballast
}

test_a_disk_without_space_stops_until_there_is_some() {
	need_tool jq qemu-io
	small_fs
	vhdtool create -q --dynamic 64M small/d.vhd
	start_daemon
	vspctl vm add web --disk data=small/d.vhd,on-error=stop
	"$HVKIT_BUILD/bin/vspctl" events --json --socket run/vspd.sock >events &
	local url="nbd:unix:$run/vsp/web/data.nbd" writing
	timeout 60 qemu-io -f raw -c 'write -P 1 0 8M' -c 'write -P 2 8M 16M' -c flush "$url" >written 2>&1 &
	writing=$!
	for _ in $(seq 300); do
		[ "$(ask '.disks[0].state' vm show web)" != stopped ] || break
		sleep 0.05
	done
	expect_exit 0 vspctl vm show web
	expect_out stopped "d.vhd"
	expect_exit 0 vspctl stats --prometheus
	expect_out 'hvkit_disk_stopped{vm="web",disk="data"} 1'
	[ "$(ask '.disks[0].kept' stats web)" -gt 0 ] || fail "nothing is kept"
	expect_exit 0 vspctl disk resume web data
	sleep 0.3
	expect_equal "$(ask '.disks[0].state' vm show web)" stopped "nothing has changed"
	kill -0 $writing || fail "the client does not wait: $(cat written)"
	rm small/ballast
	wait $writing || fail "the client failed: $(cat written)"
	! grep -i error written || fail "the client was told"
	expect_equal "$(ask '.disks[0].state' vm show web)" served
	expect_exit 1 vspctl disk resume web data
	expect_sentence "has not stopped"
	stop_vspd
	expect_equal "$(jq -r 'select(.disk) | .event' events | uniq | tr '\n' ' ')" \
		"disk.stopped disk.resumed "
	expect_exit 0 vhdtool check small/d.vhd
	expect_exit 0 qemu-io -f vpc -r -c 'read -P 1 0 8M' -c 'read -P 2 8M 16M' small/d.vhd
	! grep -i fail "$out" || fail "not what was written"
}

test_a_disk_without_space_reports_it_unless_told_otherwise() {
	need_tool jq qemu-io
	small_fs
	vhdtool create -q --dynamic 64M small/d.vhd
	start_daemon
	vspctl vm add web --disk data=small/d.vhd
	qemu-io -f raw -c 'write 0 24M' "nbd:unix:$run/vsp/web/data.nbd" >written 2>&1 || :
	grep -q "No space left" written || fail "the client was not told: $(cat written)"
	expect_equal "$(ask '.disks[0].state' vm show web)" served
	expect_equal "$(ask '.disks[0].coalesce' vm show web)" true
	expect_exit 0 vspctl disk set web data on-error=stop coalesce=off
	expect_equal "$(ask '.disks[0].on_error' vm show web)" stop
	expect_equal "$(ask '.disks[0].coalesce' vm show web)" false
	expect_exit 1 vspctl disk set web data on-error=ignore
	expect_sentence "report or stop"
	stop_vspd
	expect_exit 0 vhdtool check small/d.vhd
}

test_a_stopped_disk_can_be_drained_and_its_client_asks_again() {
	need_tool jq qemu-io
	small_fs
	vhdtool create -q --dynamic 64M small/d.vhd
	start_daemon
	vspctl vm add web --disk data=small/d.vhd,on-error=stop
	timeout 60 qemu-io -c 'write -P 3 0 24M' -c flush \
		"json:{\"driver\":\"nbd\",\"server.type\":\"unix\",\"server.path\":\"$run/vsp/web/data.nbd\",
		\"export\":\"data\",\"reconnect-delay\":\"30\"}" >written 2>&1 &
	local writing=$!
	for _ in $(seq 300); do
		[ "$(ask '.disks[0].state' vm show web)" != stopped ] || break
		sleep 0.05
	done
	expect_exit 0 timeout 10 "$HVKIT_BUILD/bin/vspctl" drain web --socket run/vspd.sock
	expect_exit 0 vhdtool check small/d.vhd
	rm small/ballast
	expect_exit 0 vspctl reload web
	wait $writing || fail "the client failed: $(cat written)"
	! grep -i error written || fail "the client was told"
	stop_vspd
	expect_exit 0 qemu-io -f vpc -r -c 'read -P 3 0 24M' small/d.vhd
	! grep -i fail "$out" || fail "not what was written"
}
