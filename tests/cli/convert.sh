#!/bin/bash
# vhdtool convert: between all formats, whole or not at all.
. "${BASH_SOURCE[0]%/*}/../lib.sh"

mib=$((1 << 20))

# patchy FILE BYTES: data, zeros stored as data, and holes, in pieces of no round length.
patchy() {
	truncate -s "$2" "$1"
	noise 300001 1 | dd of="$1" bs=64K oflag=seek_bytes seek=0 conv=notrunc status=none
	head -c 1M /dev/zero | dd of="$1" bs=64K oflag=seek_bytes seek=400000 conv=notrunc status=none
	noise 100000 2 | dd of="$1" bs=64K oflag=seek_bytes seek=$(($2 - 100000)) conv=notrunc status=none
	noise 5000 3 | dd of="$1" bs=64K oflag=seek_bytes seek=$(($2 / 2 + 12345)) conv=notrunc status=none
}

# Bytes allocated on the host.
allocated() {
	echo $(($(stat -c '%b * %B' "$1")))
}

size_of_disk() {
	vhdtool info --json "$1" | jq .size_bytes
}

# Holds FILE open, locked as a program does that writes to it.
open_elsewhere() {
	python3 -c 'import fcntl, os, struct, sys, time
fd = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(fd, 37, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 101, 1, 0))
open(sys.argv[2], "w").close()
time.sleep(60)' "$1" "$HVKIT_STATE/held" &
	while [ ! -e "$HVKIT_STATE/held" ]; do sleep 0.05; done
}

# ---- Contents ----

every_way() {
	local from to
	for from in raw fixed dynamic; do
		for to in raw fixed dynamic; do
			expect_exit 0 vhdtool convert "$@" --to $to $from.img-$from $from-to-$to
			expect_contents $from-to-$to model.raw
			[ $to != raw ] || expect_same_file $from-to-$to model.raw
			rm $from-to-$to
		done
	done
}

make_three() {
	patchy model.raw "$1"
	cp model.raw raw.img-raw
	vhdtool convert -q --to fixed model.raw fixed.img-fixed
	vhdtool convert -q --to dynamic model.raw dynamic.img-dynamic
}

test_every_format_into_every_format() {
	make_three $((5 * mib + 3 * 512))
	every_way
}

test_every_format_into_every_format_with_o_direct() {
	make_three $((5 * mib + 3 * 512))
	every_way --direct
}

# More pieces of data and of nothing, in turns, than there are buffers.
test_many_small_pieces() {
	local i options
	truncate -s 30M model.raw
	noise 30M >noise
	for i in {0..59}; do
		dd if=noise of=model.raw bs=64K skip=$((i * 8)) seek=$((i * 8 + i % 3)) count=$((i % 4 + 1)) \
			conv=notrunc status=none
	done
	for options in "" --direct; do
		expect_exit 0 vhdtool convert $options --to dynamic --force --block-size 512K model.raw d.vhd
		expect_contents d.vhd model.raw
		expect_exit 0 vhdtool convert $options --to raw --force d.vhd back.raw
		expect_same_file back.raw model.raw
	done
}

