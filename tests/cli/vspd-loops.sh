#!/bin/bash
# vspd with several I/O loops: what is where, and that nothing is lost, mixed up or left behind when
# all of them are busy at once. nbd_load.py knows what each block of a disk must hold.
. "${BASH_SOURCE[0]%/*}/../lib.sh"
. "$HVKIT_ROOT/tests/vspd.sh"

load_py=$HVKIT_ROOT/tests/cli/nbd_load.py
seconds=${HVKIT_LOAD_SECONDS:-2}

finish() { # [SIGNAL]
	stop_vspd "$@"
	expect_quiet_vspd
}

# The value that a jq filter gives of a command's JSON.
ask() { # FILTER COMMAND...
	local filter=$1
	shift
	vspctl "$@" --json | jq -r "$filter"
}

# vm NUMBER...: each with a disk "a", dynamic or fixed.
vms() {
	local i
	for i; do
		[ -e "$i.vhd" ] || vhdtool create -q "$([ $((i % 2)) = 0 ] && echo --fixed || echo --dynamic)" 4M "$i.vhd"
		vspctl vm add "vm$i" --disk "a=$i.vhd"
	done
}

# load SECONDS SOCKET EXPORT STATE: in the background; adds to $loads.
load() {
	rm -f "$4.busy"
	python3 "$load_py" load "$2" "$3" "$4" "$1" >"$4.out" 2>"$4.err" &
	loads+=" $!"
}

# Loads 1 to 4 of 60 s on the VMs 1 to 4, until all of them are at it and a little longer.
load_vms() {
	local i
	for i in 1 2 3 4; do
		load 60 "run/vsp/vm$i/a.nbd" a "state$i"
	done
	for i in 1 2 3 4; do
		for _ in $(seq 500); do
			[ ! -e "state$i.busy" ] || break
			sleep 0.02
		done
		expect_file "state$i.busy"
	done
	sleep "0.$((RANDOM % 5 + 3))"
}

# Each client did its time, or with an argument may have seen the server go.
await_loads() { # [GONE]
	local pid rc
	for pid in $loads; do
		rc=0
		wait "$pid" || rc=$?
		[ "$rc" = 0 ] || [ "$rc" = "${1-0}" ] || fail "a client ended with $rc: $(tail -qn 2 ./*.err)"
	done
	loads=
}

verify() { # SOCKET EXPORT STATE
	expect_exit 0 python3 "$load_py" verify "$@"
}

threads() {
	cat "/proc/$daemon/task/"*/comm | grep -c '^vspd-io-'
}

loops_of() { # VM
	ask '[.disks[] | .loop // "-" | tostring] | join(" ")' vm show "$1"
}

test_disks_go_where_there_are_fewest() {
	need_tool jq
	local i
	for i in 0 1 2 3 4 5; do
		vhdtool create -q --dynamic 4M $i.vhd
	done
	start_daemon --loops 3
	expect_equal "$(threads)" 3
	vspctl vm add web --disk a=0.vhd --disk b=1.vhd
	expect_equal "$(loops_of web)" "0 1"
	vspctl vm add db --disk a=2.vhd
	expect_equal "$(loops_of db)" 2
	vspctl disk attach db b=3.vhd
	vspctl disk attach db c=4.vhd
	expect_equal "$(loops_of db)" "2 0 1"
	vspctl drain db
	expect_equal "$(loops_of db)" "- - -"
	vspctl vm add mail --disk a=5.vhd
	expect_equal "$(loops_of mail)" 2
	vspctl reload db
	expect_equal "$(loops_of db)" "0 1 2"
	vspctl vm remove web
	vspctl vm add web --disk a=0.vhd --disk b=1.vhd
	expect_equal "$(loops_of web)" "0 1"
	finish
}

test_there_is_a_loop_for_each_processor() {
	vhdtool create -q --dynamic 4M d.vhd
	start_daemon
	expect_equal "$(threads)" "$(nproc)"
	finish
	expect_exit 2 "$HVKIT_BUILD/bin/vspd" --loops 0
	expect_sentence '"0"' 64
	expect_exit 2 "$HVKIT_BUILD/bin/vspd" --disk d.vhd --nbd unix:s --loops many
	expect_sentence '"many"'
	# Without VMs, no more than there are disks.
	start_vspd --disk d.vhd --nbd unix:s --loops 4
	expect_equal "$(threads)" 1
	finish
}

