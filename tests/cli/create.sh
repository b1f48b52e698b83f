#!/bin/bash
# vhdtool create: what it makes, on what grounds it reads as zeros, and what it refuses.
. "${BASH_SOURCE[0]%/*}/../lib.sh"

SECRET=the-host-keeps-this-to-itself

# Fills a file or a device of BYTES with a recognisable secret.
fill_with_secret() {
	yes $SECRET | head -c "$(numfmt --from=iec "$2")" | dd of="$1" bs=1M conv=notrunc,fsync \
		iflag=fullblock status=none
}

expect_secret() {
	grep -qa $SECRET "$1" || fail "the secret is not in \"$1\""
}

expect_no_secret() {
	! grep -qa $SECRET "$1" || fail "the secret is in \"$1\""
}

# What a guest would see.
contents_of() {
	vhdtool convert --from vhd --to raw -q "$1" "$2"
}

secret_device() {
	truncate -s "$1" "$HVKIT_STATE/device"
	fill_with_secret "$HVKIT_STATE/device" "$1"
	device=$(loop_on "$HVKIT_STATE/device")
	defer losetup -d "$device"
}

# Holds the lock of a program that has FILE open for writing.
open_elsewhere() {
	python3 -c 'import fcntl, os, struct, sys, time
fd = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(fd, 37, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 101, 1, 0))
open(sys.argv[2], "w").close()
time.sleep(60)' "$1" "$HVKIT_STATE/held" &
	while [ ! -e "$HVKIT_STATE/held" ]; do sleep 0.05; done
}

qemu_size() {
	qemu-img info --output=json -f vpc "$1" | jq '."virtual-size"'
}

# ---- What is made ----

test_the_command_of_the_mission_makes_disk_vhd() {
	need_space 60G
	expect_exit 0 vhdtool create --fixed 50G --secure-zero
	expect_out "disk.vhd" "50 GiB" "reads as zeros" "verified"
	expect_equal "$(stat -c %s disk.vhd)" $(((50 << 30) + 512))
	[ "$(stat -c %b disk.vhd)" -ge $((50 << 21)) ] || fail "its space is not reserved"
	expect_only . disk.vhd
}

test_fixed_disk_is_reserved_and_says_on_what_grounds_it_reads_as_zeros() {
	need_loop
	new_fs ext4 200M fs
	expect_exit 0 vhdtool create --fixed 100M fs/a.vhd
	expect_out "reads as zeros: ext4 unwritten extents"
	[ "$(stat -c %b fs/a.vhd)" -ge $((100 << 11)) ] || fail "its space is not reserved"
	contents_of fs/a.vhd a.raw
	truncate -s 100M zeros
	expect_same_file a.raw zeros
}

test_json_tells_everything() {
	expect_exit 0 vhdtool create --fixed 10M --secure-zero --json a.vhd
	expect_json '.file == "a.vhd" and .type == "fixed" and .size_bytes == 10485760 and
		.block_bytes == null and (.uuid | length) == 36 and .reads_as_zeros != null and
		.zeroing.bytes == 10485760 and .zeroing.method != null and
		.zeroing.verified != null and .zeroing.seconds >= 0 and
		.zeroing.write_seconds >= 0 and .zeroing.verify_seconds >= 0 and .seconds >= 0'
	expect_exit 0 vhdtool create --fixed 10M --json b.vhd
	expect_json '.zeroing == null'
	expect_exit 0 vhdtool create --dynamic 10M --block-size 512K --json c.vhd
	expect_json '.type == "dynamic" and .block_bytes == 524288'
	expect_exit 0 vhdtool create --diff c.vhd --secure-zero --json d.vhd
	expect_json '.type == "differencing" and .reads_as_zeros == null and
		.zeroing.method == "written"'
}

test_quiet_prints_nothing() {
	expect_exit 0 vhdtool create --fixed 4M -q a.vhd
	[ ! -s "$out" ] && [ ! -s "$err" ] || fail "something was printed"
}

