#!/bin/bash
# vhdtool read and write: bytes in and out, at any offset.
. "${BASH_SOURCE[0]%/*}/../lib.sh"

# model FILE OFFSET: what write does, to a raw file, by other means.
model() {
	dd of="$1" bs=64K oflag=seek_bytes seek="$2" conv=notrunc status=none
}

# A program in the background has locked FILE. (Trying to open it would be in that program's way.)
await_lock() {
	local inode i
	inode=$(stat -c %i "$1")
	for ((i = 0; i < 200; i++)); do
		! grep -q ":$inode " /proc/locks || break
		sleep 0.05
	done
	sleep 0.2 # the locks are taken one by one
}

test_bytes_at_any_offset() {
	local at length seed=0
	truncate -s 8M model
	expect_exit 0 vhdtool create --dynamic 8M d.vhd
	for at in 0 1 511 512 513 2097151 2097152 1048575 4194303 8388607; do
		for length in 1 2 511 512 513 1500 1048577; do
			[ $((at + length)) -le 8388608 ] || continue
			noise $length $((++seed)) >bytes
			vhdtool write -q --offset $at --from-file bytes d.vhd
			model model $at <bytes
			vhdtool read --offset $at --length $length d.vhd | cmp - bytes
		done
	done
	vhdtool read d.vhd | cmp - model
}

test_input_from_a_pipe_in_drops() {
	truncate -s 4M model
	expect_exit 0 vhdtool create --fixed 4M f.vhd
	noise 100000 >bytes
	model model 777 <bytes
	{ head -c 3 bytes; sleep 0.1; tail -c +4 bytes | head -c 70000; sleep 0.1; tail -c +70004 bytes; } |
		vhdtool write --offset 777 f.vhd >said
	expect_equal "$(cat said)" "f.vhd: wrote 100000 bytes at 777"
	vhdtool read f.vhd | cmp - model
}

test_input_begins_where_its_file_stands() {
	expect_exit 0 vhdtool create --fixed 1M f.vhd
	{ noise 64K 1 && noise 1M 2; } >bytes
	{
		dd bs=64K count=1 of=/dev/null status=none
		vhdtool write -q f.vhd
	} <bytes
	vhdtool read f.vhd | cmp - <(noise 1M 2)
}

test_raw_image() {
	noise 1M >disk.raw
	cp disk.raw model
	printf hello | vhdtool write -q --offset 1000 disk.raw
	printf hello | model model 1000
	expect_same_file disk.raw model
	expect_equal "$(vhdtool read --offset 1000 --length 5 disk.raw)" hello
}

test_child_takes_only_the_sectors_written() {
	noise 4M >below
	expect_exit 0 vhdtool create --dynamic 4M a.vhd
	expect_exit 0 vhdtool write --from-file below a.vhd
	sha256sum a.vhd >before
	expect_exit 0 vhdtool create --diff a.vhd b.vhd
	printf changed | vhdtool write -q --offset 2M b.vhd
	printf changed | model below 2M
	vhdtool read b.vhd | cmp - below
	expect_exit 0 vhdtool map --json b.vhd
	expect_json 'map(select(.depth == 0) | .length) | add == 512'
	expect_equal "$(sha256sum a.vhd)" "$(cat before)" "the parent"
}

test_qemu_reads_what_was_written() {
	need_tool qemu-img
	truncate -s 8M model
	expect_exit 0 vhdtool create --dynamic 8M d.vhd
	noise 3M >bytes
	vhdtool write -q --offset 1234567 --from-file bytes d.vhd
	model model 1234567 <bytes
	qemu-img compare -f vpc -F raw d.vhd model
}

test_writes_what_qemu_made() {
	need_tool qemu-img qemu-io
	qemu-img create -q -f vpc -o force_size=on q.vhd 8M
	qemu-io -f vpc -c 'write -P 0x55 3M 64K' q.vhd >/dev/null
	printf hello | vhdtool write -q --offset 3145729 q.vhd
	qemu-img check -q -f vpc q.vhd || [ $? = 63 ] # not supported for this format
	qemu-io -f vpc -c 'read -P 0x55 3145734 59000' q.vhd >said
	! grep -q "Pattern verification failed" said
	expect_equal "$(vhdtool read --offset 3145728 --length 7 q.vhd)" UhelloU
}

