#!/bin/bash
# vhdtool compact: smaller files, the same contents.
. "${BASH_SOURCE[0]%/*}/../lib.sh"

M=$((1 << 20))

# 40 MiB in blocks of 2 MiB: data and zeros in turn, all of them allocated.
make_disk() { # FILE
	for i in 0 1 2 3 4 5 6 7 8 9; do
		head -c 2M </dev/urandom
		head -c 2M /dev/zero
	done >"$HVKIT_STATE/raw"
	vhdtool create -q --dynamic 40M "$1"
	vhdtool write -q "$1" <"$HVKIT_STATE/raw"
}

same() { # FILE
	expect_contents "$1" "$HVKIT_STATE/raw"
	expect_exit 0 vhdtool check -q "$1"
}

test_zero_blocks_go() {
	make_disk a.vhd
	expect_exit 0 vhdtool compact --json a.vhd
	expect_json ".blocks == 20 and .freed_blocks == 10 and .moved_blocks == 5 and
		.file_bytes_after < 21 * $M and .file_bytes_before > 40 * $M"
	expect_equal "$(stat -c %s a.vhd)" "$(jq .file_bytes_after "$out")"
	same a.vhd
	expect_exit 0 vhdtool compact a.vhd
	expect_out "0 of 10 blocks held nothing"
	same a.vhd
}

test_dry_run_tells_and_changes_nothing() {
	make_disk a.vhd
	cp a.vhd before
	expect_exit 0 vhdtool compact -n --json a.vhd
	expect_json '.dry_run and .freed_blocks == 10'
	expected=$(jq .file_bytes_after "$out")
	cmp a.vhd before
	vhdtool compact -q a.vhd
	expect_equal "$(stat -c %s a.vhd)" "$expected"
}

test_punching_gives_space_back_in_place() {
	make_disk a.vhd
	head -c 1M /dev/zero | vhdtool write -q --offset 512K a.vhd
	head -c 1M /dev/zero | dd of="$HVKIT_STATE/raw" bs=512K seek=1 conv=notrunc status=none
	expect_exit 0 vhdtool compact --punch --json a.vhd
	expect_json ".freed_blocks == 10 and .moved_blocks == 0 and .punched_bytes == $M"
	[ "$(($(stat -c %b a.vhd) * 512))" -lt $((20 * M)) ] || fail "the file takes as much as before"
	expect_contents a.vhd "$HVKIT_STATE/raw"
	# What is left free among the blocks is a leak, and is used again.
	expect_exit 4 vhdtool check -q a.vhd
}

test_child_keeps_zeros_that_hide_data() {
	make_disk parent.vhd
	vhdtool create -q --diff parent.vhd child.vhd
	head -c 2M /dev/zero | vhdtool write -q child.vhd
	head -c 2M /dev/zero | vhdtool write -q --offset 2M child.vhd
	head -c 2M /dev/zero | dd of="$HVKIT_STATE/raw" bs=2M conv=notrunc status=none
	expect_exit 0 vhdtool compact --json child.vhd
	expect_json '.blocks == 2 and .freed_blocks == 1'
	same child.vhd
}

test_child_without_its_parent_is_refused() {
	make_disk parent.vhd
	vhdtool create -q --diff parent.vhd child.vhd
	rm parent.vhd
	expect_exit 1 vhdtool compact child.vhd
	expect_sentence "parent.vhd' was not found"
}

make_ext4() { # FILE [MKE2FS-OPTION...]
	local file=$1
	shift
	need_tool mke2fs debugfs
	truncate -s 64M a.raw
	mke2fs -q -t ext4 "$@" a.raw
	head -c 20M /dev/urandom >big
	head -c 3M /dev/urandom >small
	printf 'write big big\nwrite small small\nrm big\n' | debugfs -w -f - a.raw >/dev/null 2>&1
	e2fsck -fn a.raw >/dev/null 2>&1
	vhdtool convert -q --to dynamic a.raw "$file"
}

test_filesystems_tell_what_they_do_not_use() {
	for options in "" "-b 1024" "-O ^has_journal,^metadata_csum,^uninit_bg" "-O bigalloc"; do
		make_ext4 a.vhd $options
		before=$(stat -c %s a.vhd)
		expect_exit 0 vhdtool compact --fs --json a.vhd
		expect_json '.filesystems[0].type | startswith("ext")'
		expect_json '.filesystems[0].objection == null and .freed_blocks >= 5'
		[ "$(stat -c %s a.vhd)" -lt $((before - 10 * M)) ] || fail "$options: no smaller"
		vhdtool convert -q --to raw a.vhd b.raw
		e2fsck -fn b.raw >/dev/null 2>&1 || fail "$options: e2fsck complains"
		debugfs -R "dump small small2" b.raw 2>/dev/null
		cmp small small2
		rm -f a.vhd b.raw
	done
}

