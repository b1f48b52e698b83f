#!/bin/bash
# A real filesystem inside: made in a raw image, converted to and fro, and still sound.
. "${BASH_SOURCE[0]%/*}/../lib.sh"

make_filesystem() {
	need_tool mke2fs e2fsck debugfs
	mkdir tree
	cp -r "$HVKIT_ROOT"/{hvcore,vhd,tests} tree
	noise 3M >tree/noise
	ln -s noise tree/link
	truncate -s 40M tree/sparse
	truncate -s 64M fs.raw
	mke2fs -q -t ext4 -d tree fs.raw
}

# The filesystem on a file or device is sound, and holds what was put there.
expect_sound() {
	expect_exit 0 e2fsck -fn "$1"
	debugfs -R 'dump /noise noise.back' "$1" 2>/dev/null
	expect_same_file noise.back tree/noise
	rm noise.back
}

test_filesystem_survives_conversion() {
	make_filesystem
	expect_sound fs.raw
	expect_exit 0 vhdtool convert --to dynamic fs.raw d.vhd
	[ "$(stat -c %s d.vhd)" -lt 60000000 ] || fail "empty space is stored"
	expect_exit 0 vhdtool convert --direct --to fixed d.vhd f.vhd
	expect_exit 0 vhdtool convert f.vhd back.raw
	expect_sound back.raw
	expect_exit 0 vhdtool compare --strict d.vhd fs.raw
	expect_exit 0 vhdtool info --json d.vhd
	expect_json '.contents.signature == "ext4"'
}

# A fixed disk is its contents, with a footer behind.
test_filesystem_in_a_fixed_disk_can_be_mounted() {
	local device
	need_loop
	make_filesystem
	expect_exit 0 vhdtool convert --to dynamic fs.raw d.vhd
	expect_exit 0 vhdtool convert --to fixed d.vhd f.vhd
	device=$(loop_on f.vhd --sizelimit 64M)
	defer "losetup -d $device 2>/dev/null || :"
	expect_sound "$device"
	mkdir mnt
	mount "$device" mnt 2>"$err" || skip "needs to mount ext4: $(tail -n 1 "$err")"
	diff -r tree mnt -x lost+found
	echo changed >mnt/changed
	umount mnt
	losetup -d "$device"
	# What was written through the filesystem is in the disk, and only there.
	expect_exit 0 vhdtool check f.vhd
	expect_exit 0 vhdtool convert f.vhd after.raw
	expect_exit 0 e2fsck -fn after.raw
	debugfs -R 'cat /changed' after.raw 2>/dev/null >said
	expect_equal "$(cat said)" changed
	expect_exit 1 vhdtool compare d.vhd f.vhd
}

# A child over the filesystem takes what is written to it; the parent stays sound as it was.
test_filesystem_in_a_chain() {
	make_filesystem
	expect_exit 0 vhdtool convert --to dynamic fs.raw a.vhd
	sha256sum a.vhd >before
	expect_exit 0 vhdtool create --diff a.vhd b.vhd
	cp fs.raw changed.raw
	debugfs -w -R 'write tree/noise again' changed.raw >/dev/null 2>&1
	debugfs -w -R 'rm sparse' changed.raw >/dev/null 2>&1
	expect_exit 0 e2fsck -fy changed.raw
	# Only what changed is written into the child.
	python3 - fs.raw changed.raw >pieces <<'END'
import sys
a, b = (open(name, "rb").read() for name in sys.argv[1:])
for at in range(0, len(a), 4096):
    if a[at:at + 4096] != b[at:at + 4096]:
        print(at)
END
	[ "$(wc -l <pieces)" -gt 700 ]
	while read -r at; do
		tail -c +$((at + 1)) changed.raw | head -c 4096 | vhdtool write -q --offset "$at" b.vhd
	done < <(head -n 30 pieces)
	while read -r at; do
		echo $((at / 4096))
	done < <(tail -n +31 pieces) >rest
	# The rest in one go, from the first to the last.
	dd if=changed.raw bs=4096 skip="$(head -n 1 rest)" \
		count=$(($(tail -n 1 rest) - $(head -n 1 rest) + 1)) status=none |
		vhdtool write -q --offset $(($(head -n 1 rest) * 4096)) b.vhd
	expect_exit 0 vhdtool compare --strict b.vhd changed.raw
	expect_exit 0 vhdtool convert b.vhd back.raw
	expect_sound back.raw
	expect_exit 0 sha256sum -c before
}
