#!/bin/bash
# Limits on disks that are served, with a real clock and a real client; tests/unit/vsp-storage/qos.c
# counts exactly, by a clock of its own.
. "${BASH_SOURCE[0]%/*}/../lib.sh"
. "$HVKIT_ROOT/tests/vspd.sh"

finish() { # [SIGNAL]
	stop_vspd "$@"
	expect_quiet_vspd
}

# load DISK COUNT: so many writes of 4 KiB, 32 at once.
load() {
	qemu-img bench -q -w -c "$2" -d 32 -s 4k -f raw "nbd:unix:run/vsp/web/$1.nbd"
}

# count DISK KEY: of vspctl stats.
count() {
	vspctl stats web --json | jq ".disks[] | select(.disk == \"$1\") | $2"
}

test_a_noisy_disk_is_held_and_a_quiet_one_is_not() {
	need_tool qemu-img jq
	local start end done
	vhdtool create -q --fixed 64M noisy.vhd
	vhdtool create -q --fixed 64M quiet.vhd
	start_daemon
	vspctl vm add web --disk "noisy=$PWD/noisy.vhd,cache=writeback,iops=300,iops-burst=30" \
		--disk "quiet=$PWD/quiet.vhd,cache=writeback,iops-min=1000" >/dev/null
	start=$(date +%s%N)
	load noisy 1000000 &
	client=$!
	load quiet 2000
	sleep 2
	done=$(count noisy .write.operations)
	end=$(date +%s%N)
	[ "$done" -gt 50 ] || fail "the noisy disk did $done operations only"
	[ "$done" -le $((30 + 300 * (end - start) / 1000000000 + 1)) ] ||
		fail "the noisy disk did $done operations in $(((end - start) / 1000000)) ms"
	[ "$(count noisy .delayed)" -gt 0 ]
	[ "$(count noisy .held)" -gt 0 ]
	[ "$(count quiet .write.operations)" -ge 2000 ]

	# Without the limit, what waited goes; then much more.
	vspctl disk set web noisy iops=0 iops-burst=0
	for _ in $(seq 200); do
		[ "$(count noisy .write.operations)" -lt $((done + 2000)) ] || break
		sleep 0.1
	done
	[ "$(count noisy .write.operations)" -ge $((done + 2000)) ] || fail "it is still held"
	kill $client
	wait $client || true
	finish
}

test_limits_of_vspd_without_a_daemon() {
	need_tool qemu-img
	local start
	vhdtool create -q --fixed 8M d.vhd
	start_vspd --disk d.vhd,iops=100,iops-burst=10 --nbd unix:s
	start=$(date +%s%N)
	qemu-img bench -q -w -c 110 -d 16 -s 4k -f raw "nbd:unix:$PWD/s"
	[ $(($(date +%s%N) - start)) -ge 900000000 ] || fail "110 operations were too fast"
	finish
}

test_mistakes_are_sentences() {
	vhdtool create -q --fixed 8M d.vhd
	expect_exit 2 vspd --disk d.vhd,iops-min=many --nbd unix:s
	expect_sentence iops-min
	expect_exit 2 vspd --disk d.vhd,slow-ms=-1 --nbd unix:s
	expect_sentence slow-ms
}

# Two disks on two loops have one limit, and both get something of it.
test_a_vm_has_its_limit_whatever_loops_its_disks_are_on() {
	need_tool qemu-img jq
	local start end one two disk clients=
	vhdtool create -q --fixed 8M one.vhd
	vhdtool create -q --fixed 8M two.vhd
	start_daemon --loops 2
	vspctl vm add web --disk "one=$PWD/one.vhd" --disk "two=$PWD/two.vhd" >/dev/null
	expect_equal "$(vspctl vm show web --json | jq -c '[.disks[].loop]')" "[0,1]"
	for disk in one two; do
		qemu-img bench -q -w -c 1000000 -d 32 -s 4k -f raw "nbd:unix:run/vsp/web/$disk.nbd" &
		clients+=" $!"
	done
	sleep 0.3
	vspctl vm set web iops=400 iops-burst=1
	sleep 0.2
	start=$(date +%s%N) one=$(count one .write.operations) two=$(count two .write.operations)
	sleep 1.5
	one=$(($(count one .write.operations) - one))
	two=$(($(count two .write.operations) - two))
	end=$(date +%s%N)
	[ $((one + two)) -le $((400 * (end - start) / 1000000000 + 2)) ] ||
		fail "$one and $two operations in $(((end - start) / 1000000)) ms"
	[ "$one" -gt 50 ] && [ "$two" -gt 50 ] || fail "$one and $two operations"
	vspctl vm set web iops=0 iops-burst=0
	sleep 0.3
	[ "$(count one .write.operations)" -ge $((one + 400)) ] || fail "it is still held"
	kill $clients
	wait $clients || :
	finish
}
