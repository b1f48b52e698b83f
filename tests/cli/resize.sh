#!/bin/bash
# vhdtool resize: another size, the same contents, and nothing cut off that somebody may miss.
. "${BASH_SOURCE[0]%/*}/../lib.sh"

M=$((1 << 20))

# 10 MiB, of which the last 4 are zeros.
make_disk() { # TYPE FILE
	{
		head -c 6M </dev/urandom
		head -c 4M /dev/zero
	} >"$HVKIT_STATE/raw"
	vhdtool convert -q --to "$1" "$HVKIT_STATE/raw" "$2"
}

# The raw disk, cut or filled up with zeros to so many bytes.
expect_raw() { # FILE BYTES
	cp "$HVKIT_STATE/raw" "$HVKIT_STATE/wanted"
	truncate -s "$2" "$HVKIT_STATE/wanted"
	expect_contents "$1" "$HVKIT_STATE/wanted"
	expect_exit 0 vhdtool check -q "$1"
}

test_disks_grow_and_shrink() {
	for type in fixed dynamic; do
		make_disk $type $type.vhd
		for size in 11M 40M +512 -1M 7M; do
			expect_exit 0 vhdtool resize --json -- $type.vhd $size
			expect_json '.size_bytes != .size_bytes_before'
			expect_raw $type.vhd "$(jq .size_bytes "$out")"
		done
		expect_exit 0 vhdtool resize $type.vhd 7M
		expect_out "$type.vhd: has 7 MiB already"
		expect_raw $type.vhd $((7 * M))
	done
}

test_sizes_are_what_others_see() {
	need_tool qemu-img
	make_disk dynamic a.vhd
	vhdtool resize -q a.vhd 300M
	expect_equal "$(qemu-img info --output=json a.vhd | jq '."virtual-size"')" $((300 * M))
	qemu-img convert -f vpc -O raw a.vhd b.raw
	truncate -s 300M "$HVKIT_STATE/raw"
	cmp b.raw "$HVKIT_STATE/raw"
	! command -v vhdiinfo >/dev/null || vhdiinfo a.vhd | grep -qF "($((300 * M)) bytes)"
}

test_table_moves_behind_the_blocks() {
	make_disk dynamic a.vhd
	vhdtool resize -q a.vhd 2040G
	expect_exit 0 vhdtool info --json a.vhd
	expect_json ".header.bat_offset > 6 * $M"
	expect_exit 0 vhdtool check -q a.vhd
	head -c 1M /dev/urandom >new
	vhdtool write -q --offset 2039G a.vhd <new
	vhdtool read --offset 2039G --length 1M a.vhd | cmp - new
	vhdtool read --length 10M a.vhd | cmp - "$HVKIT_STATE/raw"
	expect_exit 0 vhdtool check -q a.vhd
}

test_data_is_not_cut_off() {
	for type in fixed dynamic; do
		make_disk $type $type.vhd
		cp $type.vhd before
		expect_exit 1 vhdtool resize $type.vhd 5M
		expect_sentence "there is data beyond the new size"
		expect_exit 1 vhdtool resize --force $type.vhd 5M
		cmp $type.vhd before
	done
}

test_partitions_are_not_cut_off() {
	need_tool sfdisk
	truncate -s 64M a.raw
	echo 'start=2048, size=81920' | sfdisk -q a.raw
	vhdtool convert -q --to dynamic a.raw a.vhd
	cp a.vhd before
	expect_exit 1 vhdtool resize a.vhd 40M
	expect_sentence "partition 1 " "reaches up to byte $((41 * M))"
	cmp a.vhd before
	expect_exit 0 vhdtool resize -q a.vhd 41M
	expect_exit 0 vhdtool check -q a.vhd
}

test_filesystem_on_the_bare_disk_asks_for_force() {
	need_tool mke2fs
	truncate -s 64M a.raw
	mke2fs -q -t ext4 a.raw 20M
	vhdtool convert -q --to dynamic a.raw a.vhd
	expect_exit 1 vhdtool resize a.vhd 32M
	expect_sentence "holds ext4"
	expect_exit 0 vhdtool resize --force -q a.vhd 32M
	vhdtool convert -q --to raw a.vhd b.raw
	e2fsck -fn b.raw >/dev/null 2>&1
}

test_dry_run_changes_nothing() {
	make_disk dynamic a.vhd
	cp a.vhd before
	expect_exit 0 vhdtool resize -n a.vhd 20M
	expect_out "can be resized from 10 MiB to 20 MiB"
	expect_exit 1 vhdtool resize -n a.vhd 2M
	cmp a.vhd before
}

test_child_is_resized_alone() {
	make_disk dynamic parent.vhd
	vhdtool create -q --diff parent.vhd child.vhd
	head -c 1M /dev/urandom >new
	vhdtool write -q --offset 1M child.vhd <new
	dd if=new of="$HVKIT_STATE/raw" bs=1M seek=1 conv=notrunc status=none
	vhdtool resize -q child.vhd 20M
	expect_raw child.vhd $((20 * M))
	vhdtool resize -q child.vhd 7M
	expect_raw child.vhd $((7 * M))
	vhdtool resize -q child.vhd 12M
	expect_raw child.vhd $((12 * M))
}

test_mistakes() {
	make_disk dynamic a.vhd
	cp a.vhd before
	expect_exit 2 vhdtool resize a.vhd
	expect_exit 2 vhdtool resize a.vhd 10MB
	expect_exit 2 vhdtool resize a.vhd many
	expect_exit 1 vhdtool resize a.vhd 1000
	expect_sentence "not a multiple of 512"
	expect_exit 1 vhdtool resize a.vhd 0
	expect_exit 1 vhdtool resize a.vhd 2041G
	expect_sentence "2040 GiB"
	expect_exit 1 vhdtool resize -- a.vhd -20M
	expect_exit 1 vhdtool resize "$HVKIT_STATE/raw" 20M
	expect_sentence "not a VHD"
	cmp a.vhd before
}

test_full_filesystem_leaves_the_old_size() {
	new_fs ext4 24M fs
	make_disk fixed fs/a.vhd
	cp fs/a.vhd before
	expect_exit 1 vhdtool resize fs/a.vhd 500M
	expect_sentence "no room"
	cmp fs/a.vhd before
}

test_space_is_overwritten_before_it_is_given_back() {
	need_tool strace
	make_disk dynamic a.vhd
	vhdtool create -q --dynamic 10M b.vhd
	head -c 10M /dev/zero | vhdtool write -q b.vhd
	strace -f -o trace -e trace=pwrite64,ftruncate,fallocate,fdatasync "$VHDTOOL" resize -q --secure-zero b.vhd 2M
	[ "$(grep -c 'pwrite64.*, 1048576, ' trace)" -ge 8 ] || fail "nothing was overwritten"
	awk '/pwrite64.*, 1048576, / { dirty = 1 } /fdatasync/ { dirty = 0 }
		/PUNCH_HOLE|ftruncate/ && dirty { exit 1 }' trace || fail "given back before it was flushed"
}

test_disk_with_children_is_refused() {
	make_disk dynamic parent.vhd
	vhdtool create -q --diff parent.vhd child.vhd
	cp parent.vhd before
	expect_exit 1 vhdtool resize parent.vhd 20M
	expect_sentence "child.vhd" "--force"
	cmp parent.vhd before
	expect_exit 0 vhdtool resize -q --force parent.vhd 20M
	expect_exit 1 vhdtool hash child.vhd
	expect_sentence "has been resized"
}
