#!/bin/bash
# vhdmount: the disk and its partitions as files, the same bytes for everybody who asks, and no byte of
# the disk changed unless told so.
. "${BASH_SOURCE[0]%/*}/../lib.sh"

need_fuse() {
	[ -w /dev/fuse ] || skip "needs /dev/fuse"
	need_tool fusermount3
}

# A GPT with a FAT, an ext4 and nothing, in p.raw.
make_partitions() {
	need_tool sfdisk
	need_tool mkfs.vfat
	truncate -s 64M p.raw
	sfdisk -q p.raw <<-END
		label: gpt
		start=2048, size=32768, type=U, name="EFI boot"
		size=65536, type=L, name="root"
		type=L
	END
	mkfs.vfat --offset 2048 p.raw 16384 >/dev/null
	noise 3M >tree.noise
	mke2fs -q -t ext4 -L data -E offset=$((34816 * 512)) p.raw 32M
	put p.raw $((60 << 20)) 'the end of the disk'
}

# make_chain RAW: three layers whose leaf, leaf.vhd, reads as RAW.
make_chain() {
	local size
	size=$(stat -c %s "$1")
	vhdtool create --dynamic "$size" base.vhd >/dev/null
	vhdtool create --diff base.vhd middle.vhd >/dev/null
	dd if="$1" bs=1M count=$((size >> 21)) status=none | vhdtool write -q middle.vhd
	vhdtool create --diff middle.vhd leaf.vhd >/dev/null
	dd if="$1" bs=1M skip=$((size >> 21)) status=none |
		vhdtool write -q --offset $((size >> 21 << 20)) leaf.vhd
	noise 4K 7 | vhdtool write -q --offset 8M base.vhd 2>/dev/null || :
}

mount_disk() { # DISK [OPTION...]
	mkdir -p m
	expect_exit 0 vhdmount "$1" m "${@:2}"
	expect_equal "$(findmnt -no FSTYPE m)" fuse.vhdmount
}

daemon_of() { # DIR
	need_tool getfattr
	getfattr --only-values -n user.vhdmount.pid "$1" 2>/dev/null
}

expect_gone() { # PID
	for _ in {1..200}; do
		kill -0 "$1" 2>/dev/null || return 0
		sleep 0.05
	done
	fail "the daemon has not gone"
}

# The mount goes, and then the daemon, which has flushed.
unmount_disk() {
	local daemon
	daemon=$(daemon_of m)
	fusermount3 -u m
	expect_gone "$daemon"
}