made_with_size() { # TYPE BYTES
	expect_exit 0 vhdtool create "--$1" "$2" "$1$2.vhd"
	expect_equal "$(qemu_size "$1$2.vhd")" "$2"
	rm "$1$2.vhd"
}

test_every_reader_sees_the_size_asked_for() {
	local type size
	need_tool qemu-img jq
	for type in fixed dynamic; do
		for size in 512 104448 4194304 13631488 67108864 $(((1 << 30) + 512)); do
			subtest $type-$size made_with_size $type $size
		done
	done
	for size in 136899993600 136899994112 $((2040 << 30)); do
		subtest dynamic-$size made_with_size dynamic $size
	done
}

test_geometry_can_be_the_one_of_the_spec() {
	expect_exit 0 vhdtool create --fixed 13631488 --geometry=spec a.vhd
	expect_equal "$(tail -c 512 a.vhd | od -An -tx1 -j56 -N4 | tr -d ' ')" 01870411
	expect_exit 0 vhdtool create --fixed 13631488 b.vhd
	expect_equal "$(tail -c 512 b.vhd | od -An -tx1 -j56 -N4 | tr -d ' ')" ffff10ff
}

test_child_reads_as_its_parent() {
	noise 3M >a.raw
	vhdtool convert -q --to dynamic a.raw parent.vhd
	expect_exit 0 vhdtool create --diff parent.vhd child.vhd
	expect_out "differencing" "reads as its parent: parent.vhd"
	expect_contents child.vhd a.raw
	expect_exit 0 vhdtool create --diff child.vhd grandchild.vhd
	expect_contents grandchild.vhd a.raw
}

test_child_finds_its_parent_by_a_path_of_every_plane() {
	local name
	name=$(python3 -c 'print("".join(chr(plane << 16 | 0x4e2d) for plane in range(17)))')
	mkdir -p "$name/π" "children ☃"
	noise 1M >a.raw
	vhdtool convert -q --to dynamic a.raw "$name/π/parent 😀.vhd"
	expect_exit 0 vhdtool create --diff "$name/π/parent 😀.vhd" "children ☃/child 𝄞.vhd"
	expect_contents "children ☃/child 𝄞.vhd" a.raw
	mkdir moved
	mv "$name" "children ☃" moved
	expect_contents "moved/children ☃/child 𝄞.vhd" a.raw
}

# ---- Old contents ----

test_stale_device_lets_the_secret_show() {
	need_loop
	secret_device 24M
	expect_exit 0 vhdtool create --fixed max --allow-stale "$device"
	expect_out "may not read as zeros"
	contents_of "$device" a.raw
	expect_equal "$(stat -c %s a.raw)" $(((24 << 20) - 512))
	expect_secret a.raw
}

zeroed_device_hides_the_secret() { # MODE
	secret_device 24M
	expect_exit 0 vhdtool create --fixed max "--secure-zero$1" --json "$device"
	expect_json '.zeroing.verified == "read back" and
		.reads_as_zeros == "every byte was read back" and .size_bytes == 25165312'
	[ "$1" != =write ] || expect_json '.zeroing.method == "written"'
	contents_of "$device" a.raw
	expect_no_secret a.raw
	expect_no_secret "$device"
	expect_equal "$(tail -c 512 "$device" | head -c 8)" conectix
	losetup -d "$device"
	rm a.raw
}

test_zeroed_device_hides_the_secret() {
	local mode
	need_loop
	need_tool jq
	for mode in "" =auto =write; do
		subtest "mode$mode" zeroed_device_hides_the_secret "$mode"
	done
}

test_device_without_a_word_about_old_contents_is_refused() {
	need_loop
	secret_device 24M
	expect_exit 1 vhdtool create --fixed 20M "$device"
	expect_sentence "$device" --secure-zero --allow-stale
	expect_exit 1 vhdtool create --fixed 20M --force "$device"
	expect_sentence --secure-zero --allow-stale
	[ "$(grep -ac $SECRET "$device")" -gt 800000 ] || fail "something was written"
}