test_filesystem_in_a_partition() {
	need_tool sfdisk
	make_ext4 whole.vhd
	truncate -s 66M disk.raw
	echo 'start=2048' | sfdisk -q disk.raw
	dd if=a.raw of=disk.raw bs=1M seek=1 conv=notrunc,sparse status=none
	vhdtool convert -q --to dynamic disk.raw a.vhd
	expect_exit 0 vhdtool compact --fs --json a.vhd
	expect_json ".filesystems == [.filesystems[0]] and .filesystems[0].offset == $M and .freed_blocks >= 5"
	vhdtool read --offset 1M --length 64M a.vhd >b.raw
	e2fsck -fn b.raw >/dev/null 2>&1
	vhdtool read --length 1M a.vhd | cmp -n $M - disk.raw
}

test_filesystem_that_was_not_unmounted_is_not_believed() {
	make_ext4 a.vhd
	debugfs -w -R "ssv state 0" a.raw 2>/dev/null
	vhdtool convert -q --force --to dynamic a.raw a.vhd
	expect_exit 0 vhdtool compact --fs a.vhd
	expect_out "taken as used throughout: it was not unmounted cleanly"
	expect_contents a.vhd a.raw
}

# An NTFS in p.raw, where a large file was and small ones still are; before.sums tells which.
make_ntfs() { # [MKNTFS-OPTION...]
	need_root
	need_tool mkntfs ntfs-3g ntfsfix sfdisk
	[ -w /dev/fuse ] || skip "needs /dev/fuse"
	rm -rf n.raw p.raw made
	truncate -s 96M n.raw
	truncate -s 100M p.raw
	mkntfs -F -Q -q "$@" n.raw >/dev/null 2>&1
	mkdir made
	ntfs-3g n.raw made
	cp -r "$HVKIT_ROOT/tests/cli" made/
	head -c 30M /dev/urandom >made/big
	head -c 3M /dev/urandom >made/small
	ln made/small made/also
	rm made/big
	(cd made && find . -type f -print0 | sort -z | xargs -0 sha256sum) >before.sums
	umount made
	sfdisk -q p.raw <<<'start=2048, size=196608, type=7'
	dd if=n.raw of=p.raw bs=1M seek=1 conv=notrunc,sparse status=none
}

expect_ntfs_is_whole() { # DISK
	rm -rf b.raw made
	mkdir made
	vhdtool read --offset 1M --length 96M "$1" >b.raw
	expect_exit 0 ntfsfix -n b.raw
	ntfs-3g -o ro b.raw made
	(cd made && sha256sum --quiet -c ../before.sums) || fail "files have changed"
	umount made
}

test_ntfs_tells_what_it_does_not_use() {
	local options before
	for options in "" "-c 512" "-c 65536"; do
		make_ntfs $options
		rm -f a.vhd
		vhdtool convert -q --to dynamic p.raw a.vhd
		before=$(stat -c %s a.vhd)
		expect_exit 0 vhdtool compact --fs --json a.vhd
		expect_json '.filesystems[0] | .type == "ntfs" and .objection == null and .unused_bytes > 80000000'
		[ "$(stat -c %s a.vhd)" -lt $((before - 12 * M)) ] || fail "$options: no smaller"
		expect_exit 0 vhdtool check -q a.vhd
		expect_ntfs_is_whole a.vhd
	done
	! ls "${TMPDIR:-/var/tmp}"/hvkit-ntfs.* 2>/dev/null || fail "left something behind"
}

test_an_ordinary_user_asks_ntfs_too() {
	make_ntfs
	chmod 755 .
	vhdtool convert -q --to dynamic p.raw a.vhd
	chown 65534:65534 . a.vhd
	expect_exit 0 as_nobody vhdtool compact --fs a.vhd
	expect_out "ntfs at byte $M: " "unused"
	expect_ntfs_is_whole a.vhd
}

test_ntfs_that_was_left_in_disorder_is_not_believed() {
	make_ntfs
	cp n.raw whole.raw
	ntfsfix n.raw >/dev/null # marks it to be checked
	vhdtool convert -q --to dynamic n.raw a.vhd
	expect_exit 0 vhdtool compact --fs a.vhd
	expect_out "taken as used throughout: "
	expect_contents a.vhd n.raw
	# Hibernated: the file has a head by which Windows finds its memory again.
	mkdir -p made
	ntfs-3g whole.raw made
	{ printf hibr && head -c 8K /dev/zero; } >made/hiberfil.sys
	umount made
	vhdtool convert -q --force --to dynamic whole.raw a.vhd
	expect_exit 0 vhdtool compact --fs a.vhd
	expect_out "taken as used throughout: its system is hibernated"
	expect_contents a.vhd whole.raw
}