test_disk_and_partitions_are_shown_byte_for_byte() {
	need_fuse
	make_partitions
	make_chain p.raw
	vhdtool convert -q --to fixed p.raw fixed.vhd
	vhdtool convert -q --to dynamic p.raw dynamic.vhd
	for disk in p.raw fixed.vhd dynamic.vhd leaf.vhd; do
		sha256sum ./*.vhd p.raw >before
		mount_disk $disk
		cmp m/disk.raw p.raw
		dd if=p.raw bs=1M skip=1 count=16 status=none | cmp - m/p1-*.vfat
		dd if=p.raw bs=1M skip=17 count=32 status=none | cmp - m/p2-root.ext4
		cmp m/p2-root.ext4 m/by-label/data
		e2fsck -fn m/p2-root.ext4 >/dev/null 2>&1
		expect_equal "$(jq -r .file m/info.json)" "$PWD/$disk"
		unmount_disk
		sha256sum -c --quiet before
	done
}

test_odd_places_and_lengths_read_right() {
	need_fuse
	noise 5000000 >p.raw
	vhdtool convert -q --to dynamic p.raw a.vhd
	truncate -s %512 p.raw
	mount_disk a.vhd
	python3 - <<-'END'
		import random
		r, want = random.Random(5), open("p.raw", "rb").read()
		with open("m/disk.raw", "rb", buffering=0) as f:
		    for _ in range(2000):
		        at, n = r.randrange(len(want) + 100), r.choice([1, 511, 513, 4096, 70000, 1200000])
		        f.seek(at)
		        got = f.read(n)
		        assert got == want[at:at + n], (at, n, len(got))
	END
	unmount_disk
}

test_holes_are_holes() {
	need_fuse
	need_tool qemu-img
	vhdtool create --dynamic 2040G a.vhd >/dev/null
	noise 1M | vhdtool write -q --offset 1T a.vhd
	mount_disk a.vhd
	timeout 20 qemu-img map --output=json -f raw m/disk.raw |
		jq -e 'map(select(.data)) | length == 1 and .[0].start == 1099511627776' >/dev/null
	python3 - <<-'END'
		import os
		fd = os.open("m/disk.raw", os.O_RDONLY)
		assert os.lseek(fd, 5, os.SEEK_DATA) == 1 << 40
		assert os.lseek(fd, (1 << 40) + 5, os.SEEK_HOLE) > 1 << 40
		try:
		    os.lseek(fd, 2 << 40, os.SEEK_DATA)
		    assert False
		except OSError:
		    pass
	END
	unmount_disk
}

test_read_only_refuses_to_write() {
	need_fuse
	vhdtool create --dynamic 8M a.vhd >/dev/null
	sha256sum a.vhd >before
	mount_disk a.vhd
	findmnt -no OPTIONS m | grep -qw ro
	! echo x 2>/dev/null >m/disk.raw
	! echo x 2>/dev/null >m/new
	! rm -f m/disk.raw 2>/dev/null
	! truncate -s 0 m/disk.raw 2>/dev/null
	! chmod 600 m/disk.raw 2>/dev/null
	unmount_disk
	sha256sum -c --quiet before
}

test_rw_writes_and_flushes() {
	need_fuse
	make_partitions
	vhdtool convert -q --to dynamic p.raw a.vhd
	mount_disk a.vhd --rw
	expect_exit 1 vhdtool write a.vhd </dev/null
	expect_sentence "vhdtool: " a.vhd
	noise 3M 2 >new
	for name in m/disk.raw m/p3.raw; do
		dd if=new of=$name bs=1000 conv=notrunc,fsync oflag=seek_bytes seek=1000003 status=none
		cmp -n 3M -i 1000003:0 $name new
	done
	# The same byte by another name.
	dd if=new of=m/p3.raw bs=1M count=1 conv=notrunc status=none
	cmp -n 1M -i $((100352 * 512)):0 m/disk.raw new
	cp m/disk.raw wanted
	unmount_disk
	expect_exit 0 vhdtool check -q a.vhd
	expect_contents a.vhd wanted
}

test_rw_punches_holes_and_zeroes() {
	need_fuse
	noise 16M >p.raw
	vhdtool convert -q --to dynamic p.raw a.vhd
	mount_disk a.vhd --rw
	fallocate -p -o 1000 -l 5M m/disk.raw
	fallocate -z -o 9M -l 3000 -n m/disk.raw
	! fallocate -l 17M m/disk.raw 2>/dev/null
	unmount_disk
	fallocate -z -o 1000 -l 5M p.raw
	fallocate -z -o 9M -l 3000 p.raw
	expect_exit 4 vhdtool check -q a.vhd # what has been given back is a leak, and can be used again
	expect_contents a.vhd p.raw
}

test_a_filesystem_made_through_it_is_whole() {
	need_fuse
	vhdtool create --dynamic 64M a.vhd >/dev/null
	mount_disk a.vhd --rw
	mkdir tree
	noise 2M >tree/one
	mke2fs -q -t ext4 -d tree m/disk.raw
	e2fsck -fn m/disk.raw >/dev/null 2>&1
	unmount_disk
	expect_exit 0 vhdtool check -q a.vhd
	vhdtool read a.vhd >b.raw
	e2fsck -fn b.raw >/dev/null 2>&1
	debugfs -R "cat one" b.raw 2>/dev/null | cmp - tree/one
}

test_overlay_takes_what_is_written() {
	need_fuse
	noise 8M >p.raw
	vhdtool convert -q --to dynamic p.raw a.vhd
	sha256sum a.vhd >before
	mount_disk a.vhd --overlay over.vhd
	noise 1M 2 | dd of=m/disk.raw bs=64K seek=3 conv=notrunc,fsync status=none
	cp m/disk.raw wanted
	unmount_disk
	sha256sum -c --quiet before
	expect_contents over.vhd wanted
	expect_exit 0 vhdtool check -q over.vhd
	# It is kept, and used again.
	mount_disk a.vhd --overlay over.vhd
	cmp m/disk.raw wanted
	unmount_disk
	# But not upon another disk.
	vhdtool create --dynamic 8M b.vhd >/dev/null
	expect_exit 1 vhdmount b.vhd m --overlay over.vhd
	expect_sentence over.vhd
	expect_exit 1 vhdmount b.vhd m --overlay a.vhd
	expect_sentence a.vhd "overlay"
	expect_only m
}

# What the table says is shown as far as the disk goes, and every file is that part of the disk.
expect_parts() { # RAW [OPTION...]
	local path offset length
	expect_exit 0 vhdmount --list --json "$@"
	jq -r '.entries[] | select(.kind == "volume") | "\(.offset) \(.length) \(.path)"' "$out" >parts
	mount_disk "$@"
	while read -r offset length path; do
		[ "$length" = "$(stat -c %s "m/$path")" ] || fail "$path is $(stat -c %s "m/$path") bytes"
		cmp "m/$path" <(tail -c +$((offset + 1)) "$1" | head -c "$length")
	done <parts
	unmount_disk
}

test_hostile_tables() {
	need_fuse
	need_tool sfdisk jq
	noise 4M >p.raw
	# Overlapping; beyond the end; larger than any disk; a ring of logical partitions.
	put p.raw 446 '\0\0\0\0\x83\0\0\0\x01\0\0\0\0\x10\0\0'
	put p.raw 462 '\0\0\0\0\x83\0\0\0\0\x08\0\0\0\x20\0\0'
	put p.raw 478 '\0\0\0\0\x83\0\0\0\x03\0\0\0\xff\xff\xff\xff'
	put p.raw 494 '\0\0\0\0\x05\0\0\0\0\x10\0\0\0\x10\0\0'
	put p.raw 510 '\x55\xaa'
	put p.raw 0x200000+446 '\0\0\0\0\x83\0\0\0\x01\0\0\0\x10\0\0\0'
	put p.raw 0x200000+462 '\0\0\0\0\x05\0\0\0\0\0\0\0\0\x10\0\0'
	put p.raw 0x200000+478 '\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0'
	put p.raw 0x200000+494 '\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0'
	put p.raw 0x200000+510 '\x55\xaa'
	expect_parts p.raw
	grep -q 'p5' parts
	# GPTs that lie: sizes, places and numbers are anything, the checksums are right.
	truncate -s 4M empty.raw
	sfdisk -q empty.raw <<<$'label: gpt\nsize=1M, name="a"\nsize=1M, name="b"\nname="c"'
	for seed in {1..6}; do
		cp empty.raw p.raw
		python3 - p.raw $seed <<-'END'
			import random, struct, sys, zlib
			source = random.Random(int(sys.argv[2]))
			strange = [0, 1, 2, 34, 2047, 8158, 8191, 8192, 1 << 31, (1 << 63) - 1, (1 << 64) - 1]
			with open(sys.argv[1], "r+b") as disk:
			    data = bytearray(disk.read(34 * 512))
			    for entry in range(3):
			        for field in (32, 40):
			            if source.random() < 0.5:
			                struct.pack_into("<Q", data, 1024 + 128 * entry + field, source.choice(strange))
			    count, size = struct.unpack_from("<II", data, 512 + 80)
			    if source.random() < 0.3:
			        count = source.choice([0, 1, 3, 128, 129, 1 << 20, (1 << 32) - 1])
			        struct.pack_into("<I", data, 512 + 80, count)
			    if source.random() < 0.3:
			        struct.pack_into("<Q", data, 512 + source.choice([40, 48]), source.choice(strange))
			    crc = zlib.crc32(data[1024:1024 + min(count * size, 32 * 512)])
			    struct.pack_into("<I", data, 512 + 88, crc)
			    struct.pack_into("<I", data, 512 + 16, 0)
			    struct.pack_into("<I", data, 512 + 16, zlib.crc32(data[512:512 + 92]))
			    disk.seek(0)
			    disk.write(data)
		END
		expect_parts p.raw
	done
}

test_part_of_a_disk() {
	need_fuse
	make_partitions
	mount_disk p.raw --offset-limit $((34816 * 512)):32M
	dd if=p.raw bs=1M skip=17 count=32 status=none | cmp - m/disk.raw
	cmp m/by-label/data m/disk.raw
	unmount_disk
	expect_exit 1 vhdmount --list p.raw --offset-limit 65M
	expect_sentence p.raw 65M
	expect_exit 2 vhdmount --list p.raw --offset-limit 100
}

test_list_needs_no_mount() {
	make_partitions
	expect_exit 0 vhdmount --list p.raw
	expect_out disk.raw "gpt partition table" p2-root.ext4 "../p2-root.ext4" files/p2
	expect_exit 0 vhdmount --list --json p.raw
	expect_json type
}

test_mistakes_are_one_sentence_and_leave_nothing() {
	need_fuse
	vhdtool create --dynamic 8M a.vhd >/dev/null
	vhdtool create --diff a.vhd b.vhd >/dev/null
	mkdir m full
	touch full/file
	expect_exit 1 vhdmount a.vhd full
	expect_sentence full "is not empty"
	expect_exit 1 vhdmount a.vhd none
	expect_sentence none "No such file"
	expect_exit 1 vhdmount none.vhd m
	expect_sentence none.vhd "No such file"
	expect_exit 1 vhdmount a.vhd a.vhd
	expect_sentence "Not a directory"
	mv a.vhd away.vhd
	expect_exit 1 vhdmount b.vhd m
	expect_sentence b.vhd a.vhd
	truncate -s 2000 away.vhd
	put away.vhd 512 garbage
	expect_exit 1 vhdmount --from vhd away.vhd m
	expect_sentence away.vhd
	expect_exit 2 vhdmount away.vhd
	expect_exit 2 vhdmount --rw --overlay x away.vhd m
	expect_exit 2 vhdmount -o from=vmdk away.vhd m
	expect_only m
	! findmnt m
}

test_options_as_from_fstab() {
	need_fuse
	vhdtool create --dynamic 8M a.vhd >/dev/null
	mkdir m
	expect_exit 0 vhdmount a.vhd m -o write,noauto,nofail,x-systemd.automount,uid=1234,gid=77
	expect_equal "$(stat -c '%u %g %A' m/disk.raw)" "1234 77 -rw-------"
	unmount_disk
	expect_exit 0 vhdmount a.vhd m -o ro,overlay=over.vhd
	unmount_disk
	expect_file over.vhd
}

# What mount(8) makes of a line of fstab: without a word it asks for "rw", and nobody meant that.
test_mount_knows_it_by_fstab() {
	need_fuse
	need_root
	[ -x /sbin/mount.fuse3 ] || skip "needs mount.fuse3"
	vhdtool create --dynamic 8M a.vhd >/dev/null
	mkdir m
	cat >fstab <<-END
		$PWD/a.vhd $PWD/m fuse.vhdmount noauto 0 0
	END
	# Only here is it installed.
	cat >script <<-'END'
		mount -t tmpfs none /usr/local/sbin
		cp "$1" /usr/local/sbin/
		for options in "" "ro,allow_other" "write"; do
			sed "s/noauto/&${options:+,$options}/" fstab >fstab.now
			mount -T fstab.now "$PWD/m"
			stat -c "[$options] %A" m/disk.raw
			/usr/local/sbin/vhdmount --unmount m
		done
	END
	expect_exit 0 unshare -m sh -e script "${VHDTOOL%/*}/vhdmount"
	expect_out "[] -r--------" "[ro,allow_other] -r--r--r--" "[write] -rw-------"
}

test_signals_end_it_cleanly() {
	need_fuse
	noise 8M >p.raw
	vhdtool convert -q --to dynamic p.raw a.vhd
	for signal in TERM INT; do
		mkdir -p m
		"${VHDTOOL%/*}/vhdmount" -f a.vhd m --rw &
		daemon=$!
		for _ in {1..100}; do
			[ ! -e m/disk.raw ] || break
			sleep 0.05
		done
		noise 100K 3 | dd of=m/disk.raw bs=64K conv=notrunc status=none
		kill -$signal $daemon
		wait $daemon
		! findmnt m
		expect_exit 0 vhdtool check -q a.vhd
		vhdtool read --length 102400 a.vhd | cmp - <(noise 100K 3)
	done
}

test_a_signal_waits_for_nobody() {
	need_fuse
	vhdtool create --dynamic 8M a.vhd >/dev/null
	mount_disk a.vhd --rw
	daemon=$(daemon_of m)
	exec 7<>m/disk.raw
	(cd m && exec sleep 100) &
	noise 100K 3 >&7
	kill "$daemon"
	expect_gone "$daemon"
	! mountpoint -q m || fail "m is still a mount"
	exec 7>&-
	expect_exit 0 vhdtool check -q a.vhd
	vhdtool read --length 102400 a.vhd | cmp - <(noise 100K 3)
}

test_without_fuse() {
	need_fuse
	need_root
	truncate -s 1M a.raw
	chmod 755 .
	mkdir m
	chown 65534:65534 m a.raw
	install -m 755 "${VHDTOOL%/*}/vhdmount" "$HVKIT_STATE/"
	expect_exit 1 as_nobody env PATH=/nowhere "$HVKIT_STATE/vhdmount" a.raw m
	expect_sentence "fusermount3 is not installed" fuse3
	expect_exit 1 unshare -m sh -c 'mount -t tmpfs none /dev && exec "$@"' sh \
		"${VHDTOOL%/*}/vhdmount" a.raw m
	expect_sentence /dev/fuse "No such file"
	expect_only m
}

test_lazy_unmount_ends_it_when_the_last_file_is_closed() {
	need_fuse
	need_root
	noise 8M >p.raw
	mount_disk p.raw
	daemon=$(daemon_of m)
	exec 7<m/disk.raw
	umount -l m
	cmp - p.raw <&7
	exec 7<&-
	expect_gone "$daemon"
}

test_kill_loses_nothing_that_was_synced() {
	need_fuse
	vhdtool create --dynamic 32M a.vhd >/dev/null
	mount_disk a.vhd --rw
	noise 4M 4 | dd of=m/disk.raw bs=1M seek=5 conv=notrunc,fsync status=none
	noise 4M 5 | dd of=m/disk.raw bs=1M seek=15 conv=notrunc status=none
	daemon=$(daemon_of m)
	kill -KILL "$daemon"
	expect_gone "$daemon"
	expect_exit 1 vhdmount a.vhd m
	expect_sentence m "daemon is gone" --unmount
	expect_exit 0 vhdmount --unmount m
	! mountpoint -q m || fail "m is still a mount"
	vhdtool read --offset 5M --length 4M a.vhd | cmp - <(noise 4M 4)
	rc=0
	vhdtool check -q a.vhd || rc=$?
	[ $rc = 0 ] || [ $rc = 4 ] || fail "check says $rc"
}

map_shared() {
	python3 - "$1" "$2" <<-'END'
		import mmap, sys
		want = open(sys.argv[2], "rb").read()
		with open(sys.argv[1], "rb") as f:
		    m = mmap.mmap(f.fileno(), len(want), mmap.MAP_SHARED, mmap.PROT_READ)
		    assert m[:] == want
	END
}

test_files_can_be_mapped() {
	need_fuse
	noise 3M >p.raw
	vhdtool convert -q --to dynamic p.raw a.vhd
	mount_disk a.vhd --kernel-cache
	map_shared m/disk.raw p.raw
	unmount_disk
	mount_disk a.vhd
	map_shared m/disk.raw p.raw || skip "needs FUSE to map files of direct I/O (Linux 6.6)"
	unmount_disk
}

test_kernel_reads_a_raw_disk_itself() {
	need_fuse
	need_root
	noise 5000192 >p.raw
	mkdir m
	"${VHDTOOL%/*}/vhdmount" -f -v p.raw m 2>said &
	for _ in {1..100}; do
		! grep -q read-only said || break
		sleep 0.05
	done
	cmp m/disk.raw p.raw
	map_shared m/disk.raw p.raw
	unmount_disk
	grep -q passthrough said || skip "needs FUSE passthrough (Linux 6.9)"
	# A fixed disk has a footer that nobody must see.
	vhdtool convert -q --to fixed p.raw a.vhd
	mount_disk a.vhd
	expect_equal "$(wc -c <m/disk.raw)" 5000192
	unmount_disk
}

test_many_readers() {
	need_fuse
	noise 16M >p.raw
	vhdtool convert -q --to dynamic p.raw a.vhd
	mount_disk a.vhd
	want=$(sha256sum <p.raw)
	for i in {1..100}; do
		sha256sum <m/disk.raw >sum.$i &
	done
	wait
	for i in {1..100}; do
		expect_equal "$(cat sum.$i)" "$want"
	done
	unmount_disk
}

test_errors_below_concern_their_range_only() {
	need_fuse
	noise 8M >p.raw
	vhdtool convert -q --to dynamic p.raw a.vhd
	offset=$(vhdtool info --json a.vhd | jq .header.bat_offset)
	# The second block lies beyond the end of the file.
	put a.vhd $((offset + 4)) '\x7f\x00\x00\x00'
	mount_disk a.vhd
	cmp -n 2M m/disk.raw p.raw
	cmp -i 4M m/disk.raw p.raw
	! dd if=m/disk.raw bs=4K skip=512 count=1 of=/dev/null 2>err
	grep -q "Input/output error" err
	unmount_disk
}

# HVKIT_SOAK=3600 tests/cli/mount.sh: for longer, with T=soak
test_soak() {
	need_fuse
	each=$((${HVKIT_SOAK:-6} / 3))
	noise 12M >p.raw
	vhdtool convert -q --to dynamic p.raw dynamic.vhd
	vhdtool convert -q --to fixed p.raw fixed.vhd
	make_chain p.raw
	for disk in dynamic fixed leaf; do
		mount_disk $disk.vhd --rw
		timeout $((each + 60)) "$HVKIT_ROOT/tests/cli/fsx.py" m/disk.raw $each $RANDOM wanted
		unmount_disk
		expect_contents $disk.vhd wanted
		rc=0
		vhdtool check -q $disk.vhd || rc=$?
		[ $rc = 0 ] || [ $rc = 4 ] || fail "check says $rc"
	done
}

test_loop_device_upon_it() {
	need_fuse
	need_loop
	vhdtool create --dynamic 96M a.vhd >/dev/null
	mount_disk a.vhd --rw
	mkfs.ext4 -q m/disk.raw
	mkdir fs
	mount -o loop m/disk.raw fs || skip "needs to mount ext4 by a loop device"
	noise 40M | tee fs/one >one
	cp -r "$HVKIT_ROOT/tests/cli" fs/two
	sync -f fs
	diff -r "$HVKIT_ROOT/tests/cli" fs/two
	umount fs
	unmount_disk
	expect_exit 0 vhdtool check -q a.vhd
	vhdtool read a.vhd >b.raw
	e2fsck -fn b.raw >/dev/null 2>&1
	debugfs -R "cat one" b.raw 2>/dev/null | cmp - one
}

# Where /dev/fuse is for root only, the tests have one of their own, in a namespace.
test_what_fusermount_refuses_is_one_sentence() {
	need_fuse
	need_root
	truncate -s 1M a.raw
	chmod 755 .
	mkdir m
	chown 65534:65534 m a.raw
	mknod fuse c 10 229 && chmod 666 fuse
	: >fuse.conf
	install -m 755 "${VHDTOOL%/*}/vhdmount" "$HVKIT_STATE/"
	expect_exit 1 unshare -m sh -ec 'mount --bind fuse /dev/fuse
		mount --bind fuse.conf /etc/fuse.conf
		exec setpriv --reuid=65534 --regid=65534 --clear-groups -- "$@"' sh \
		"$HVKIT_STATE/vhdmount" --allow-other a.raw m
	expect_sentence m allow_other /etc/fuse.conf
	! findmnt m
}

test_an_ordinary_user_can() {
	need_fuse
	need_root
	noise 8M >p.raw
	mkdir user user/m
	vhdtool convert -q --to dynamic p.raw user/a.vhd
	install -m 755 "${VHDTOOL%/*}/vhdmount" user/
	chown -R 65534:65534 user
	chmod 755 . user
	mknod fuse c 10 229 && chmod 666 fuse
	cat >user/script <<-'END'
		set -ex
		cd user
		./vhdmount a.vhd m
		sha256sum <m/disk.raw
		ls -l m
		fusermount3 -u m
		! ./vhdmount a.vhd ../../.. 
	END
	expect_exit 0 unshare -m sh -ec 'mount --bind fuse /dev/fuse
		exec setpriv --reuid=65534 --regid=65534 --clear-groups -- sh user/script'
	expect_out "$(sha256sum <p.raw)" "disk.raw"
}