# The filesystem's blocks, as they are on its device, below a file.
below() { # FILE IMAGE
	filefrag -v -b4096 "$1" | awk -F'[ :.]+' '$2 ~ /^[0-9]+$/ { print $5, $7 }' |
		while read -r start count; do
			dd if="$2" bs=4096 skip="$start" count="$count" status=none
		done
}

used_before_hides_the_secret() { # OPTION MARK
	# shellcheck disable=SC2086
	expect_exit 0 vhdtool create --fixed 150M $1 fs/a.vhd
	contents_of fs/a.vhd a.raw
	expect_no_secret a.raw
	sync -f fs
	below fs/a.vhd "$image" >below
	[ "$(stat -c %s below)" -ge $((150 << 20)) ] || fail "its blocks were not found"
	if [ "$2" = gone ]; then
		expect_no_secret below
	else
		expect_secret below
	fi
	rm fs/a.vhd a.raw
}

test_file_over_a_previously_used_one_hides_the_secret() {
	need_loop
	need_tool filefrag
	new_fs ext4 200M fs -b 4096 -m 0
	image=$(losetup -n -O BACK-FILE "$(findmnt -no SOURCE fs)")
	fill_with_secret fs/old 150M
	rm fs/old
	sync -f fs
	# Below the file the medium still holds it, except where it has been overwritten.
	subtest default used_before_hides_the_secret "" there
	subtest auto used_before_hides_the_secret --secure-zero there
	subtest write used_before_hides_the_secret --secure-zero=write gone
}

test_replaced_disk_hides_the_secret() {
	vhdtool create -q --fixed 8M a.vhd
	fill_with_secret a.vhd 8M
	expect_exit 0 vhdtool create --fixed 8M --force a.vhd
	contents_of a.vhd a.raw
	expect_no_secret a.raw
}

test_written_zeros_are_written() {
	need_loop
	need_tool filefrag
	new_fs ext4 100M fs
	expect_exit 0 vhdtool create --fixed 34603520 --secure-zero=write --json fs/a.vhd
	expect_json '.zeroing.method == "written" and .zeroing.bytes == 34603520 and
		.zeroing.verified == "read back"'
	! filefrag -v fs/a.vhd | grep -q unwritten || fail "some extents are unwritten"
	expect_exit 0 vhdtool create --fixed 34603520 --secure-zero --json fs/b.vhd
	expect_json '.zeroing.method == "unwritten extents" and
		(.zeroing.verified | startswith("FIEMAP"))'
	filefrag -v fs/b.vhd | grep -q unwritten || fail "no extent is unwritten"
}

test_size_in_the_middle_of_a_page_is_proven_too() {
	need_loop
	new_fs ext4 100M fs
	expect_exit 0 vhdtool create --fixed $(((16 << 20) + 512)) --secure-zero --json fs/a.vhd
	expect_json '.zeroing.method == "unwritten extents"'
	expect_exit 0 vhdtool create --fixed $(((16 << 20) + 512)) --secure-zero=write fs/b.vhd
	expect_exit 0 vhdtool compare fs/a.vhd fs/b.vhd
}

on_filesystem() { # TYPE [mkfs options]
	new_fs "$1" 400M "fs-$1" "${@:2}"
	expect_exit 0 vhdtool create --fixed 100M "fs-$1/a.vhd"
	expect_out "reads as zeros: $1"
	expect_exit 0 vhdtool create --fixed 100M --secure-zero --json "fs-$1/b.vhd"
	expect_json '.zeroing.verified | startswith("FIEMAP")'
	expect_exit 0 vhdtool create --fixed 50M --secure-zero=write "fs-$1/c.vhd"
}