test_hostile_ntfs_is_survived() {
	local seed
	make_ntfs
	for seed in {1..12}; do
		cp n.raw bad.raw
		python3 - $seed <<-'END'
			import random, sys
			source = random.Random(int(sys.argv[1]))
			with open("bad.raw", "r+b") as f:
			    for _ in range(source.choice([1, 20, 2000])):
			        f.seek(source.choice([11, 16384, 16384 + 6 * 1024]) + source.randrange(4096))
			        f.write(source.randbytes(source.choice([1, 8])))
		END
		vhdtool convert -q --force --to dynamic bad.raw a.vhd
		timeout 60 "$VHDTOOL" compact -q --fs a.vhd >said 2>&1 || grep -q 'no filesystem was found' said ||
			fail "seed $seed: $(cat said)"
	done
}

test_fs_needs_a_filesystem() {
	make_disk a.vhd
	expect_exit 1 vhdtool compact --fs a.vhd
	expect_sentence "no filesystem was found"
	same a.vhd
}

test_fixed_disk_is_refused() {
	vhdtool create -q --fixed 4M a.vhd
	expect_exit 1 vhdtool compact a.vhd
	expect_sentence "fixed disk"
}

test_secret_is_overwritten_before_it_is_given_back() {
	need_loop
	truncate -s 80M image
	mke2fs -q -t ext4 image
	mkdir fs
	mount -o loop image fs
	vhdtool create -q --dynamic 40M fs/a.vhd
	for i in 0 4 8 12 16 20 24; do
		yes the-guest-keeps-this | head -c 2M | vhdtool write -q --offset ${i}M fs/a.vhd || :
	done
	sync
	# The blocks are dropped with their contents: nobody calls them used any more.
	for i in 0 4 8 12 16 20 24; do
		printf '\377\377\377\377' | dd of=fs/a.vhd bs=1 conv=notrunc status=none \
			seek=$((1536 + i / 2 * 4))
	done
	expect_exit 0 vhdtool compact --secure-zero fs/a.vhd
	umount fs
	! grep -qa the-guest-keeps-this image || fail "the host's disk still shows what was there"
}

test_interrupted_again_and_again() {
	make_disk a.vhd
	for i in $(seq 12); do
		"$VHDTOOL" compact -q a.vhd &
		sleep 0.00$((i * 7 % 10))
		kill -9 $! 2>/dev/null || :
		wait $! || :
		expect_contents a.vhd "$HVKIT_STATE/raw"
		"$VHDTOOL" check -q a.vhd || [ $? = 4 ] || fail "kill $i left a damaged file"
	done
	vhdtool compact -q a.vhd
	same a.vhd
}

test_fs_refuses_a_disk_with_children() {
	make_ext4 a.vhd
	vhdtool create -q --diff a.vhd child.vhd
	expect_exit 1 vhdtool compact --fs a.vhd
	expect_sentence "child.vhd" "--force"
	expect_exit 0 vhdtool compact -q a.vhd
	expect_contents a.vhd a.raw
	expect_contents child.vhd a.raw
	expect_exit 0 vhdtool compact -q --fs --force a.vhd
}

# Stopped as soon as it has closed the disk whose filesystems it asked, until a writer has come and
# gone. With --force nothing else opens the file, so that this is the first close.
test_fs_refuses_a_disk_that_was_changed_after_it_was_asked() {
	local rc=0 tracer before
	need_tool strace pgrep
	strace -o /dev/null true 2>"$err" || skip "needs to trace: $(tail -n 1 "$err")"
	make_ext4 a.vhd
	strace -o trace -e trace=close -e inject=close:signal=STOP:when=1 -P "$(realpath a.vhd)" \
		"$VHDTOOL" compact --fs --force a.vhd >"$out" 2>"$err" &
	tracer=$!
	while ! grep -qs 'stopped by SIGSTOP' trace; do
		[ -e "/proc/$tracer" ] || fail "it was not stopped: $(cat "$err")"
		sleep 0.05
	done
	noise 1M | vhdtool write -q --offset 40M a.vhd
	before=$(sha256sum <a.vhd)
	pkill -CONT -P $tracer
	wait $tracer || rc=$?
	expect_equal $rc 1
	expect_sentence "a.vhd: was changed while its filesystems were asked"
	expect_equal "$(sha256sum <a.vhd)" "$before"
	expect_exit 0 vhdtool compact -q --fs --force a.vhd
}
