#!/bin/bash
# vhdtool wipe: contents become zeros, the disk stays what it is.
. "${BASH_SOURCE[0]%/*}/../lib.sh"

SECRET=the-guest-keeps-this-to-itself

secret() { # BYTES
	yes $SECRET | head -c "$(numfmt --from=iec "$1")" || :
}

expect_zeros() { # DISK BYTES
	truncate -s "$2" "$HVKIT_STATE/zeros"
	expect_contents "$1" "$HVKIT_STATE/zeros"
}

expect_gone() {
	! grep -qa $SECRET "$1" || fail "the secret is in \"$1\""
}

# 10490368 bytes, the half of them secret.
make_disk() { # TYPE FILE
	{
		secret 3M
		head -c 4M /dev/zero
		secret 2M
		head -c 1053184 /dev/zero
	} >"$HVKIT_STATE/raw"
	vhdtool convert -q --to "$1" "$HVKIT_STATE/raw" "$2"
}

wiped() { # TYPE MODE
	make_disk "$1" a.vhd
	cp a.vhd before
	expect_exit 0 vhdtool wipe --force $2 --json a.vhd
	expect_json ".type == \"$1\" and .size_bytes == 10490368 and .zeroing.method != null and
		.zeroing.verified != null and .zeroing.seconds >= 0 and .reads_as_zeros != null"
	[ "$2" != --secure-zero=write ] || expect_json '.zeroing.method == "written"'
	expect_zeros a.vhd 10490368
	expect_gone a.vhd
	expect_equal "$(stat -c %s a.vhd)" "$(stat -c %s before)"
	expect_equal "$(tail -c 512 a.vhd | sha256sum)" "$(tail -c 512 before | sha256sum)" footer
	rm a.vhd
}

test_disk_is_zeroed_and_stays_what_it_is() {
	local type mode
	need_tool jq
	for type in fixed dynamic; do
		for mode in "" --secure-zero --secure-zero=write; do
			subtest "$type$mode" wiped $type "$mode"
		done
	done
}

test_blocks_stay_allocated() {
	local before
	make_disk dynamic a.vhd
	before=$(head -c 1536 a.vhd | sha256sum)
	cp a.vhd before
	expect_exit 0 vhdtool wipe --force a.vhd
	expect_equal "$(head -c 1536 a.vhd | sha256sum)" "$before" "footer copy and header"
	expect_equal "$(vhdtool info --json a.vhd | jq '.. | .allocated_blocks? // empty')" \
		"$(vhdtool info --json before | jq '.. | .allocated_blocks? // empty')"
}

behind_the_bitmap() { # MODE
	local bitmap
	make_disk dynamic a.vhd
	# The bits of the first block go, its bytes stay.
	bitmap=$(($(od -An -tu1 -j1536 -N4 a.vhd | awk '{ print $1 * 2^24 + $2 * 2^16 + $3 * 2^8 + $4 }') * 512))
	head -c 512 /dev/zero | dd of=a.vhd bs=512 seek=$((bitmap / 512)) conv=notrunc status=none
	expect_exit 0 vhdtool wipe --force "$1" a.vhd
	expect_gone a.vhd
	rm a.vhd
}

test_what_a_block_holds_behind_its_bitmap_goes_too() {
	subtest auto behind_the_bitmap --secure-zero
	subtest write behind_the_bitmap --secure-zero=write
}

child_hides_parent() { # MODE
	make_disk dynamic parent.vhd
	vhdtool create -q --diff parent.vhd child.vhd
	secret 1M | vhdtool write child.vhd --offset 1M || skip "needs vhdtool write"
	cp parent.vhd before
	expect_exit 0 vhdtool wipe --force "$1" child.vhd
	expect_out "the parent is not changed"
	expect_zeros child.vhd 10490368
	expect_gone child.vhd
	expect_same_file parent.vhd before
	rm parent.vhd child.vhd
}

test_child_hides_its_parent() {
	subtest auto child_hides_parent --secure-zero
	subtest write child_hides_parent --secure-zero=write
}

test_child_without_its_parent_is_refused() {
	make_disk dynamic parent.vhd
	vhdtool create -q --diff parent.vhd child.vhd
	mv parent.vhd elsewhere.vhd
	expect_exit 1 vhdtool wipe --force child.vhd
	expect_sentence child.vhd parent.vhd
	expect_exit 0 vhdtool wipe --force --parent elsewhere.vhd child.vhd
}

test_without_force_it_names_what_it_would_destroy() {
	need_tool mkfs.ext4
	truncate -s 16M a.raw
	mkfs.ext4 -q -L precious a.raw
	vhdtool convert -q --to fixed a.raw a.vhd
	cp a.vhd before
	expect_exit 1 vhdtool wipe a.vhd
	expect_sentence a.vhd ext4 precious --force
	expect_same_file a.vhd before
	expect_exit 0 vhdtool wipe --force a.vhd
	expect_out ext4 precious
	expect_exit 1 vhdtool wipe a.vhd
	expect_sentence a.vhd --force
	expect_zeros a.vhd 16M
}

