#!/bin/bash
# vhdmount --list: what would be shown of disks that partitioning tools and mkfs have made.
. "${BASH_SOURCE[0]%/*}/../lib.sh"

PATH=$PATH:/usr/sbin:/sbin

list() {
	expect_exit 0 vhdmount --list "$@"
}

# table FILE SIZE: a disk with the partitions that standard input tells sfdisk.
table() {
	need_tool sfdisk
	truncate -s "$2" "$1"
	sfdisk -q "$1" >/dev/null
}

# fill FILE PARTITION COMMAND...: a filesystem of that partition's size, made by COMMAND... FILE.
fill() {
	local start size
	need_tool jq "$3"
	read -r start size < <(sfdisk -J "$1" | jq -r --arg node "$1$2" \
		'.partitiontable.partitions[] | select(.node == $node) | "\(.start) \(.size)"')
	truncate -s $((size * 512)) part
	"${@:3}" part >made 2>&1 || fail "$(cat made)"
	dd if=part of="$1" bs=512 seek="$start" conv=notrunc,sparse status=none
	rm part
}

# After list --json: the content of each partition is what blkid says of the same range.
expect_blkid_agrees() { # FILE
	local offset length signature count=0
	need_tool blkid
	while read -r offset length signature; do
		count=$((count + 1))
		expect_equal "$signature" \
			"$(blkid -p -O "$offset" -S "$length" -o value -s TYPE "$1" || :)" "at $offset"
	done < <(jq -r '.entries[] | select(.number and .kind == "volume") |
		"\(.offset) \(.length) \(.signature // "")"' "$out")
	[ $count -gt 0 ] || fail "nothing to compare"
}

test_windows_and_linux_side_by_side() {
	table d.raw 256M <<-END
		label: gpt
		size=40M, type=uefi, name="EFI System Partition"
		size=1M, name="Microsoft reserved partition"
		size=100M, name="root/../a", uuid=01234567-89ab-cdef-0123-456789abcdef
		size=20M, type=swap
	END
	fill d.raw 1 mkfs.vfat -n BOOT
	fill d.raw 3 mkfs.ext4 -q -L "My root"
	fill d.raw 4 mkswap -L sw
	expect_exit 0 vhdtool convert -q --to dynamic d.raw base.vhd
	expect_exit 0 vhdtool create --diff base.vhd d.vhd
	list --json d.vhd
	expect_json '[.entries[] | select(.kind == "volume").path] == ["disk.raw", "p1-BOOT.vfat",
		"p2-Microsoft reserved partition.raw", "p3-root_.._a.ext4", "p4-sw.swap"]'
	expect_json '[.entries[] | select(.path | test("^(by-label|files)/")).path] ==
		["by-label/BOOT", "by-label/My root", "by-label/sw", "files/p1", "files/p3"]'
	expect_json '.entries[] | select(.path == "by-partuuid/01234567-89ab-cdef-0123-456789abcdef").target
		== "../p3-root_.._a.ext4"'
	expect_json '[.entries[].path] | length == (unique | length)'
	expect_blkid_agrees d.raw
	list d.vhd
	expect_out "gpt partition table" "ext4 'My root'" "100 MiB" "-> ../p1-BOOT.vfat"
}

test_damaged_gpt_is_shown_from_its_copy() {
	table d.raw 64M <<-END
		label: gpt
		size=20M, name="first"
	END
	list d.raw
	cp "$out" whole
	put d.raw 512 'XXXXXXXX'
	list d.raw
	expect_same_file "$out" whole
	put d.raw 0x3fffe00 'XXXXXXXX' # the last sector
	list d.raw
	expect_out "a protective MBR whose GPT is gone"
	! grep -q first "$out" || fail "shows what is gone"
}

test_logical_partitions() {
	{
		echo "label: dos"
		echo "size=10M, type=83"
		echo "size=400M, type=f"
		for _ in {1..40}; do echo "size=2M, type=83"; done
	} | table d.raw 512M
	list d.raw
	expect_out "p2 is an extended partition" "p3.raw " "p5.raw " "p42.raw " "by-partuuid/"
	! grep -q '^p2\.' "$out" || fail "shows $(grep '^p2\.' "$out")"
	fill d.raw 42 mkswap
	list --json d.raw
	expect_blkid_agrees d.raw
}