test_all_loops_serve_while_everything_changes() {
	need_tool jq
	local i loads=
	start_daemon --loops 3
	vms 1 2 3 4
	vhdtool create -q --dynamic 4M extra.vhd
	for i in 1 2 3 4; do
		load "$((seconds * 2))" "run/vsp/vm$i/a.nbd" a "state$i"
	done
	for i in 1 2 3 4 1 2 3 4; do
		vspctl disk set "vm$i" a iops=$((i * 2000))
		vspctl disk attach "vm$i" b=extra.vhd
		vspctl stats >/dev/null
		vspctl vm set "vm$i" bandwidth=100M
		vspctl disk resize "vm$i" b $((4 + i))M 2>/dev/null || :
		vspctl stats --prometheus >/dev/null
		vspctl disk detach "vm$i" b
		vspctl disk set "vm$i" a iops=0
		vspctl vm list >/dev/null
	done
	await_loads
	for i in 1 2 3 4; do
		[ "$(ask '.disks[0].write.operations' stats "vm$i")" -gt 0 ] || fail "vm$i did nothing"
		verify "run/vsp/vm$i/a.nbd" a "state$i"
	done
	finish
	for i in 1 2 3 4 extra; do
		expect_exit 0 vhdtool check "$i.vhd"
	done
}

test_one_socket_has_disks_of_several_loops() {
	local i disks=() loads=
	for i in 1 2 3 4 5; do
		vhdtool create -q --dynamic 4M $i.vhd
		disks+=(--disk "d$i=$i.vhd")
	done
	start_vspd "${disks[@]}" --nbd unix:s --loops 3
	expect_equal "$(threads)" 3
	for i in 1 2 3 4 5; do
		load "$seconds" s "d$i" "state$i"
	done
	await_loads
	for i in 1 2 3 4 5; do
		verify s "d$i" "state$i"
	done
	finish
	for i in 1 2 3 4 5; do
		expect_exit 0 vhdtool check $i.vhd
	done
}

# More clients than are served at once, on disks of both loops: the others wait, and come in when some leave.
test_the_bound_on_clients_is_one_for_all_loops() {
	local before
	vhdtool create -q --dynamic 4M 1.vhd
	vhdtool create -q --dynamic 4M 2.vhd
	start_vspd --disk d1=1.vhd --disk d2=2.vhd --nbd unix:s --loops 2
	python3 "$load_py" verify s d1 none
	before=$(find "/proc/$daemon/fd" -type l | wc -l)
	expect_exit 0 python3 -c '
import socket, struct
def client(number):
    s = socket.socket(socket.AF_UNIX)
    s.connect("s")
    s.settimeout(30)
    name = b"d%d" % (number % 2 + 1)
    option = struct.pack(">I", len(name)) + name + b"\0\0"
    s.sendall(struct.pack(">IQII", 3, 0x49484156454F5054, 7, len(option)) + option)
    return s
def flush(s):
    s.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 3, 0, 0, 0))
    answer(s)
def answer(s):
    got = b""
    while b"\x67\x44\x66\x98" not in got:
        more = s.recv(65536)
        assert more
        got += more
served = [client(i) for i in range(256)]
for s in served:
    flush(s)
waiting = [client(i) for i in range(40)]
waiting[0].settimeout(0.3)
try:
    flush(waiting[0])
    raise SystemExit("more than 256 are served")
except TimeoutError:
    pass
for s in served[:40]:
    s.close()
waiting[0].settimeout(30)
for s in waiting[1:]:
    flush(s)
answer(waiting[0])'
	for _ in $(seq 100); do
		[ "$(find "/proc/$daemon/fd" -type l | wc -l)" != "$before" ] || break
		sleep 0.05
	done
	expect_equal "$(find "/proc/$daemon/fd" -type l | wc -l)" "$before" descriptors
	finish
}