test_raw_image_asks_for_its_format() {
	secret 5M >a.raw
	expect_exit 1 vhdtool wipe --force a.raw
	expect_sentence a.raw "--from raw"
	expect_exit 0 vhdtool wipe --force --from raw a.raw
	expect_gone a.raw
	expect_equal "$(stat -c %s a.raw)" $((5 << 20))
	secret 1234567 >b.raw
	expect_exit 0 vhdtool wipe --force --from raw --secure-zero=write b.raw
	expect_equal "$(stat -c %s b.raw)" 1234567
	expect_gone b.raw
}

device_is_wiped() { # MODE
	truncate -s 9M "$HVKIT_STATE/device"
	secret 9M | dd of="$HVKIT_STATE/device" conv=notrunc bs=1M iflag=fullblock status=none
	device=$(loop_on "$HVKIT_STATE/device")
	expect_exit 1 vhdtool wipe --force "$device"
	expect_exit 0 vhdtool wipe --force --from raw "$1" "$device"
	expect_gone "$device"
	secret 9M | dd of="$device" bs=1M iflag=fullblock oflag=direct status=none
	vhdtool create -q --fixed max --allow-stale "$device"
	expect_exit 0 vhdtool wipe --force "$1" "$device"
	expect_gone "$device"
	expect_equal "$(tail -c 512 "$device" | head -c 8)" conectix
	losetup -d "$device"
}

test_device_is_wiped() {
	need_loop
	subtest auto device_is_wiped --secure-zero
	subtest write device_is_wiped --secure-zero=write
}

test_sparse_disk_stays_sparse() {
	local before mode
	truncate -s 64M a.raw
	secret 1M | dd of=a.raw bs=1M seek=20 conv=notrunc iflag=fullblock status=none
	vhdtool convert -q --to fixed a.raw a.vhd
	before=$(stat -c %b a.vhd)
	for mode in auto write; do
		expect_exit 0 vhdtool wipe --force --secure-zero=$mode a.vhd
		[ "$(stat -c %b a.vhd)" -le $((before + 8192 + 64)) ] || fail "holes were filled"
		expect_zeros a.vhd 64M
	done
}

test_disk_in_use_is_refused() {
	make_disk fixed a.vhd
	cp a.vhd before
	python3 -c 'import fcntl, os, struct, sys, time
fd = os.open("a.vhd", os.O_RDONLY)
fcntl.fcntl(fd, 37, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 201, 1, 0))
open(sys.argv[1], "w").close()
time.sleep(60)' "$HVKIT_STATE/held" &
	while [ ! -e "$HVKIT_STATE/held" ]; do sleep 0.05; done
	expect_exit 1 vhdtool wipe --force a.vhd
	expect_sentence a.vhd "in use"
	expect_same_file a.vhd before
}

test_disk_behind_a_loop_device_is_refused() {
	need_loop
	make_disk fixed a.vhd
	cp a.vhd before
	device=$(loop_on a.vhd)
	expect_exit 1 vhdtool wipe --force a.vhd
	expect_sentence a.vhd "loop device"
	losetup -d "$device"
	expect_same_file a.vhd before
}

test_full_disk_is_said_so() {
	need_loop
	new_fs ext4 64M fs -m 0
	noise 40M >a.raw
	vhdtool convert -q --to dynamic a.raw fs/parent.vhd
	vhdtool create -q --diff fs/parent.vhd fs/child.vhd
	cp fs/parent.vhd before
	expect_exit 1 vhdtool wipe --force --secure-zero=write fs/child.vhd
	expect_sentence fs/child.vhd
	expect_same_file fs/parent.vhd before
	expect_exit 0 vhdtool hash fs/child.vhd
}

test_what_is_no_disk_is_refused() {
	local bad
	mkdir directory
	mkfifo fifo
	head -c 3000 /dev/zero >broken.vhd
	: >empty.vhd
	for bad in directory fifo broken.vhd empty.vhd missing.vhd; do
		expect_exit 1 timeout 5 "$VHDTOOL" wipe --force $bad
		expect_sentence $bad
	done
	make_disk fixed a.vhd
	chmod 444 a.vhd
	expect_exit 1 as_nobody vhdtool wipe --force a.vhd
	expect_sentence a.vhd
}

test_mistakes_in_the_command_line() {
	expect_exit 2 vhdtool wipe --force
	expect_exit 2 vhdtool wipe --force --secure-zero=maybe a.vhd
	expect_exit 2 vhdtool wipe --force a.vhd b.vhd
}