test_disk_cut_short() {
	table d.raw 256M <<-END
		label: dos
		size=100M, type=83
		start=250000, size=100M, type=83
		start=480000, size=10M, type=83
	END
	truncate -s 160M d.raw
	list d.raw
	expect_out "38840 KiB   nothing known; reaches past the end of the disk" \
		"0 B         nothing known; lies beyond the end of the disk"
}

test_overlapping_partitions() {
	truncate -s 64M d.raw
	put d.raw 446 '\0\0\0\0\x83\0\0\0\0\x08\0\0\0\x20\0\0'
	put d.raw 462 '\0\0\0\0\x83\0\0\0\0\x10\0\0\0\x20\0\0'
	put d.raw 510 '\x55\xaa'
	list d.raw
	expect_out "p1.raw     4 MiB       nothing known; overlaps p2" "overlaps p1"
}

# The table entry of block 20, at 40 MiB, is wrong: the second filesystem cannot be read.
test_what_cannot_be_read_hides_nothing_else() {
	local table
	table d.raw 64M <<-END
		label: gpt
		start=2048, size=20M, name="first"
		start=81920, size=20M, name="second"
	END
	fill d.raw 1 mkfs.ext4 -q -L one
	fill d.raw 2 mkfs.ext4 -q -L two
	expect_exit 0 vhdtool convert -q --to dynamic d.raw d.vhd
	table=$(vhdtool info --json d.vhd | jq .header.bat_offset)
	put d.vhd $((table + 4 * 20)) '\x7f\0\0\0'
	list d.vhd
	expect_out "gpt partition table; not all of what was looked at can be read" \
		"ext4 'one'" "p2-second.raw" "files/p1"
	! grep -q files/p2 "$out" || fail "shows files that cannot be read"
	expect_exit 1 vhdtool wipe d.vhd
	expect_sentence "d.vhd"
}

test_several_signatures_are_named() {
	need_tool mkfs.ext4
	truncate -s 16M d.raw
	mkfs.ext4 -q d.raw
	put d.raw 4086 'SWAPSPACE2'
	put d.raw 1024 '\1\0\0\0\x64\0\0\0'
	list d.raw
	expect_out "several signatures: " "swap"
	! grep -q files/ "$out" || fail "shows files of it knows not what"
}

# Headers as far as blkid looks at them; the tools that make whole ones are not needed for that.
test_what_holds_no_files_is_named() {
	table d.raw 64M <<-END
		label: gpt
		size=8M, name="vault"
		size=8M
		size=8M
		size=8M
		size=8M
	END
	python3 - <<-'END'
		import struct, zlib
		def put(partition, at, data):
		    with open("d.raw", "r+b") as disk:
		        disk.seek((1 << 20) + partition * (8 << 20) + at)
		        disk.write(data)
		put(0, 0, b"LUKS\xba\xbe\0\1" + b"aes".ljust(32, b"\0") + b"xts-plain64".ljust(32, b"\0"))
		put(0, 168, b"01234567-89ab-cdef-0123-456789abcdef")
		label = struct.pack("<I", 32) + b"LVM2 001" + b"0123456789abcdef0123456789abcdef"
		label = label.ljust(492, b"\0")
		crc = zlib.crc32(label, 0xf597a6cf ^ 0xffffffff) ^ 0xffffffff
		put(1, 512, b"LABELONE" + struct.pack("<QI", 1, crc) + label)
		put(2, 0, b"\xeb\x58\x90-FVE-FS-".ljust(176, b"\0") + struct.pack("<Q", 1 << 20))
		put(2, 1 << 20, b"-FVE-FS-" + struct.pack("<HH", 64, 2))
		# MD RAID 1.2: magic, version, and the checksum over it
		raid = bytearray(256)
		struct.pack_into("<II", raid, 0, 0xa92b4efc, 1)
		struct.pack_into("<Q", raid, 0x90, 8)
		raid[0xd8:0xdc] = b"\0" * 4
		total = sum(struct.unpack("<64I", raid))
		struct.pack_into("<I", raid, 0xd8, (total & 0xffffffff) + (total >> 32))
		put(3, 4096, raid)
	END
	fill d.raw 5 mkswap
	list --json d.raw
	expect_json '[.entries[] | select(.number and .kind == "volume").path] == ["p1-vault.luks",
		"p2.lvm", "p3.bitlocker", "p4.raid", "p5.swap"]'
	expect_json '[.entries[] | select(.path | startswith("files/"))] == []'
	expect_blkid_agrees d.raw
	list d.raw
	expect_out "LUKS, encrypted" "LVM physical volume" "BitLocker, encrypted" "swap"
}