odd_size() {
	noise "$1" >model.raw
	expect_exit 0 vhdtool convert --to fixed model.raw a.vhd
	expect_equal "$(stat -c %s a.vhd)" $(($1 + 512))
	expect_exit 0 vhdtool convert --to dynamic $2 a.vhd b.vhd
	expect_equal "$(size_of_disk b.vhd)" "$1"
	expect_exit 0 vhdtool convert $2 b.vhd back.raw
	expect_same_file back.raw model.raw
	rm ./*.vhd ./*.raw
}

test_sizes_that_are_no_whole_blocks() {
	local size
	need_tool jq
	for size in 512 1024 2096640 2097152 2097664 4194816 5244416; do
		subtest $size odd_size $size ""
		subtest "$size-direct" odd_size $size --direct
	done
}

test_raw_file_is_filled_up_to_a_whole_sector() {
	noise 1000 >odd.raw
	{ cat odd.raw; head -c 24 /dev/zero; } >model.raw
	for to in raw fixed dynamic; do
		expect_exit 0 vhdtool convert --to $to odd.raw d
		expect_contents d model.raw
		rm d
	done
}

test_block_sizes() {
	local block
	patchy model.raw $((7 * mib + 512))
	for block in 512K 1M 4M 64M; do
		expect_exit 0 vhdtool convert --to dynamic --block-size $block model.raw d.vhd
		expect_exit 0 vhdtool info --json d.vhd
		expect_json ".block_bytes == $(numfmt --from=iec $block)"
		expect_contents d.vhd model.raw
		rm d.vhd
	done
}

test_whole_chain_into_one() {
	local to
	patchy model.raw $((6 * mib))
	expect_exit 0 vhdtool convert --to dynamic model.raw a.vhd
	expect_exit 0 vhdtool create --diff a.vhd b.vhd
	noise 5000 7 | tee piece | vhdtool write -q --offset 700000 b.vhd
	dd if=piece of=model.raw bs=64K oflag=seek_bytes seek=700000 conv=notrunc status=none
	expect_exit 0 vhdtool create --diff b.vhd c.vhd
	noise 3M 8 | tee piece | vhdtool write -q --offset 702000 c.vhd
	dd if=piece of=model.raw bs=64K oflag=seek_bytes seek=702000 conv=notrunc status=none
	head -c 10000 /dev/zero | vhdtool write -q --offset 100 c.vhd
	head -c 10000 /dev/zero | dd of=model.raw bs=64K oflag=seek_bytes seek=100 conv=notrunc status=none
	sha256sum a.vhd b.vhd c.vhd >before
	for to in raw fixed dynamic; do
		expect_exit 0 vhdtool convert --to $to c.vhd one-$to
		expect_contents one-$to model.raw
		expect_exit 0 vhdtool convert --direct --to $to c.vhd direct-$to
		expect_contents direct-$to model.raw
	done
	expect_exit 0 sha256sum -c before
	# It needs its parents no more, and can be told where they are.
	mkdir moved
	mv a.vhd moved
	expect_contents one-dynamic model.raw
	expect_exit 1 vhdtool convert --to raw b.vhd again
	expect_sentence b.vhd a.vhd --parent
	expect_exit 0 vhdtool convert --to raw --parent moved/a.vhd b.vhd again
	expect_no_file a.vhd
}

test_source_is_not_touched() {
	patchy model.raw $((4 * mib))
	expect_exit 0 vhdtool convert --to dynamic model.raw s.vhd
	chmod 444 s.vhd
	stat -c '%y %s %b' s.vhd >before
	sha256sum s.vhd >sum
	expect_exit 0 as_nobody vhdtool hash s.vhd
	expect_exit 0 vhdtool convert --to fixed s.vhd d.vhd
	stat -c '%y %s %b' s.vhd >after
	expect_same_file before after
	expect_exit 0 sha256sum -c sum
}

test_names_of_any_kind() {
	local name
	noise 64K >model.raw
	for name in -a.raw $'new\nline.raw' $'\xff\xfe.raw' 'a "b" \c.raw' 'ü 中 😀.raw'; do
		expect_exit 0 vhdtool convert --to dynamic -- model.raw "$name.vhd"
		expect_exit 0 vhdtool convert -- "$name.vhd" "$name"
		expect_same_file ./"$name" model.raw
	done
}

# ---- Space ----

test_holes_stay_holes() {
	truncate -s 1G model.raw
	noise 1M | dd of=model.raw bs=1M seek=500 conv=notrunc status=none
	[ "$(allocated model.raw)" -lt $((8 * mib)) ] || skip "needs a filesystem with holes"
	expect_exit 0 vhdtool convert --to fixed model.raw f.vhd
	[ "$(allocated f.vhd)" -lt $((8 * mib)) ] || fail "f.vhd has no holes"
	expect_exit 0 vhdtool convert --to dynamic f.vhd d.vhd
	[ "$(stat -c %s d.vhd)" -lt $((3 * mib)) ] || fail "d.vhd holds more than one block"
	expect_exit 0 vhdtool convert d.vhd back.raw
	[ "$(allocated back.raw)" -lt $((8 * mib)) ] || fail "back.raw has no holes"
	expect_exit 0 vhdtool compare --strict back.raw model.raw
}

test_zeros_that_are_stored_become_holes() {
	head -c 20M /dev/zero >model.raw
	noise 512 | dd of=model.raw bs=512 seek=10000 conv=notrunc status=none
	expect_exit 0 vhdtool convert --json --to dynamic model.raw d.vhd
	expect_json '.data_bytes <= 65536 and .size_bytes == 20971520'
	[ "$(stat -c %s d.vhd)" -lt $((3 * mib)) ] || fail "zeros are stored in d.vhd"
	expect_exit 0 vhdtool convert model.raw sparse.raw
	[ "$(allocated sparse.raw)" -lt $mib ] || fail "zeros are stored in sparse.raw"
	expect_same_file sparse.raw model.raw
}

test_no_sparse_reserves_all() {
	local to
	patchy model.raw $((9 * mib + 512))
	for to in raw fixed dynamic; do
		expect_exit 0 vhdtool convert --no-sparse --to $to model.raw $to
		[ "$(allocated $to)" -ge "$(stat -c %s $to)" ] || fail "$to is sparse"
		expect_contents $to model.raw
	done
	expect_exit 0 vhdtool info --json fixed
	expect_json '.host.sparse == false'
}

test_azure() {
	patchy model.raw $((21 * mib + 512))
	expect_exit 0 vhdtool convert --azure model.raw a.vhd
	expect_out "rounded up from $((21 * mib + 512)) to $((22 * mib))"
	expect_equal "$(stat -c %s a.vhd)" $((22 * mib + 512))
	expect_exit 0 vhdtool info --json a.vhd
	expect_json '.azure.acceptable'
	expect_exit 0 vhdtool compare a.vhd model.raw
	noise 512 >small.raw
	expect_exit 0 vhdtool convert --azure small.raw b.vhd
	expect_equal "$(stat -c %s b.vhd)" $((20 * mib + 512))
}

test_geometry() {
	truncate -s 4M model.raw
	expect_exit 0 vhdtool convert --to fixed model.raw a.vhd
	expect_exit 0 vhdtool info --json a.vhd
	expect_json '.footer.geometry | [.cylinders, .heads, .sectors_per_track] == [65535, 16, 255]'
	expect_exit 0 vhdtool convert --to fixed --geometry spec model.raw b.vhd
	expect_exit 0 vhdtool info --json b.vhd
	expect_json '.footer.geometry | [.cylinders, .heads, .sectors_per_track] == [120, 4, 17]'
}

# ---- What is printed ----

test_output() {
	noise 1M >model.raw
	expect_exit 0 vhdtool convert --to dynamic model.raw a.vhd
	expect_equal "$(wc -l <"$out")" 1
	expect_out "a.vhd: dynamic, 1 MiB, 1 MiB of data"
	expect_equal "$(cat "$err")" ""
	expect_exit 0 vhdtool convert -q --to dynamic model.raw b.vhd
	expect_equal "$(cat "$out" "$err")" ""
	expect_exit 0 vhdtool convert --json --to fixed model.raw c.vhd
	expect_json '.source == "model.raw" and .file == "c.vhd" and .format == "fixed" and
		.size_bytes == 1048576 and .data_bytes == 1048576 and .seconds >= 0'
}

test_suffix_decides() {
	local name
	noise 64K >model.raw
	expect_exit 0 vhdtool convert --to dynamic model.raw s.vhd
	for name in a.raw b.img c.bin d.dd E.RAW; do
		expect_exit 0 vhdtool convert s.vhd $name
		expect_same_file $name model.raw
	done
	for name in a.vhd b c.avhd d.raw.old dir.raw/x; do
		expect_exit 2 vhdtool convert model.raw $name
		expect_sentence $name --to
		expect_no_file $name
	done
	# The user's word goes before the name's.
	expect_exit 0 vhdtool convert --to fixed model.raw f.raw
	expect_equal "$(stat -c %s f.raw)" $((65536 + 512))
}

# ---- Destinations that are there already ----

test_destination_that_exists() {
	noise 1M 1 >model.raw
	noise 1M 2 >old
	cp old d.vhd
	chmod 640 d.vhd
	expect_exit 1 vhdtool convert --to dynamic model.raw d.vhd
	expect_sentence d.vhd exists --force
	expect_same_file d.vhd old
	expect_exit 0 vhdtool convert --force --to dynamic model.raw d.vhd
	expect_contents d.vhd model.raw
	expect_equal "$(stat -c %a d.vhd)" 640
	mkdir dir.vhd
	expect_exit 1 vhdtool convert --force --to dynamic model.raw dir.vhd
	expect_sentence dir.vhd directory
	mkfifo fifo.vhd
	expect_exit 1 vhdtool convert --force --to dynamic model.raw fifo.vhd
	expect_sentence fifo.vhd "not a regular file"
	expect_exit 1 vhdtool convert --to dynamic model.raw nowhere/d.vhd
	expect_sentence nowhere/d.vhd
}

test_failure_keeps_the_file_that_would_have_been_replaced() {
	noise 1M 2 >old
	cp old d.vhd
	noise 1M 1 >model.raw
	expect_exit 0 vhdtool convert --to dynamic model.raw s.vhd
	dd if=/dev/zero of=s.vhd bs=512 seek=3 count=1 conv=notrunc status=none # the BAT
	expect_exit 1 vhdtool convert --force --to raw s.vhd d.vhd
	expect_sentence s.vhd
	expect_same_file d.vhd old
	expect_only . old d.vhd model.raw s.vhd
}

test_destination_in_use() {
	noise 1M 1 >model.raw
	cp model.raw d.vhd
	open_elsewhere d.vhd
	expect_exit 1 vhdtool convert --force --to dynamic model.raw d.vhd
	expect_sentence d.vhd "in use"
	expect_same_file d.vhd model.raw
}

test_destination_that_is_the_source() {
	noise 1M >model.raw
	expect_exit 0 vhdtool convert --to fixed model.raw a.vhd
	sha256sum a.vhd >before
	ln a.vhd hard.vhd
	ln -s a.vhd soft.vhd
	for name in a.vhd ./a.vhd hard.vhd soft.vhd; do
		expect_exit 1 vhdtool convert --force --to dynamic a.vhd $name
		expect_sentence "in use"
		expect_exit 1 vhdtool convert --force --force-share --to dynamic a.vhd $name
		expect_sentence "in use"
	done
	expect_exit 0 sha256sum -c before
}

test_destination_that_is_a_parent_of_the_source() {
	noise 1M >model.raw
	expect_exit 0 vhdtool convert --to dynamic model.raw a.vhd
	expect_exit 0 vhdtool create --diff a.vhd b.vhd
	expect_exit 0 vhdtool create --diff b.vhd c.vhd
	sha256sum a.vhd b.vhd >before
	for name in a.vhd b.vhd; do
		expect_exit 1 vhdtool convert --force --to dynamic c.vhd $name
		expect_sentence $name "in use"
		expect_exit 1 vhdtool convert --force --force-share --to dynamic c.vhd $name
		expect_sentence $name "in use"
	done
	expect_exit 0 sha256sum -c before
}

test_source_in_use() {
	noise 1M >model.raw
	expect_exit 0 vhdtool convert --to fixed model.raw a.vhd
	open_elsewhere a.vhd
	expect_exit 1 vhdtool convert --to dynamic a.vhd b.vhd
	expect_sentence a.vhd "open for writing"
	expect_no_file b.vhd
	expect_exit 0 vhdtool convert -U --to dynamic a.vhd b.vhd
	expect_contents b.vhd model.raw
}

# ---- Whole or not at all ----

full_disk() {
	expect_exit 1 vhdtool convert "$@"
	expect_sentence "No space left"
	expect_only fs old.raw
	expect_same_file fs/old.raw old
	expect_exit 1 vhdtool convert --force "${@:1:$#-1}" fs/old.raw
	expect_only fs old.raw
	expect_same_file fs/old.raw old
}

fill_the_disk() {
	local to
	noise 20M >model.raw
	noise 1M 9 >old
	expect_exit 0 vhdtool convert --to dynamic model.raw model.vhd
	new_fs "$1" 12M fs
	cp old fs/old.raw
	for to in raw fixed dynamic; do
		subtest $to full_disk --to $to model.raw fs/new
		subtest $to-direct full_disk --direct --to $to model.vhd fs/new
		# What cannot be reserved fails before it begins; vfat cannot reserve at all.
		[ "$1" = vfat ] || subtest $to-no-sparse full_disk --no-sparse --to $to model.raw fs/new
	done
}

test_full_disk_leaves_nothing() {
	fill_the_disk ext4
}

# Without nameless files.
test_full_vfat_leaves_nothing() {
	fill_the_disk vfat
}

# The last step before the name, fsync, is made to take long; that is when the signal comes.
# interrupted SIGNAL NAME-LEFT-IN-dir CONVERT-ARGUMENT...
interrupted() {
	local pid=
	env --default-signal=INT strace -f -o "$HVKIT_STATE/trace" -e trace=fsync \
		-e inject=fsync:delay_enter=2000000 "$VHDTOOL" convert "${@:3}" >"$out" 2>&1 &
	while ! pid=$(pgrep -P $!) || ! nameless_file_of "$pid"; do
		[ -e "/proc/$!" ] || fail "it ended too early: $(cat "$out")"
		sleep 0.05
	done
	kill "-$1" "$pid"
	! wait $! || fail "it ended well"
	expect_only dir $2
}

# The process has written all of a file that has no name yet.
nameless_file_of() {
	local fd
	for fd in "/proc/$1"/fd/*; do
		[[ $(readlink "$fd") != *"(deleted)" ]] || [ "$(stat -Lc %s "$fd")" -lt $((8 * mib)) ] ||
			return 0
	done
	return 1
}

test_interrupted_work_leaves_nothing() {
	local signal
	need_tool strace pgrep
	strace -o /dev/null true 2>"$err" || skip "needs to trace: $(tail -n 1 "$err")"
	noise 8M >model.raw
	mkdir dir
	for signal in INT TERM KILL; do
		subtest $signal interrupted $signal "" --to raw model.raw dir/d
	done
	subtest TERM-dynamic interrupted TERM "" --to dynamic model.raw dir/d
	noise 1M 2 >old
	cp old dir/old
	subtest KILL-replacing interrupted KILL old --force --to fixed model.raw dir/old
	expect_same_file dir/old old
}

# ---- Sources that are no disks ----

bad_source() {
	expect_exit 1 vhdtool convert --to raw "$1" new.raw
	expect_sentence "$@"
	expect_exit 1 vhdtool convert --to dynamic "$1" new.vhd
	expect_sentence "$@"
	expect_no_file new.raw new.vhd
}

test_sources_that_are_no_disks() {
	noise 4M >model.raw
	expect_exit 0 vhdtool convert --to dynamic model.raw good.vhd
	noise 64K >garbage.vhd
	: >empty.vhd
	mkdir dir.vhd
	mkfifo fifo.vhd
	head -c 100K good.vhd >cut.vhd
	head -c 3M good.vhd >short.vhd
	cp good.vhd header.vhd
	put header.vhd 600 '\x01'
	cp good.vhd table.vhd
	put table.vhd 1540 '\x7f'
	subtest missing bad_source missing.vhd
	subtest garbage bad_source garbage.vhd "not a VHD"
	subtest empty bad_source empty.vhd "not a VHD"
	subtest directory bad_source dir.vhd directory
	subtest fifo bad_source fifo.vhd neither
	subtest cut-in-the-first-block bad_source cut.vhd
	subtest cut-in-the-second-block bad_source short.vhd
	subtest header bad_source header.vhd checksum
	subtest table bad_source table.vhd "block 1"
}

test_empty_raw_image() {
	: >empty.raw
	expect_exit 0 vhdtool convert empty.raw copy.raw
	expect_equal "$(stat -c %s copy.raw)" 0
	expect_exit 1 vhdtool convert --to fixed empty.raw a.vhd
	expect_sentence empty.raw empty
	expect_exit 1 vhdtool convert --to dynamic empty.raw a.vhd
	expect_sentence empty.raw empty
	expect_no_file a.vhd
}

test_too_large() {
	truncate -s 2041G huge.raw || skip "needs a filesystem that holds a file of 2041 GiB"
	expect_exit 1 vhdtool convert --to dynamic huge.raw a.vhd
	expect_sentence a.vhd "2040 GiB"
	expect_no_file a.vhd
}

test_largest_disk_of_nothing() {
	expect_exit 0 vhdtool create --dynamic 2040G a.vhd
	printf x | vhdtool write -q --offset $((2040 * 1024 * mib - 1)) a.vhd
	expect_exit 0 vhdtool convert --to dynamic a.vhd b.vhd
	expect_equal "$(vhdtool read --offset $((2040 * 1024 * mib - 1)) b.vhd)" x
	[ "$(stat -c %s b.vhd)" -lt $((8 * mib)) ] || fail "b.vhd is too large"
}

# ---- Block devices ----

test_onto_a_block_device() {
	local device
	need_loop
	yes secret | head -c 8M >"$HVKIT_STATE/image"
	device=$(loop_on "$HVKIT_STATE/image")
	defer losetup -d "$device"
	patchy model.raw $((5 * mib + 512))
	for options in --to\ raw --to\ fixed "--direct --to raw" "--direct --to fixed"; do
		yes secret | dd of="$device" bs=1M iflag=fullblock conv=fsync status=none 2>&1 || :
		expect_exit 1 vhdtool convert $options model.raw "$device"
		expect_sentence "$device" --force
		expect_exit 0 vhdtool convert --force $options model.raw "$device"
		head -c $((5 * mib + 512)) "$device" | cmp - model.raw
		if [[ $options = *fixed ]]; then
			expect_equal "$(tail -c 512 "$device" | head -c 8)" conectix
			expect_contents "$device" model.raw
		fi
	done
	expect_exit 1 vhdtool convert --force --to dynamic model.raw "$device"
	expect_sentence "$device" "raw or fixed only"
	noise 8M >model.raw
	expect_exit 0 vhdtool convert --force --to raw model.raw "$device"
	cmp "$device" model.raw
	expect_exit 1 vhdtool convert --force --to fixed model.raw "$device"
	expect_sentence "$device" "has room for"
	cmp "$device" model.raw
	# And back.
	expect_exit 0 vhdtool convert --from raw --to dynamic "$device" d.vhd
	expect_contents d.vhd model.raw
}

test_onto_a_device_in_use() {
	local device
	need_loop
	new_fs ext4 8M fs
	device=$(findmnt -n -o SOURCE fs)
	noise 64K >model.raw
	expect_exit 1 vhdtool convert --force --to raw model.raw "$device"
	expect_sentence "$device" "in use"
}

# ---- Mistakes ----

test_mistakes() {
	noise 64K >model.raw
	expect_exit 2 vhdtool convert
	expect_exit 2 vhdtool convert model.raw
	expect_exit 2 vhdtool convert model.raw a.raw b.raw
	expect_exit 2 vhdtool convert --to qcow2 model.raw a.vhd
	expect_sentence qcow2
	expect_exit 2 vhdtool convert --from qcow2 model.raw a.raw
	expect_exit 2 vhdtool convert --geometry 1/2/3 --to fixed model.raw a.vhd
	expect_exit 2 vhdtool convert --block-size 1M --to fixed model.raw a.vhd
	expect_sentence --block-size
	expect_exit 2 vhdtool convert --block-size 8G --to dynamic model.raw a.vhd
	expect_sentence 8589934592 "power of two"
	expect_exit 2 vhdtool convert --block-size lots --to dynamic model.raw a.vhd
	expect_sentence lots
	expect_exit 2 vhdtool convert --azure --to dynamic model.raw a.vhd
	expect_sentence --azure
	expect_exit 2 vhdtool convert --azure --to raw model.raw a.raw
	expect_exit 2 vhdtool convert --nonsense model.raw a.raw
	expect_sentence nonsense
	expect_exit 1 vhdtool convert --block-size 3M --to dynamic model.raw a.vhd
	expect_sentence "power of two"
	expect_exit 0 vhdtool convert --help
	expect_out "--no-sparse"
	expect_only . model.raw
}
