#!/bin/bash
# vhdmount DIR/files: the files inside a disk, read by programs that can do nothing else, and no byte of
# the disk changed; and --unmount.
. "${BASH_SOURCE[0]%/*}/../lib.sh"

need_fuse() {
	[ -w /dev/fuse ] || skip "needs /dev/fuse"
	need_tool fusermount3
}

# A tree with what filesystems differ in, as far as this one can hold it.
make_tree() { # [plain]
	mkdir -p tree/deep/er/est tree/empty
	python3 - <<-'END'
		import random
		source = random.Random(1)
		for i in range(1, 61):
		    open(f"tree/deep/file {i}", "wb").write(source.randbytes(i * 977))
		open("tree/large", "wb").write(source.randbytes(3000001))
	END
	: >tree/nothing
	printf 'ünïcode' >"tree/ünïcode näme"
	[ "${1-}" = plain ] || ln -s deep/er tree/link
}

manifest() {
	(cd "$1" && find . -path ./lost+found -prune -o -type f -print0 | sort -z | xargs -0 sha256sum)
}

# An image of that type with the tree in it.
make_image() { # TYPE IMAGE
	truncate -s 48M "$2"
	case $1 in
	ext*)
		make_tree
		mkfs.ext4 -q -t "$1" -d tree "$2"
		;;
	vfat)
		need_tool mkfs.vfat mcopy grub-mount
		make_tree plain
		mkfs.vfat -F 32 "$2" >/dev/null
		mcopy -Q -i "$2" -s tree/* ::/
		;;
	ntfs)
		need_tool mkntfs ntfs-3g
		need_root
		make_tree
		mkntfs -F -Q -q "$2" >/dev/null 2>&1
		fill ntfs-3g "$2" made
		;;
	exfat)
		need_tool mkfs.exfat mount.exfat-fuse
		need_loop
		make_tree plain
		mkfs.exfat "$2" >/dev/null
		fill mount.exfat-fuse "$(loop_on "$2")" made
		;;
	squashfs)
		need_tool mksquashfs squashfuse
		make_tree
		rm "$2"
		mksquashfs tree "$2" -quiet -no-progress >/dev/null
		;;
	iso9660)
		need_tool xorriso fuseiso
		make_tree
		xorriso -as mkisofs -quiet -R -o "$2" tree 2>/dev/null
		;;
	btrfs)
		need_tool mkfs.btrfs grub-mount
		make_tree plain
		truncate -s 128M "$2"
		mkfs.btrfs -q -r tree "$2"
		;;
	esac
	truncate -s %1M "$2"
}

fill() { # PROGRAM WHAT WHERE
	mkdir "$3"
	"$1" "$2" "$3" >/dev/null
	cp -r --no-dereference tree/. "$3"
	umount "$3"
}

# What lies in the disk is in files.raw; disk.raw has a partition in front of it.
make_disk() { # IMAGE
	local sectors=$(($(stat -c %s "$1") / 512))
	truncate -s $(((sectors + 4096) * 512)) disk.raw
	sfdisk -q disk.raw <<<"start=2048, size=$sectors, type=83"
	dd if="$1" of=disk.raw bs=1M seek=1 conv=notrunc,sparse status=none
}

make_chain() { # RAW: leaf.vhd reads as RAW, half of it from the layer between
	local size
	size=$(stat -c %s "$1")
	vhdtool create --dynamic "$size" base.vhd >/dev/null
	noise 8K 5 | vhdtool write -q --offset 2M base.vhd
	vhdtool create --diff base.vhd middle.vhd >/dev/null
	dd if="$1" bs=1M count=$((size >> 21)) status=none | vhdtool write -q middle.vhd
	vhdtool create --diff middle.vhd leaf.vhd >/dev/null
	dd if="$1" bs=1M skip=$((size >> 21)) status=none |
		vhdtool write -q --offset $((size >> 21 << 20)) leaf.vhd
}

show() { # DISK [OPTION...]
	mkdir -p m
	expect_exit 0 vhdmount "$1" m "${@:2}"
}

hide() {
	expect_exit 0 vhdmount --unmount m
	! mountpoint -q m || fail "m is still a mount"
}

readers() { # prints the pids of the daemon's readers
	pgrep -P "$(getfattr --only-values -n user.vhdmount.pid m 2>/dev/null)" || :
}

# ---- What is shown ----

read_back() { # TYPE
	mkdir "$1"
	cd "$1"
	make_image "$1" image
	manifest tree >want
	make_disk image
	vhdtool convert --to fixed disk.raw fixed.vhd >/dev/null
	vhdtool convert --to dynamic disk.raw dynamic.vhd >/dev/null
	make_chain disk.raw
	sha256sum ./*.vhd >before
	for disk in fixed.vhd dynamic.vhd leaf.vhd; do
		show $disk
		manifest m/files/p1 >got
		expect_same_file want got
		[ ! -L tree/link ] || expect_equal "$(readlink m/files/p1/link)" deep/er
		[ -d m/files/p1/empty ] || fail "the empty directory is not there"
		hide
	done
	sha256sum --quiet -c before
}

read_all_back() { # TYPE...
	local type
	need_fuse
	need_tool sfdisk
	for type; do
		subtest "$type" read_back "$type"
	done
}

test_files_read_back_from_filesystems_of_linux() {
	read_all_back ext2 ext4 btrfs
}

test_files_read_back_from_filesystems_of_windows() {
	read_all_back vfat exfat ntfs
}

test_files_read_back_from_filesystems_that_are_only_read() {
	read_all_back squashfs iso9660
}

test_a_filesystem_on_the_bare_disk() {
	need_fuse
	need_tool fuse2fs
	make_image ext4 image
	show image
	manifest m/files/disk >got
	manifest tree >want
	expect_same_file want got
	hide
}

test_looking_at_the_names_starts_no_reader() {
	need_fuse
	need_tool fuse2fs getfattr
	make_image ext4 image
	show image
	ls -l m/files >/dev/null
	expect_equal "$(readers)" ""
	ls m/files/disk >/dev/null
	expect_equal "$(readers | wc -l)" 1
	hide
}

test_owners_modes_and_times_are_those_of_the_disk() {
	need_fuse
	need_root
	need_tool fuse2fs
	make_tree
	chown 1234:5678 tree/large
	chmod 4640 tree/large
	touch -d '2001-02-03 04:05:06 UTC' tree/large
	truncate -s 48M image
	mkfs.ext4 -q -d tree image
	show image
	expect_equal "$(stat -c '%u %g %a %Y' m/files/disk/large)" '1234 5678 4640 981173106'
	hide
}

# ---- The disk stays as it is ----

# A journal with one transaction that has not reached its place: "large" begins with "replayed".
make_dirty() { # IMAGE
	local block
	make_image ext4 "$1"
	block=$(debugfs -R 'blocks /large' "$1" 2>/dev/null | awk '{ print $1 }')
	debugfs -R "dump /large large" "$1" 2>/dev/null
	dd if=large of=block bs=1k count=4 status=none
	truncate -s "$(dumpe2fs -h "$1" 2>/dev/null | awk '/^Block size/ { print $3 }')" block
	put block 0 'replayed'
	printf '%s\n' jo "jw -b $block block" jc | debugfs -w -f - "$1" >/dev/null 2>&1
	dumpe2fs -h "$1" 2>/dev/null | grep -q needs_recovery || skip "debugfs writes no journal here"
	expect_equal "$(debugfs -R 'cat /large' "$1" 2>/dev/null | head -c 8 | xxd -p)" \
		"$(head -c 8 large | xxd -p)"
}

test_a_dirty_journal_is_replayed_beside_the_disk() {
	need_fuse
	need_tool fuse2fs debugfs xxd
	make_dirty image
	make_disk image
	make_chain disk.raw
	sha256sum ./*.vhd >before
	show leaf.vhd
	expect_equal "$(head -c 8 m/files/p1/large)" replayed
	# The partition is shown as it lies in the disk.
	cmp m/p1.ext4 image || cmp m/p1*.ext4 image
	hide
	sha256sum --quiet -c before
}

test_nothing_can_be_changed() {
	need_fuse
	need_tool fuse2fs
	make_image ext4 image
	sha256sum image >before
	show image
	! echo x 2>/dev/null >m/files/disk/large || fail "a file was written"
	! touch m/files/disk/new 2>/dev/null || fail "a file was made"
	! rm -f m/files/disk/large 2>/dev/null || fail "a file was removed"
	! mkdir m/files/disk/sub 2>/dev/null || fail "a directory was made"
	! chmod 777 m/files/disk/large 2>/dev/null || fail "a mode was changed"
	hide
	sha256sum --quiet -c before
}

# ---- Who reads ----

test_an_ordinary_user_sees_all_of_it() {
	need_fuse
	need_root
	need_tool fuse2fs
	make_image ext4 image
	chmod 755 .
	mkdir user user/m
	mv image user/
	install -m 755 "${VHDTOOL%/*}/vhdmount" user/
	chown -R 65534:65534 user
	# Where only root may open the device, it is one that everybody may.
	mknod fuse c 10 229
	chmod 666 fuse
	cat >user/script <<-'END'
		set -e
		cd user
		./vhdmount image m
		sha256sum <m/files/disk/large
		ls -a m/files/disk/lost+found
		./vhdmount --unmount m
		! grep " $PWD/m " /proc/self/mountinfo
	END
	expect_exit 0 unshare -m sh -ec 'mount --bind fuse /dev/fuse
		exec setpriv --reuid=65534 --regid=65534 --clear-groups -- sh user/script'
	expect_out "$(sha256sum <tree/large)"
}

test_as_root_readers_are_nobody_and_confined() {
	local reader
	need_fuse
	need_root
	need_tool fuse2fs getfattr
	make_image ext4 image
	chmod 700 .
	show image
	ls m/files/disk >/dev/null
	reader=$(readers)
	expect_equal "$(awk '/^Uid/ { print $2 $3 $4 $5 }' "/proc/$reader/status")" 65534655346553465534
	expect_equal "$(awk '/^CapEff|^CapPrm|^CapAmb/ { print $2 }' "/proc/$reader/status" | sort -u)" \
		0000000000000000
	expect_equal "$(awk '/^NoNewPrivs/ { print $2 }' "/proc/$reader/status")" 1
	expect_equal "$(awk '/^Seccomp:/ { print $2 }' "/proc/$reader/status")" 2
	hide
}

test_a_killed_reader_is_followed_by_another() {
	local first
	need_fuse
	need_tool fuse2fs getfattr
	make_image ext4 image
	manifest tree >want
	show image
	manifest m/files/disk >/dev/null
	first=$(readers)
	kill -9 "$first"
	manifest m/files/disk >got
	expect_same_file want got
	[ "$(readers)" != "$first" ] || fail "nothing was killed"
	hide
}

test_readers_go_with_the_daemon() {
	local reader daemon
	need_fuse
	need_tool fuse2fs getfattr
	make_image ext4 image
	show image
	ls m/files/disk >/dev/null
	reader=$(readers)
	daemon=$(getfattr --only-values -n user.vhdmount.pid m 2>/dev/null)
	kill -9 "$daemon"
	for _ in {1..100}; do
		kill -0 "$reader" 2>/dev/null || break
		sleep 0.05
	done
	! kill -0 "$reader" 2>/dev/null || fail "the reader is still there"
	# And what they leave is cleared away.
	! ls m 2>/dev/null || fail "m can still be read"
	hide
	show image
	ls m/files/disk/deep >/dev/null
	hide
}

test_many_walk_at_once() {
	local pids=() pid
	need_fuse
	need_tool fuse2fs
	make_image ext4 image
	manifest tree >want
	show image
	for i in {1..12}; do
		manifest m/files/disk >"got$i" &
		pids+=($!)
	done
	for pid in "${pids[@]}"; do
		wait "$pid"
	done
	for i in {1..12}; do
		expect_same_file want "got$i"
	done
	hide
}

# ---- Hostile filesystems ----

# Whatever it holds, walking it ends, and the rest of the disk is there.
walk_hostile() { # IMAGE
	show "$1"
	timeout 100 find m/files -type f -exec cat {} + >/dev/null 2>&1 || [ $? != 124 ] ||
		fail "walking it does not end"
	cmp m/disk.raw "$1"
	hide
}

damage() { # IMAGE SEED: many bytes, but not those by which it is recognised
	python3 - "$@" <<-'END'
		import random, sys
		source = random.Random(int(sys.argv[2]))
		with open(sys.argv[1], "r+b") as image:
		    for _ in range(1500):
		        image.seek(source.randrange(4096, 2 << 20))
		        image.write(source.randbytes(1))
	END
}

hostile() { # TYPE
	mkdir "$1"
	cd "$1"
	make_image "$1" image
	cp image cut
	truncate -s 3M cut
	walk_hostile cut
	for seed in 1 2; do
		cp image damaged
		damage damaged $seed
		walk_hostile damaged
	done
}

test_hostile_filesystems_end_in_errors() {
	local type
	need_fuse
	for type in ext4 vfat squashfs iso9660 ntfs; do
		subtest "$type" hostile "$type"
	done
}

test_a_damaged_filesystem_is_named_in_the_log() {
	need_fuse
	need_tool fuse2fs
	make_image ext4 image
	python3 -c 'f = open("image", "r+b"); f.seek(1024 + 4); f.write(b"\xff" * 40)'
	mkdir m
	vhdmount -f -v image m 2>log &
	for _ in {1..100}; do
		! mountpoint -q m || break
		sleep 0.05
	done
	[ ! -d m/files ] || ! ls m/files/disk 2>/dev/null || fail "it was read"
	[ ! -d m/files ] || grep -q 'warn: disk: /.*/fuse2fs: ' log || fail "no sentence: $(cat log)"
	hide
	wait
}