bare_filesystem() { # MKFS... with the option for a label last
	need_tool blkid "$1"
	rm -f d.raw
	truncate -s 320M d.raw
	"$@" LABEL d.raw >made 2>&1 || fail "$(cat made)"
	list --json d.raw
	expect_json '.entries[0].signature == "'"$(blkid -p -o value -s TYPE d.raw)"'"'
	expect_json '[.entries[] | select(.path == "by-label/LABEL").target] == ["../disk.raw"]'
	expect_json '[.entries[] | select(.kind == "files").path] == ["files/disk"]'
}

test_bare_filesystems() {
	subtest ext4 bare_filesystem mkfs.ext4 -q -L
	subtest vfat bare_filesystem mkfs.vfat -n
	subtest exfat bare_filesystem mkfs.exfat -L
	subtest ntfs bare_filesystem mkfs.ntfs -qF -L
	subtest xfs bare_filesystem mkfs.xfs -q -L
	subtest btrfs bare_filesystem mkfs.btrfs -q -L
}

test_cd_image_with_a_partition_table() {
	need_tool xorriso mkfs.vfat
	mkdir cd
	echo hello >cd/file
	truncate -s 2M efi
	mkfs.vfat -n EFI efi >/dev/null
	xorriso -as mkisofs -quiet -V HYBRID -append_partition 2 0xef efi -o d.iso cd 2>made ||
		fail "$(cat made)"
	list d.iso
	expect_out "iso9660 'HYBRID'; dos partition table" "p2-EFI.vfat" "files/disk" "files/p2"
	list --json d.iso
	expect_json '[.entries[] | select(.path == "by-label/HYBRID").target] == ["../disk.raw"]'
	expect_blkid_agrees d.iso
}

test_labels_of_strangers() {
	need_tool mkfs.ext4
	truncate -s 8M d.raw
	mkfs.ext4 -q -L $'../\e[2J\xe2\x80\xae' d.raw
	list d.raw
	expect_out "by-label/_.__[2J_ " "ext4 '_.__[2J_'"
	! LC_ALL=C grep -q $'[\x01-\x08\x0b-\x1f\x7f]' "$out" || fail "control characters"
}

test_every_key_is_in_the_manual() {
	local key page=$HVKIT_ROOT/fuse-mount/vhdmount.1
	table d.raw 64M <<-END
		label: gpt
		size=20M, name="first"
	END
	fill d.raw 1 mkfs.ext4 -q -L root
	list --json d.raw
	for key in $(jq -r '.. | objects | keys[]' "$out" | sort -u); do
		grep -qE "^\.(It )?Va.*\b$key\b" "$page" || fail "the manual has no key \"$key\""
	done
}

test_mistakes() {
	expect_exit 1 vhdmount --list missing.vhd
	expect_sentence "missing.vhd" "No such file"
	expect_exit 0 vhdtool create --dynamic 8M a.vhd
	expect_exit 0 vhdtool create --diff a.vhd b.vhd
	rm a.vhd
	expect_exit 1 vhdmount --list b.vhd
	expect_sentence "a.vhd"
	noise 64K >garbage.vhd
	expect_exit 1 vhdmount --list garbage.vhd
	expect_sentence "garbage.vhd" "footer"
}

test_listing_changes_nothing() {
	table d.raw 64M <<-END
		label: gpt
		size=20M
	END
	fill d.raw 1 mkfs.ext4 -q
	expect_exit 0 vhdtool convert -q --to dynamic d.raw a.vhd
	expect_exit 0 vhdtool create --diff a.vhd b.vhd
	{ sha256sum a.vhd b.vhd && stat -c '%Y %Z' a.vhd b.vhd; } >before
	list b.vhd
	{ sha256sum a.vhd b.vhd && stat -c '%Y %Z' a.vhd b.vhd; } >after
	expect_same_file before after
}
