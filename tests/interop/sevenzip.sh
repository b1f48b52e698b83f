#!/bin/bash
# 7-Zip, the strictest reader of VHD files: reserved bytes, checksums, the number of table entries and
# bitmaps all have to be right.
. "${BASH_SOURCE[0]%/*}/../lib.sh"

mib=$((1 << 20))

# Does it read these formats at all?
need_7z() {
	need_tool 7z
	7z i | grep -q '\bVHD\b' || skip "needs a 7z that reads VHD"
}

# expect_7z DISK RAW
expect_7z() {
	expect_exit 0 7z l -tvhd "$1"
	expect_out "$(stat -c %s "$2")"
	! grep -qi 'error\|warning' "$out" "$err" || fail "$(grep -hi 'error\|warning' "$out" "$err")"
	7z x -so -tvhd "$1" 2>"$err" | cmp - "$2"
	expect_equal "$(cat "$err")" ""
}

make_model() {
	truncate -s "$1" model.raw
	noise 700001 | dd of=model.raw bs=64K oflag=seek_bytes seek=1300000 conv=notrunc status=none
}

test_fixed_and_dynamic_disks() {
	local size to
	need_7z
	for size in $((4 * mib)) $((9 * mib)) $((9 * mib + 512)); do
		make_model $size
		for to in fixed dynamic "dynamic --block-size 512K" "dynamic --geometry spec"; do
			expect_exit 0 vhdtool convert --force --to $to model.raw d.vhd
			expect_7z d.vhd model.raw
		done
	done
}

test_disk_written_to_piece_by_piece() {
	local at
	need_7z
	truncate -s 9M model.raw
	expect_exit 0 vhdtool create --dynamic 9M d.vhd
	for at in 9437183 0 4000000 2097151; do
		printf x | vhdtool write -q --offset $at d.vhd
		put model.raw $at x
		expect_7z d.vhd model.raw
	done
}

test_disk_without_blocks() {
	need_7z
	truncate -s 3M model.raw
	expect_exit 0 vhdtool create --dynamic 3M d.vhd
	expect_7z d.vhd model.raw
	expect_exit 0 vhdtool create --dynamic 2040G huge.vhd
	expect_exit 0 7z l -tvhd huge.vhd
	expect_out $((2040 << 30))
}

test_chain() {
	need_7z
	make_model $((5 * mib))
	expect_exit 0 vhdtool convert --to dynamic model.raw a.vhd
	expect_exit 0 vhdtool create --diff a.vhd b.vhd
	noise 100001 2 | tee piece | vhdtool write -q --offset 1500001 b.vhd
	dd if=piece of=model.raw bs=64K oflag=seek_bytes seek=1500001 conv=notrunc status=none
	expect_exit 0 vhdtool create --diff b.vhd c.vhd
	printf x | vhdtool write -q --offset 4000000 c.vhd
	put model.raw 4000000 x
	expect_7z c.vhd model.raw
}

# The test can fail: it sees what others do not.
test_it_is_strict() {
	need_7z
	make_model $((4 * mib))
	expect_exit 0 vhdtool convert --to dynamic model.raw d.vhd
	put d.vhd 300 '\x01'
	expect_exit 2 7z l -tvhd d.vhd
}