# ---- --unmount ----

test_unmount_refuses_what_is_in_use() {
	need_fuse
	need_tool fuse2fs
	make_image ext4 image
	show image
	exec 7<m/files/disk/large
	expect_exit 1 vhdmount --unmount m
	expect_sentence 'in use'
	mountpoint -q m || fail "m was unmounted"
	head -c 100 <&7 >/dev/null
	exec 7<&-
	hide
}

test_a_reader_keeps_nobody_from_unmounting() {
	need_fuse
	need_tool fuse2fs
	make_image ext4 image
	show image
	ls m/files/disk >/dev/null
	fusermount3 -u m
}

test_unmount_refuses_what_is_not_ours() {
	need_fuse
	mkdir m
	expect_exit 1 vhdmount --unmount m
	expect_sentence 'm: nothing is mounted there'
	expect_exit 1 vhdmount --unmount absent
	expect_sentence 'absent'
	expect_exit 1 vhdmount --unmount /proc
	expect_sentence '/proc' 'proc' 'not by vhdmount'
}

test_unmount_finds_odd_names() {
	need_fuse
	truncate -s 1M image
	mkdir 'a b' 'back\slash'
	ln -s 'a b' link
	vhdmount image 'a b'
	vhdmount image 'back\slash'
	expect_exit 0 vhdmount --unmount link/
	expect_exit 0 vhdmount --unmount "$PWD/back\\slash/"
	! mountpoint -q 'a b' || fail "'a b' is still a mount"
	! mountpoint -q 'back\slash' || fail "'back\\slash' is still a mount"
}

test_unmount_takes_what_is_mounted_inside_first() {
	need_fuse
	need_root
	need_tool fuse2fs
	make_image ext4 image
	show image
	mount -t tmpfs none m/files/disk/empty
	mount -t tmpfs none m/files/disk/deep
	mkdir m/files/disk/deep/below
	mount -t tmpfs none m/files/disk/deep/below
	hide
}