test_too_much_input_is_refused_before_it_hurts() {
	noise 1M >bytes
	expect_exit 0 vhdtool create --fixed 1M f.vhd
	sha256sum f.vhd >before
	expect_exit 1 vhdtool write --offset 1 --from-file bytes f.vhd
	expect_sentence "f.vhd" "bytes" "1048576" "1048575" "nothing was written"
	expect_equal "$(sha256sum f.vhd)" "$(cat before)"
	expect_exit 1 sh -c "'$VHDTOOL' write --offset 1 f.vhd <bytes"
	expect_sentence "standard input" "nothing was written"
	expect_equal "$(sha256sum f.vhd)" "$(cat before)"
	expect_exit 1 vhdtool write --offset 1048577 --from-file bytes f.vhd
	expect_sentence "beyond"
	expect_exit 0 vhdtool write --from-file bytes f.vhd
	vhdtool read f.vhd | cmp - bytes
}

test_endless_input_ends_with_the_disk() {
	expect_exit 0 vhdtool create --fixed 1M f.vhd
	tail -c 512 f.vhd >footer
	expect_exit 1 sh -c "yes | '$VHDTOOL' write --offset 100 f.vhd"
	expect_sentence "f.vhd" "standard input" "1048576"
	expect_equal "$(stat -c %s f.vhd)" $((1048576 + 512))
	tail -c 512 f.vhd | cmp - footer
	vhdtool read --offset 100 f.vhd | cmp - <(yes | head -c $((1048576 - 100)))
	expect_equal "$(vhdtool read --length 100 f.vhd | tr -d '\0')" ""
	expect_exit 0 sh -c "head -c 1M /dev/zero | '$VHDTOOL' write f.vhd"
}

test_nothing_is_a_fine_input() {
	expect_exit 0 vhdtool create --dynamic 1M d.vhd
	sha256sum d.vhd >before
	expect_exit 0 vhdtool write d.vhd
	expect_out "wrote 0 bytes"
	expect_exit 0 vhdtool write --offset 1M d.vhd
	expect_equal "$(sha256sum d.vhd)" "$(cat before)"
	expect_exit 0 vhdtool write -q d.vhd
	expect_equal "$(cat "$out")" ""
}

test_read_into_a_file() {
	noise 3M >bytes
	expect_exit 0 vhdtool create --dynamic 4M d.vhd
	expect_exit 0 vhdtool write -q --from-file bytes d.vhd
	expect_exit 0 vhdtool read --length 3M -o copy d.vhd
	expect_same_file bytes copy
	expect_equal "$(cat "$out")" ""
	expect_exit 1 vhdtool read --length 1 -o copy d.vhd
	expect_sentence "copy" "exists" "--force"
	expect_same_file bytes copy
	expect_exit 0 vhdtool read --length 10 --force --output copy d.vhd
	expect_same_file copy <(head -c 10 bytes)
	expect_exit 0 vhdtool read --length 0 -o nothing d.vhd
	expect_equal "$(stat -c %s nothing)" 0
	expect_exit 1 vhdtool read -o no/where d.vhd
	expect_sentence "no/where"
	expect_exit 1 vhdtool read -o d.vhd --force d.vhd
	expect_sentence "d.vhd"
	vhdtool read --length 3M d.vhd | cmp - bytes
}

test_read_stays_inside_the_disk() {
	expect_exit 0 vhdtool create --dynamic 1M d.vhd
	expect_exit 1 vhdtool read --offset 1048577 d.vhd
	expect_sentence "d.vhd" "1048577" "beyond"
	expect_exit 1 vhdtool read --offset 1M --length 1 -o made d.vhd
	expect_sentence "beyond"
	expect_no_file made
	expect_exit 1 vhdtool read --offset 1 --length 9223372036854775807 d.vhd
	expect_equal "$(vhdtool read --offset 1M d.vhd | wc -c)" 0
	expect_equal "$(vhdtool read --length 0 d.vhd | wc -c)" 0
}

test_a_terminal_is_spared() {
	need_tool script
	expect_exit 0 vhdtool create --dynamic 1M d.vhd
	expect_exit 2 script -qec "'$VHDTOOL' read d.vhd" /dev/null
	expect_out "terminal" "-o FILE"
	expect_equal "$(tr -cd '\0' <"$out" | wc -c)" 0
}

test_lost_output_is_a_failure() {
	expect_exit 0 vhdtool create --dynamic 1M d.vhd
	expect_exit 1 sh -c "'$VHDTOOL' read d.vhd >/dev/full"
	expect_sentence "standard output"
}

test_disk_in_use_is_left_alone() {
	expect_exit 0 vhdtool create --dynamic 1M d.vhd
	mkfifo pipe
	"$VHDTOOL" write -q d.vhd <pipe &
	exec 3>pipe
	await_lock d.vhd
	expect_exit 1 vhdtool write d.vhd
	expect_sentence "d.vhd"
	expect_exit 1 vhdtool read d.vhd
	expect_exit 0 vhdtool read -U --length 1 d.vhd
	printf late >&3
	exec 3>&-
	wait $!
	expect_equal "$(vhdtool read --length 4 d.vhd)" late
}