on_tmpfs() {
	mkdir tmpfs
	mount -t tmpfs -o size=64M none tmpfs 2>/dev/null || skip "needs to mount tmpfs"
	expect_exit 0 vhdtool create --fixed 10M tmpfs/a.vhd
	expect_out "reads as zeros: tmpfs"
	expect_exit 0 vhdtool create --fixed 10M --secure-zero tmpfs/b.vhd
	expect_exit 0 vhdtool create --fixed 10M --secure-zero=write tmpfs/c.vhd
	expect_exit 1 vhdtool create --fixed 100M tmpfs/d.vhd
	expect_only tmpfs a.vhd b.vhd c.vhd
}

test_filesystems_vouch_for_zeros() {
	need_loop
	subtest xfs on_filesystem xfs
	subtest btrfs on_filesystem btrfs
	subtest tmpfs on_tmpfs
}

test_filesystem_that_cannot_reserve_is_refused_or_written() {
	need_loop
	new_fs ext3 100M fs
	expect_exit 1 vhdtool create --fixed 20M fs/a.vhd
	expect_sentence fs/a.vhd --secure-zero --allow-stale
	expect_exit 1 vhdtool create --fixed 20M --allow-stale fs/a.vhd
	expect_sentence --secure-zero
	expect_only fs
	expect_exit 0 vhdtool create --fixed 20M --secure-zero --json fs/a.vhd
	expect_json '.zeroing.method == "written" and .zeroing.verified == "read back"'
	[ "$(stat -c %b fs/a.vhd)" -ge $((20 << 11)) ] || fail "its space is not reserved"
}

# ---- No room ----

test_full_disk_leaves_nothing_behind() {
	local mode
	need_loop
	new_fs ext4 64M fs -m 0
	for mode in "" --allow-stale --secure-zero --secure-zero=write; do
		# shellcheck disable=SC2086
		expect_exit 1 vhdtool create --fixed 100M $mode fs/a.vhd
		expect_sentence fs/a.vhd
		expect_only fs
	done
	fallocate -l "$(($(df --output=avail -B1 fs | tail -n 1) - 65536))" fs/filler
	expect_exit 1 vhdtool create --fixed 4M fs/a.vhd
	expect_exit 1 vhdtool create --dynamic 500G fs/a.vhd
	expect_sentence fs/a.vhd
	expect_only fs filler
}

test_full_disk_keeps_the_old_file() {
	need_loop
	new_fs ext4 64M fs
	vhdtool create -q --fixed 40M fs/a.vhd
	cp fs/a.vhd before
	expect_exit 1 vhdtool create --fixed 40M --force fs/a.vhd
	expect_sentence fs/a.vhd
	expect_same_file fs/a.vhd before
	expect_only fs a.vhd
}

test_absurd_sizes_are_refused_at_once() {
	expect_exit 1 timeout 5 "$VHDTOOL" create --fixed 64T a.vhd
	expect_sentence a.vhd
	expect_exit 2 vhdtool create --fixed 65T a.vhd
	expect_sentence "64 TiB"
	expect_exit 2 vhdtool create --dynamic 2041G a.vhd
	expect_sentence "2040 GiB"
	expect_only .
}

test_killed_creation_leaves_nothing_behind() {
	need_space 8G
	"$VHDTOOL" create --fixed 6G --secure-zero=write a.vhd &
	sleep 0.5
	kill $! || skip "it was too quick"
	wait $! || :
	expect_only .
}

# ---- Old files ----

test_existing_file_is_kept_without_force() {
	echo precious >a.vhd
	expect_exit 1 vhdtool create --fixed 4M a.vhd
	expect_sentence a.vhd --force
	expect_exit 1 vhdtool create --dynamic 4M a.vhd
	expect_equal "$(cat a.vhd)" precious
	expect_exit 0 vhdtool create --fixed 4M --force a.vhd
	expect_equal "$(stat -c %s a.vhd)" $(((4 << 20) + 512))
	expect_only . a.vhd
}