test_clients_come_and_go_on_all_loops() {
	local i disks=() before peers=
	for i in 1 2 3; do
		vhdtool create -q --dynamic 4M $i.vhd
		disks+=(--disk "d$i=$i.vhd")
	done
	start_vspd "${disks[@]}" --nbd unix:s --loops 3
	for i in 1 2 3; do
		python3 "$load_py" verify s "d$i" none
	done
	before=$(find "/proc/$daemon/fd" -type l | wc -l)
	for i in 1 2 3 1 2 3; do
		(
			for _ in $(seq 8); do
				timeout -s KILL "0.$((RANDOM % 4 + 2))" \
					python3 "$load_py" load s "d$i" "gone$BASHPID" 9 >/dev/null 2>&1 || :
			done
		) &
		peers+=" $!"
	done
	wait $peers
	for _ in $(seq 100); do
		[ "$(find "/proc/$daemon/fd" -type l | wc -l)" != "$before" ] || break
		sleep 0.05
	done
	expect_equal "$(find "/proc/$daemon/fd" -type l | wc -l)" "$before" descriptors
	finish
	for i in 1 2 3; do
		expect_exit 0 vhdtool check $i.vhd
	done
}

test_kill_9_under_load_loses_nothing_that_was_flushed() {
	local i round loads=
	start_daemon --loops 3
	vms 1 2 3 4
	for round in 1 2 3; do
		load_vms
		kill -KILL "$daemon"
		wait "$daemon" 2>/dev/null || :
		await_loads 3
		start_daemon --loops "$round"
		for i in 1 2 3 4; do
			verify "run/vsp/vm$i/a.nbd" a "state$i"
			rm "state$i"
			vspctl vm remove "vm$i"
			rm "$i.vhd"
		done
		vms 1 2 3 4
	done
	finish
}

test_drain_and_sigterm_under_load() {
	need_tool jq
	local i loads=
	start_daemon --loops 2
	vms 1 2 3 4
	load_vms
	expect_exit 0 timeout 20 "$HVKIT_BUILD/bin/vspctl" drain --socket run/vspd.sock
	await_loads 3
	for i in 1 2 3 4; do
		expect_exit 0 vhdtool check "$i.vhd"
	done
	vspctl reload
	for i in 1 2 3 4; do
		verify "run/vsp/vm$i/a.nbd" a "state$i"
		rm "state$i"
		vspctl vm remove "vm$i"
		rm "$i.vhd"
	done
	vms 1 2 3 4
	load_vms
	finish
	await_loads 3
	for i in 1 2 3 4; do
		expect_exit 0 vhdtool check "$i.vhd"
	done
}

# A client of the second loop that takes nothing is cut off in the end.
test_it_ends_though_a_client_of_another_loop_takes_nothing() {
	vhdtool create -q --dynamic 4M 1.vhd
	vhdtool create -q --fixed 64M 2.vhd
	start_vspd --disk d1=1.vhd --disk d2=2.vhd --nbd unix:s --loops 2
	python3 -c '
import socket, struct, time
s = socket.socket(socket.AF_UNIX)
s.connect("s")
option = struct.pack(">I", 2) + b"d2" + b"\0\0"
s.sendall(struct.pack(">IQII", 3, 0x49484156454F5054, 7, len(option)) + option)
s.settimeout(0.3)
try:
    while True:
        s.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, 0, 0, 1 << 20))
except TimeoutError:
    open("full", "w")
time.sleep(60)' &
	for _ in $(seq 500); do
		[ ! -e full ] || break
		sleep 0.02
	done
	expect_file full
	finish
	kill $!
}

test_a_disk_is_read_by_vms_of_several_loops() {
	need_tool jq nbdcopy
	local pids=
	noise 4M 5 >model
	vhdtool convert -q --to dynamic model d.vhd
	start_daemon --loops 2
	vspctl vm add one --disk a=d.vhd,readonly
	vspctl vm add two --disk a=d.vhd,readonly
	expect_equal "$(loops_of one) $(loops_of two)" "0 1"
	for _ in 1 2 3; do
		for vm in one two; do
			nbdcopy "nbd+unix:///a?socket=$run/vsp/$vm/a.nbd" "$vm" &
			pids+=" $!"
		done
		for pid in $pids; do
			wait "$pid"
		done
		pids=
		cmp model one
		cmp model two
	done
	finish
}

