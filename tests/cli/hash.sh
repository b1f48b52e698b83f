#!/bin/bash
# vhdtool hash: SHA-256 of what a disk holds, as sha256sum prints it.
. "${BASH_SOURCE[0]%/*}/../lib.sh"

# expect_hash RAW DISK [OPTION]...
expect_hash() {
	local sum
	sum=$(sha256sum "$1" | cut -c 1-64)
	expect_exit 0 vhdtool hash "${@:3}" "$2"
	expect_equal "$(cat "$out")" "$sum  $2"
}

test_same_for_every_format() {
	truncate -s 9M model.raw
	noise 1234567 1 | dd of=model.raw bs=64K oflag=seek_bytes seek=3000000 conv=notrunc status=none
	head -c 1M /dev/zero | dd of=model.raw bs=1M seek=7 conv=notrunc status=none
	for to in fixed dynamic; do
		expect_exit 0 vhdtool convert --to $to model.raw $to.vhd
	done
	for disk in model.raw fixed.vhd dynamic.vhd; do
		expect_hash model.raw $disk
		expect_hash model.raw $disk --direct
	done
	vhdtool hash model.raw >sums
	expect_exit 0 sha256sum -c sums
	expect_hash fixed.vhd fixed.vhd --from raw
}

test_chain() {
	noise 4M 1 >model.raw
	expect_exit 0 vhdtool convert --to dynamic model.raw a.vhd
	expect_exit 0 vhdtool create --diff a.vhd b.vhd
	expect_hash model.raw b.vhd
	noise 70001 2 | tee piece | vhdtool write -q --offset 2000001 b.vhd
	dd if=piece of=model.raw bs=64K oflag=seek_bytes seek=2000001 conv=notrunc status=none
	expect_hash model.raw b.vhd
	head -c 500000 /dev/zero | vhdtool write -q b.vhd
	head -c 500000 /dev/zero | dd of=model.raw bs=64K conv=notrunc status=none
	expect_hash model.raw b.vhd
	expect_hash model.raw b.vhd --direct
	mv a.vhd z.vhd
	expect_exit 1 vhdtool hash b.vhd
	expect_sentence b.vhd a.vhd --parent
	expect_hash model.raw b.vhd --parent z.vhd
}

test_sizes() {
	local size
	for size in 0 512 1048576 1048064 1049088 8388608 8389120 9437184; do
		noise $size >model.raw
		expect_hash model.raw model.raw
		[ $size = 0 ] || {
			vhdtool convert -q --to dynamic model.raw d.vhd
			expect_hash model.raw d.vhd
			rm d.vhd
		}
	done
}

# A disk has whole sectors: a file that does not is filled up with zeros.
test_raw_file_of_no_whole_sectors() {
	noise 1000 >odd.raw
	{ cat odd.raw; head -c 24 /dev/zero; } >whole.raw
	expect_exit 0 vhdtool hash odd.raw
	expect_equal "$(cut -c 1-64 "$out")" "$(sha256sum whole.raw | cut -c 1-64)"
}

test_holes_and_zeros() {
	expect_exit 0 vhdtool create --dynamic 1G d.vhd
	truncate -s 1G holes.raw
	for disk in d.vhd holes.raw; do
		expect_exit 0 vhdtool hash $disk
		expect_equal "$(cut -c 1-64 "$out")" \
			49bc20df15e412a64472421e13fe86ff1c5165e18b2afccf160d4dc19fe68a14
	done
}

# Holes are hashed without reading them.
test_holes_are_not_read() {
	need_tool strace
	truncate -s 64M holes.raw
	noise 4096 | dd of=holes.raw bs=4096 seek=5000 conv=notrunc status=none
	[ "$(stat -c %b holes.raw)" -lt 1000 ] || skip "needs a filesystem with holes"
	strace -f -o trace -e trace=pread64,preadv,preadv2,read "$VHDTOOL" hash holes.raw >/dev/null ||
		skip "needs to trace"
	awk '/pread/ { n = $NF; if (n ~ /^[0-9]+$/) sum += n } END { exit sum > 4 * 1048576 }' trace ||
		fail "more than 4 MiB were read"
}

test_prints_as_sha256sum_does() {
	local name i=0
	for name in plain.raw 'with space.raw' ' lead.raw' $'new\nline.raw' 'back\slash.raw' \
		$'return\r.raw' $'\xff\xfe.raw' 'ü中😀.raw' ./-dash.raw '*.raw' $'tab\t.raw' ; do
		noise 1024 $((++i)) >"$name"
		expect_exit 0 vhdtool hash "$name"
		expect_equal "$(cat "$out")" "$(sha256sum "$name")"
	done
	expect_exit 0 vhdtool hash ./*.raw
	sha256sum ./*.raw >sums
	expect_same_file "$out" sums
	expect_exit 0 vhdtool hash -- -dash.raw
	expect_equal "$(cat "$out")" "$(sha256sum -- -dash.raw)"
}

test_json() {
	noise 4096 1 >a.raw
	noise 8192 2 >b.raw
	expect_exit 0 vhdtool hash --json a.raw b.raw
	expect_json "length == 2 and .[0].file == \"a.raw\" and .[0].size_bytes == 4096 and
		.[0].sha256 == \"$(sha256sum a.raw | cut -c 1-64)\" and
		.[1].sha256 == \"$(sha256sum b.raw | cut -c 1-64)\""
}

test_one_bad_file_does_not_hide_the_others() {
	noise 4096 1 >a.raw
	noise 4096 2 >b.raw
	noise 4096 3 >bad.vhd
	expect_exit 1 vhdtool hash a.raw missing.raw bad.vhd b.raw
	{ sha256sum a.raw b.raw; } >sums
	expect_same_file "$out" sums
	expect_equal "$(wc -l <"$err")" 2
	grep -q "^vhdtool: missing.raw: No such file" "$err"
	grep -q "^vhdtool: bad.vhd: not a VHD" "$err"
}

test_damaged_disk_gives_no_digest() {
	noise 4M >model.raw
	expect_exit 0 vhdtool convert --to dynamic model.raw a.vhd
	put a.vhd 1540 '\x7f'
	expect_exit 1 vhdtool hash a.vhd
	expect_sentence a.vhd "block 1"
	expect_equal "$(cat "$out")" ""
	mkdir dir
	expect_exit 1 vhdtool hash dir
	expect_sentence dir directory
	expect_exit 1 as_nobody vhdtool hash /proc/1/mem
	expect_sentence /proc/1/mem
}

test_reader_that_goes_away() {
	noise 4096 >a.raw
	expect_exit 1 sh -c "'$VHDTOOL' hash a.raw >/dev/full"
	expect_sentence "standard output"
}

test_mistakes() {
	expect_exit 2 vhdtool hash
	expect_exit 2 vhdtool hash --from qcow2 a.raw
	expect_exit 2 vhdtool hash --nonsense a.raw
	expect_sentence nonsense
	expect_exit 0 vhdtool hash --help
	expect_out "sha256sum"
}