test_file_in_use_is_kept_even_with_force() {
	local type
	vhdtool create -q --fixed 4M a.vhd
	cp a.vhd before
	open_elsewhere a.vhd
	for type in --fixed --dynamic; do
		expect_exit 1 vhdtool create $type 8M --force a.vhd
		expect_sentence a.vhd "in use"
	done
	expect_same_file a.vhd before
	expect_only . a.vhd before
}

test_file_open_in_qemu_is_kept_even_with_force() {
	need_tool qemu-io
	vhdtool create -q --fixed 4M a.vhd
	mkfifo "$HVKIT_STATE/commands"
	qemu-io -f raw a.vhd <"$HVKIT_STATE/commands" >"$HVKIT_STATE/qemu" 2>&1 &
	exec 7>"$HVKIT_STATE/commands"
	echo "write -P 7 0 64k" >&7
	until grep -q wrote "$HVKIT_STATE/qemu"; do sleep 0.05; done
	expect_exit 1 vhdtool create --fixed 8M --force a.vhd
	expect_sentence a.vhd "in use"
	exec 7>&-
	wait
	expect_exit 0 vhdtool create --fixed 8M --force a.vhd
}

test_file_behind_a_loop_device_is_kept_even_with_force() {
	need_loop
	vhdtool create -q --fixed 4M a.vhd
	device=$(loop_on a.vhd)
	expect_exit 1 vhdtool create --fixed 8M --force a.vhd
	expect_sentence a.vhd "loop device"
	losetup -d "$device"
}

test_what_is_no_file_is_refused() {
	mkdir directory
	mkfifo fifo
	ln -s nowhere link
	expect_exit 1 vhdtool create --fixed 4M --force directory
	expect_sentence directory
	expect_exit 1 timeout 5 "$VHDTOOL" create --fixed 4M fifo
	expect_sentence fifo "not a regular file"
	expect_exit 1 timeout 5 "$VHDTOOL" create --fixed 4M --force fifo
	expect_sentence fifo
	expect_exit 1 vhdtool create --fixed 4M --force link
	expect_exit 1 vhdtool create --fixed 4M /dev/null
	expect_sentence /dev/null
	expect_exit 1 vhdtool create --fixed 4M nowhere/a.vhd
	expect_sentence nowhere/a.vhd
	expect_exit 1 vhdtool create --fixed 4M ""
	expect_exit 1 vhdtool create --fixed 4M "$(printf 'x%.0s' {1..300})"
	expect_sentence xxx
}

test_directory_without_permission_is_refused() {
	mkdir locked
	chmod 755 locked
	expect_exit 1 as_nobody vhdtool create --fixed 4M locked/a.vhd
	expect_sentence locked/a.vhd
	[ "$(id -u)" = 0 ] || chmod 755 locked
}

# ---- Parents ----

test_parent_open_for_writing_gets_no_child() {
	vhdtool create -q --dynamic 4M parent.vhd
	open_elsewhere parent.vhd
	expect_exit 1 vhdtool create --diff parent.vhd child.vhd
	expect_sentence parent.vhd
	expect_only . parent.vhd
}

test_child_does_not_replace_what_it_depends_on() {
	vhdtool create -q --dynamic 4M a.vhd
	vhdtool create -q --diff a.vhd b.vhd
	expect_exit 1 vhdtool create --diff a.vhd --force a.vhd
	expect_sentence a.vhd
	ln -s a.vhd alias.vhd
	expect_exit 1 vhdtool create --diff b.vhd --force alias.vhd
	expect_sentence alias.vhd
	expect_exit 0 vhdtool create --diff a.vhd --force b.vhd
}

test_parent_that_is_none_is_refused() {
	local bad
	vhdtool create -q --dynamic 4M a.vhd
	vhdtool create -q --diff a.vhd b.vhd
	truncate -s 4M raw.img
	head -c 1000 /dev/zero >broken.vhd
	mkdir directory
	mkfifo fifo
	mv a.vhd away.vhd
	for bad in b.vhd raw.img broken.vhd directory fifo missing.vhd; do
		expect_exit 1 timeout 5 "$VHDTOOL" create --diff $bad child.vhd
		expect_sentence $bad
		expect_no_file child.vhd
	done
}

