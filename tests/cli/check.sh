#!/bin/bash
# vhdtool check --repair on damaged block allocation tables of disks with real filesystems inside.
. "${BASH_SOURCE[0]%/*}/../lib.sh"

# make_disk MKFS...: disk.vhd, converted from a filesystem of 300 MiB, and good.vhd, the same.
make_disk() {
	need_tool "$1"
	rm -f raw disk.vhd
	truncate -s 300M raw
	"$@" >/dev/null 2>&1 || skip "$1 does not make a filesystem of this size"
	vhdtool convert -q --to dynamic raw disk.vhd
	cp disk.vhd good.vhd
}

# entry NUMBER OCTETS: overwrites an entry, given as octets for printf.
entry() {
	printf "$2" | dd of=disk.vhd bs=1 seek=$((1536 + 4 * $1)) conv=notrunc status=none
}

# Repair makes the file what it was before the damage.
expect_restored() {
	expect_exit 0 vhdtool check -q --repair "$@" disk.vhd
	expect_same_file good.vhd disk.vhd
	expect_exit 0 vhdtool check --undo disk.vhd.undo disk.vhd
	rm disk.vhd.undo
	cp good.vhd disk.vhd
}

one_mark() {
	local block=$1
	shift
	make_disk "$@"
	entry "$block" '\0\0\0\0'
	expect_restored
}

test_superblocks_bring_their_blocks_back() {
	subtest ext4-first one_mark 0 mkfs.ext4 -q -b 4096 raw
	subtest ext4-copy one_mark 64 mkfs.ext4 -q -b 4096 raw
	subtest xfs-first one_mark 0 mkfs.xfs -q -f raw
	subtest ntfs-first one_mark 0 mkfs.ntfs -F -Q -q raw
	subtest btrfs-first one_mark 0 mkfs.btrfs -q raw
}

test_flipped_bit_is_flipped_back() {
	mkdir files
	head -c 20M /dev/urandom >files/data
	make_disk mkfs.ext4 -q -b 4096 -d files raw
	entry 9 '\020\0\020\027' # of 00 00 10 17, the first block with data of a file
	expect_restored
}

test_zeroed_table_of_a_converted_disk() {
	need_tool mkfs.ext4
	head -c 40M /dev/urandom >raw
	mkfs.ext4 -q -F -b 4096 -N 64 -O ^has_journal -E nodiscard raw 2>/dev/null
	vhdtool convert -q --to dynamic raw disk.vhd
	cp disk.vhd good.vhd
	dd if=/dev/zero of=disk.vhd bs=4 seek=$((1536 / 4)) count=20 conv=notrunc status=none
	expect_exit 3 vhdtool check disk.vhd
	expect_out 'block-found block 0' '--ascending would decide'
	expect_restored --ascending
}

test_what_is_lost_is_told() {
	mkdir files
	head -c 20M /dev/urandom >files/data
	make_disk mkfs.ext4 -q -b 4096 -d files raw
	dd if=good.vhd bs=1 skip=1536 count=4 status=none |
		dd of=disk.vhd bs=1 seek=$((1536 + 4 * 9)) conv=notrunc status=none
	expect_exit 3 vhdtool check --repair --json disk.vhd
	expect_json '[.findings[] | select(.code == "block-lost") |
		[.block, .disk_offset, .disk_length]] == [[9, 9 * 2097152, 2097152]]'
	expect_json '[.lost_bytes, .errors, .unreadable_blocks] == [2097152, 1, 0]'
	expect_exit 4 vhdtool check -q disk.vhd
}
