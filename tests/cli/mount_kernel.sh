#!/bin/bash
# vhdmount --kernel: what no program of its own reads is mounted by the kernel, root's own word for it;
# the disk stays as it is all the same, and nothing stays behind.
. "${BASH_SOURCE[0]%/*}/../lib.sh"

# An image of that type with a tree in it, made by the kernel itself, so that it can do that.
make_image() { # TYPE IMAGE
	[ -w /dev/fuse ] || skip "needs /dev/fuse"
	need_tool getfattr
	new_fs "$1" 320M made
	mkdir made/deep made/empty
	cp -r "$HVKIT_ROOT/tests/cli" made/deep/
	noise 3M >made/large
	chown 1234:5678 made/large
	chmod 4640 made/large
	ln -s deep/cli made/link
	manifest made >want
	umount made
	mv "$HVKIT_STATE/$1".?????? "$2"
}

manifest() {
	(cd "$1" && find . -type f -print0 | sort -z | xargs -0 sha256sum && find . -printf '%p %U:%G %m %y %l\n' | sort)
}

show() { # DISK [OPTION...]
	mkdir -p m
	expect_exit 0 vhdmount --kernel "$1" m "${@:2}"
	daemon=$(getfattr --only-values -n user.vhdmount.pid m 2>/dev/null)
	[ -n "$(its_loops)" ] && findmnt -no FSTYPE m/files/disk >type || fail "the kernel has not mounted it: $(cat "$err")"
}

hide() {
	expect_exit 0 vhdmount --unmount m
	expect_nothing_left
}

# The loop devices that the daemon has named its own.
its_loops() {
	python3 - "$daemon" <<-'END'
		import fcntl, glob, sys
		LOOP_GET_STATUS64, NAME = 0x4C05, 56
		for device in glob.glob("/dev/loop[0-9]*"):
		    info = bytearray(232)
		    try:
		        with open(device, "rb") as f:
		            fcntl.ioctl(f, LOOP_GET_STATUS64, info)
		    except OSError:
		        continue
		    if info[NAME:].startswith(f"vhdmount {sys.argv[1]} ".encode()):
		        print(device)
	END
}

expect_nothing_left() {
	for _ in {1..100}; do
		kill -0 "$daemon" 2>/dev/null || [ -n "$(its_loops)" ] || break
		sleep 0.05
	done
	! kill -0 "$daemon" 2>/dev/null || fail "the daemon is still there"
	! findmnt -n m || fail "m is still a mount"
	! grep -F "$PWD/m/" /proc/self/mountinfo || fail "there are mounts in m"
	expect_equal "$(its_loops)" "" "loop devices"
}

read_back() { # TYPE
	mkdir "$1"
	cd "$1"
	make_image "$1" image
	vhdtool convert --to dynamic image base.vhd >/dev/null
	vhdtool create --diff base.vhd leaf.vhd >/dev/null
	sha256sum ./*.vhd >before
	show leaf.vhd
	expect_equal "$(cat type)" "$1"
	manifest m/files/disk >got
	expect_same_file want got
	! touch m/files/disk/new 2>/dev/null || fail "it can be written"
	cmp m/disk.raw image
	hide
	sha256sum --quiet -c before
}

test_files_read_back() {
	local type
	for type in xfs btrfs; do
		subtest $type read_back $type
	done
}

test_a_dirty_log_is_replayed_beside_the_disk() {
	make_image xfs image
	need_tool xfs_io xfs_logprint
	mount -o loop image made
	noise 2M 2 >made/late
	mkdir made/later
	# The log is on the disk, and what it tells of is not.
	sync -f made/late
	xfs_io -x -c 'shutdown -f' made
	umount made
	xfs_logprint -t image | grep -q DIRTY || skip "the kernel leaves no dirty log here"
	vhdtool convert --to dynamic image a.vhd >/dev/null
	sha256sum a.vhd >before
	show a.vhd
	[ -d m/files/disk/later ] || fail "the log was not replayed"
	cmp m/files/disk/late <(noise 2M 2)
	hide
	sha256sum --quiet -c before
}

write_through() { # OPTION...
	show a.vhd "$@"
	noise 5M 3 >m/files/disk/new
	rm m/files/disk/large
	hide
}

expect_written() { # DISK
	expect_exit 0 vhdtool check -q "$1"
	vhdtool read "$1" >written
	expect_exit 0 xfs_repair -n written
	show "$1"
	cmp m/files/disk/new <(noise 5M 3)
	expect_no_file m/files/disk/large
	hide
}

test_writes_go_into_the_disk_or_its_overlay() {
	make_image xfs image
	vhdtool convert --to dynamic image a.vhd >/dev/null
	sha256sum a.vhd >before
	write_through --overlay over.vhd
	sha256sum --quiet -c before
	expect_written over.vhd
	rm over.vhd # its parent changes now
	write_through --rw
	expect_written a.vhd
}

test_it_leaves_cleanly() {
	make_image xfs image
	show image
	kill "$daemon"
	expect_nothing_left
	# In use, it goes as soon as it is let go.
	show image
	exec 7<m/files/disk/large
	kill "$daemon"
	for _ in {1..50}; do
		findmnt -n m >/dev/null || break
		sleep 0.1
	done
	exec 7<&-
	expect_nothing_left
	show image
	exec 7<m/files/disk/large
	expect_exit 1 vhdmount --unmount m
	expect_sentence "in use"
	umount -l m
	cmp - <(noise 3M) <&7
	kill -0 "$daemon" || fail "the daemon left what is in use"
	exec 7<&-
	expect_nothing_left
	show image
	kill -9 "$daemon"
	hide
}

test_what_the_kernel_refuses_is_said_and_left_out() {
	make_image xfs image
	truncate -s 20M image
	mkdir m
	expect_exit 0 vhdmount --kernel image m
	grep -q "^warn: files/disk: cannot be mounted by the kernel as xfs: " "$err" || fail "$(cat "$err")"
	cmp m/disk.raw image
	daemon=$(getfattr --only-values -n user.vhdmount.pid m 2>/dev/null)
	hide
}

test_what_programs_read_is_left_to_them() {
	make_image ext4 image
	need_tool fuse2fs
	mkdir m
	expect_exit 0 vhdmount --kernel image m
	! findmnt -n m/files/disk || fail "the kernel has mounted it"
	cmp m/files/disk/large <(noise 3M)
	daemon=$(getfattr --only-values -n user.vhdmount.pid m 2>/dev/null)
	hide
}

test_it_is_for_root_only() {
	need_root
	mkdir m
	truncate -s 1M image
	chmod 755 .
	expect_exit 2 as_nobody vhdmount --kernel image m
	expect_sentence --kernel root
}