# ---- What takes time ----

# slowly CALLS FILE: from now on each of the daemon's CALLS on FILE takes a second.
slowly() {
	need_tool strace
	strace -o /dev/null true 2>"$err" || skip "needs to trace: $(tail -n 1 "$err")"
	strace -qq -f -o trace -p "$daemon" -P "$(realpath "$2")" -e trace="$1" \
		-e inject="$1:delay_enter=1000000" 2>strace.err &
	tracer=$!
	while grep -q 'TracerPid:.0$' "/proc/$daemon/status"; do
		kill -0 $tracer 2>/dev/null || fail "strace: $(cat strace.err)"
		sleep 0.02
	done
}

at_full_speed() {
	kill -INT $tracer
	wait $tracer || :
	grep -q DELAYED trace || fail "nothing was slow: $(cat trace)"
}

# Reads of another disk come and go while the command does not come to its end.
expect_others_go_on() { # COMMAND...
	local reads=0 command
	"$@" >command.out 2>&1 &
	command=$!
	while kill -0 $command 2>/dev/null; do
		timeout 10 qemu-io -f raw -r -c 'read 0 4k' nbd:unix:run/vsp/vm1/a.nbd:exportname=a >read.out 2>&1 ||
			fail "cannot read: $(cat read.out)"
		reads=$((reads + 1))
	done
	wait $command || fail "$*: $(cat command.out)"
	[ $reads -ge 4 ] || fail "only $reads reads"
}

test_a_disk_that_opens_slowly_holds_up_nobody() {
	need_tool qemu-io
	start_daemon --loops 1
	vms 1
	vhdtool create -q --dynamic 4M slow.vhd
	slowly openat slow.vhd
	expect_others_go_on vspctl vm add slow --disk a=slow.vhd
	at_full_speed
	expect_equal "$(ask '.disks[0].state' vm show slow)" served
	finish
}

# Nobody looks into it meanwhile: a map of it says that there is data everywhere.
test_a_disk_that_grows_slowly_holds_up_nobody_else() {
	local i reader mapper
	need_tool qemu-io nbdinfo
	start_daemon --loops 1
	vms 1 2 3
	for i in 2 3; do
		qemu-io -f raw -c 'write -P 7 1M 64k' "nbd:unix:run/vsp/vm$i/a.nbd:exportname=a" >write.out 2>&1 ||
			fail "cannot write: $(cat write.out)"
		slowly pwrite64,fallocate,ftruncate "$i.vhd"
		(sleep 0.5 && qemu-io -f raw -c 'read -P 7 1M 64k' -c 'write -P 8 2M 64k' \
			"nbd:unix:run/vsp/vm$i/a.nbd:exportname=a") >client.out 2>&1 &
		reader=$!
		(sleep 0.5 && nbdinfo --map "nbd+unix:///a?socket=$run/vsp/vm$i/a.nbd") >map.out 2>&1 &
		mapper=$!
		expect_others_go_on vspctl disk resize "vm$i" a 16G
		wait $mapper || fail "no map: $(cat map.out)"
		expect_equal "$(tr -s ' ' <map.out)" " 0 4194304 0 data"
		wait $reader || fail "its own client: $(cat client.out)"
		! grep -i fail client.out || fail "its own client reads something else"
		at_full_speed
		qemu-io -f raw -c 'write -P 9 15G 64k' "nbd:unix:run/vsp/vm$i/a.nbd:exportname=a" >write.out 2>&1 ||
			fail "cannot write where it has grown: $(cat write.out)"
	done
	finish
	for i in 2 3; do
		expect_exit 0 vhdtool check "$i.vhd"
		expect_equal "$(vhdtool info --json "$i.vhd" | jq .size_bytes)" $((16 << 30))
	done
}