test_full_host() {
	new_fs ext4 8M host -m 0
	expect_exit 0 vhdtool create --dynamic 64M host/d.vhd
	noise 1M >bytes
	expect_exit 0 vhdtool write --from-file bytes host/d.vhd
	noise 32M >more
	expect_exit 1 vhdtool write --offset 16M --from-file more host/d.vhd
	expect_sentence "host/d.vhd"
	vhdtool read --length 1M host/d.vhd | cmp - bytes
	expect_exit 0 vhdtool info host/d.vhd
}

# Whatever is left on the host when it fills up: what was written before is there, and the disk is
# sound but for space that nothing uses.
test_full_host_at_every_point() {
	new_fs ext4 24M host -m 0
	noise 1M >bytes
	noise 12M >more
	local left status
	for left in 1 40 300 1100 2100 2300 4400 5000 6500 8700; do
		rm -f host/*
		expect_exit 0 vhdtool create --dynamic 64M host/d.vhd
		expect_exit 0 vhdtool write -q --from-file bytes host/d.vhd
		fallocate -l $(($(df --output=avail -k host | tail -n 1) - left))K host/filler
		expect_exit 1 vhdtool write -q --offset 16M --from-file more host/d.vhd
		expect_sentence "host/d.vhd" "No space left"
		vhdtool read --length 1M host/d.vhd | cmp - bytes
		status=0
		vhdtool check -q host/d.vhd || status=$?
		[ $status = 0 ] || expect_equal $status 4
	done
}

test_mistakes() {
	expect_exit 0 vhdtool create --dynamic 1M d.vhd
	sha256sum d.vhd >before
	local verb
	for verb in read write; do
		expect_exit 2 vhdtool $verb
		expect_exit 2 vhdtool $verb a b
		expect_exit 2 vhdtool $verb --offset 1MB d.vhd
		expect_exit 1 vhdtool $verb missing.vhd
		expect_sentence "missing.vhd"
		mkdir -p dir.vhd
		expect_exit 1 vhdtool $verb dir.vhd
		expect_sentence "dir.vhd" "directory"
		[ -e fifo.vhd ] || mkfifo fifo.vhd
		expect_exit 1 vhdtool $verb fifo.vhd
		expect_sentence "fifo.vhd"
		noise 64K >garbage.vhd
		expect_exit 1 vhdtool $verb garbage.vhd
		expect_sentence "garbage.vhd"
	done
	expect_exit 2 vhdtool read --length x d.vhd
	expect_sentence "--length" "'x'"
	expect_exit 1 vhdtool write --from-file missing d.vhd
	expect_sentence "missing"
	expect_exit 1 vhdtool write --from-file dir.vhd d.vhd
	expect_sentence "dir.vhd" "directory"
	expect_exit 1 vhdtool write --from-file d.vhd d.vhd
	expect_sentence "d.vhd" "itself"
	expect_equal "$(sha256sum d.vhd)" "$(cat before)"
}

test_broken_chain() {
	expect_exit 0 vhdtool create --dynamic 1M a.vhd
	expect_exit 0 vhdtool create --diff a.vhd b.vhd
	mv a.vhd z.vhd
	expect_exit 1 vhdtool read b.vhd
	expect_sentence "b.vhd" "a.vhd" "--parent"
	expect_exit 1 sh -c "printf x | '$VHDTOOL' write b.vhd"
	expect_sentence "b.vhd" "a.vhd"
	printf x | vhdtool write -q --parent z.vhd b.vhd
	expect_equal "$(vhdtool read --parent z.vhd --length 1 b.vhd)" x
}

test_file_without_permission() {
	expect_exit 0 vhdtool create --dynamic 1M d.vhd
	chmod 444 d.vhd
	expect_exit 1 as_nobody vhdtool write d.vhd
	expect_sentence "d.vhd" "Permission"
	expect_exit 0 as_nobody vhdtool read --length 1 d.vhd
}

test_format_that_is_not_clear_has_to_be_said() {
	expect_exit 0 vhdtool create --fixed 1M f.vhd
	mv f.vhd f.img
	expect_exit 1 sh -c "printf x | '$VHDTOOL' write f.img"
	expect_sentence "--from"
	printf x | vhdtool write -q --from vhd --offset 1048575 f.img
	expect_equal "$(vhdtool read --from vhd --offset 1048575 f.img)" x
	expect_equal "$(vhdtool read --from raw --offset 1M --length 8 f.img)" conectix
}