# ---- Devices ----

test_signature_on_a_device_asks_for_force() {
	need_loop
	need_tool mkfs.ext4
	truncate -s 32M "$HVKIT_STATE/device"
	mkfs.ext4 -q -L precious "$HVKIT_STATE/device"
	device=$(loop_on "$HVKIT_STATE/device")
	expect_exit 1 vhdtool create --fixed max --secure-zero "$device"
	expect_sentence "$device" ext4 precious --force
	expect_exit 0 vhdtool create --fixed max --secure-zero --force "$device"
	expect_exit 1 vhdtool create --fixed max --secure-zero "$device"
	expect_sentence "a VHD" --force
	losetup -d "$device"
}

test_mounted_device_is_refused_even_with_force() {
	need_loop
	new_fs ext4 32M fs
	device=$(findmnt -no SOURCE fs)
	expect_exit 1 vhdtool create --fixed max --secure-zero --force "$device"
	expect_sentence "$device" "in use"
}

test_device_has_room_for_so_much() {
	need_loop
	secret_device 24M
	expect_exit 1 vhdtool create --fixed 24M --secure-zero "$device"
	expect_sentence "$device" 25165312
	expect_exit 0 vhdtool create --fixed 23M --secure-zero "$device"
	expect_exit 0 vhdtool hash "$device"
	expect_exit 2 vhdtool create --dynamic 10M "$device"
	expect_exit 2 vhdtool create --fixed max file.vhd
	expect_sentence max
}

# ---- Azure and the command line ----

test_azure_sizes_are_rounded_and_said_so() {
	expect_exit 0 vhdtool create --fixed 20971521 --azure a.vhd
	expect_out "rounded up" 20971521 22020096
	expect_equal "$(stat -c %s a.vhd)" $((22020096 + 512))
	expect_exit 0 vhdtool create --fixed 1M --azure --json b.vhd
	expect_json '.size_bytes == 20971520 and .requested_bytes == 1048576'
	expect_exit 0 vhdtool create --fixed 21M --azure c.vhd
	! grep -q rounded "$out" || fail "a whole size was rounded"
	expect_exit 2 vhdtool create --fixed 33T --azure d.vhd
	expect_sentence "32 TiB"
	expect_exit 2 vhdtool create --dynamic 21M --azure d.vhd
}

test_mistakes_in_the_command_line() {
	local args
	vhdtool create -q --dynamic 4M a.vhd
	while read -r args; do
		# shellcheck disable=SC2086
		subtest "${args// /_}" expect_mistake $args
	done <<-END
		x.vhd
		--fixed 4M --dynamic 4M x.vhd
		--fixed 4M --diff a.vhd x.vhd
		--fixed 1000 x.vhd
		--fixed 0 x.vhd
		--fixed -1 x.vhd
		--fixed 10MB x.vhd
		--fixed 99999999999999999999 x.vhd
		--fixed 4M --block-size 1M x.vhd
		--fixed 4M --secure-zero=maybe x.vhd
		--fixed 4M --secure-zero --allow-stale x.vhd
		--dynamic 4M --allow-stale x.vhd
		--dynamic 4M --block-size 3M x.vhd
		--dynamic 4M --block-size 256K x.vhd
		--dynamic 4M --block-size 512M x.vhd
		--dynamic 4M --block-size 8G x.vhd
		--dynamic 4M --geometry=round x.vhd
		--fixed 4M x.vhd y.vhd
	END
	expect_only . a.vhd
}

expect_mistake() {
	expect_exit 2 vhdtool create "$@"
	expect_sentence
	grep -q -- --help "$err" || fail "does not point to --help"
}
