#!/bin/bash
# vhdtool compare: do two disks hold the same?
. "${BASH_SOURCE[0]%/*}/../lib.sh"

# expect_differ FIRST SECTORS A B [OPTION]...
expect_differ() {
	expect_exit 1 vhdtool compare --json "${@:3}"
	expect_json ".identical == false and .first_difference == $1 and .differing_sectors == $2"
	expect_exit 1 vhdtool compare "${@:3}"
	expect_out "first at byte $1, in $2 sectors"
}

# change FILE OFFSET...: one byte at each.
change() {
	local at
	for at in "${@:2}"; do
		put "$1" "$at" '\xa5'
	done
}

make_model() {
	truncate -s 9M model.raw
	noise 3M 1 | tr '\245' '\0' | dd of=model.raw bs=1M seek=2 conv=notrunc status=none
}

test_same_contents_in_every_format() {
	local a b
	make_model
	for to in fixed dynamic; do
		expect_exit 0 vhdtool convert --to $to model.raw $to.vhd
	done
	expect_exit 0 vhdtool create --diff dynamic.vhd child.vhd
	for a in model.raw fixed.vhd dynamic.vhd child.vhd; do
		for b in model.raw fixed.vhd dynamic.vhd child.vhd; do
			expect_exit 0 vhdtool compare --strict $a $b
			expect_equal "$(cat "$out")" "$a and $b are identical"
		done
	done
	expect_exit 0 vhdtool compare --direct fixed.vhd child.vhd
	expect_exit 0 vhdtool compare --json model.raw child.vhd
	expect_json '.identical and .size_bytes_a == 9437184 and .size_bytes_b == 9437184 and
		.differing_sectors == 0 and .first_difference == null'
	expect_exit 0 vhdtool compare -q model.raw child.vhd
	expect_equal "$(cat "$out" "$err")" ""
}

test_first_difference_and_their_number() {
	make_model
	expect_exit 0 vhdtool convert --to dynamic model.raw d.vhd
	cp model.raw other.raw
	change other.raw 9437183
	expect_differ 9437183 1 d.vhd other.raw
	expect_differ 9437183 1 other.raw d.vhd
	# Two in one sector, one in the next, one in a hole.
	change other.raw 3000010 3000009 3000320 6000000
	expect_differ 3000009 4 d.vhd other.raw
	expect_differ 3000009 4 d.vhd other.raw --direct
	change other.raw 0
	expect_differ 0 5 model.raw other.raw
	change other.raw 1048575 1048576 2097151 2097152
	expect_differ 0 9 model.raw other.raw
	expect_exit 1 vhdtool compare -q model.raw other.raw
	expect_equal "$(cat "$out" "$err")" ""
}

test_child_against_its_parent() {
	make_model
	expect_exit 0 vhdtool convert --to dynamic model.raw a.vhd
	expect_exit 0 vhdtool create --diff a.vhd b.vhd
	expect_exit 0 vhdtool compare a.vhd b.vhd
	printf '\245' | vhdtool write -q --offset 4000000 b.vhd
	expect_differ 4000000 1 a.vhd b.vhd
	# Written, but with the same.
	vhdtool read --offset 3M --length 1000 a.vhd | vhdtool write -q --offset 3M b.vhd
	expect_differ 4000000 1 a.vhd b.vhd
	mv a.vhd z.vhd
	expect_exit 1 vhdtool compare z.vhd b.vhd
	expect_sentence b.vhd a.vhd --parent
	expect_exit 1 vhdtool compare --parent z.vhd --json b.vhd z.vhd
	expect_json '.first_difference == 4000000'
}

test_sizes_that_differ() {
	make_model
	cp model.raw longer.raw
	truncate -s 20M longer.raw
	for pair in "model.raw longer.raw" "longer.raw model.raw"; do
		expect_exit 0 vhdtool compare $pair
		expect_out "hold the same, but are of different size"
		expect_exit 0 vhdtool compare --json $pair
		expect_json '.identical and .size_bytes_a != .size_bytes_b'
		expect_exit 1 vhdtool compare --strict $pair
		expect_out "of different size"
		expect_exit 1 vhdtool compare --strict --json $pair
		expect_json '.identical == false and .differing_sectors == 0 and .first_difference == null'
	done
	# Zeros that are stored are zeros.
	head -c 1M /dev/zero | dd of=longer.raw bs=1M seek=12 conv=notrunc status=none
	expect_exit 0 vhdtool compare model.raw longer.raw
	change longer.raw 15000000 9437184
	expect_differ 9437184 2 model.raw longer.raw
	expect_differ 9437184 2 longer.raw model.raw
	: >empty.raw
	truncate -s 1M zeros.raw
	expect_exit 0 vhdtool compare empty.raw zeros.raw
	expect_exit 1 vhdtool compare --strict empty.raw zeros.raw
	expect_exit 0 vhdtool compare --strict empty.raw empty.raw
}

test_zeros_and_holes_are_the_same() {
	truncate -s 4M holes.raw
	head -c 4M /dev/zero >zeros.raw
	expect_exit 0 vhdtool create --dynamic 4M d.vhd
	head -c 3M /dev/zero | vhdtool write -q d.vhd
	expect_exit 0 vhdtool compare --strict holes.raw zeros.raw
	expect_exit 0 vhdtool compare --strict zeros.raw d.vhd
	expect_exit 0 vhdtool compare --strict d.vhd holes.raw
}

test_largest_disks() {
	expect_exit 0 vhdtool create --dynamic 2040G a.vhd
	expect_exit 0 vhdtool create --dynamic 2040G b.vhd
	expect_exit 0 vhdtool compare a.vhd b.vhd
	printf x | vhdtool write -q --offset $(((2040 << 30) - 1)) b.vhd
	expect_differ $(((2040 << 30) - 1)) 1 a.vhd b.vhd
}

test_formats_can_be_said() {
	make_model
	expect_exit 0 vhdtool convert --to fixed model.raw f.vhd
	cp f.vhd f.img
	expect_exit 1 vhdtool compare f.vhd f.img
	expect_sentence f.img --from
	expect_exit 0 vhdtool compare --from-b vhd f.vhd f.img
	expect_exit 0 vhdtool compare --from vhd f.img model.raw
	expect_exit 0 vhdtool compare --strict --from raw --from-b raw f.vhd f.img
	expect_differ 9437184 1 f.vhd f.img --from-b raw
}

test_disks_that_cannot_be_read() {
	make_model
	expect_exit 0 vhdtool convert --to dynamic model.raw good.vhd
	cp good.vhd bad.vhd
	put bad.vhd 1540 '\x7f'
	noise 4096 >garbage.vhd
	for pair in "good.vhd bad.vhd" "bad.vhd good.vhd"; do
		expect_exit 1 vhdtool compare $pair
		expect_sentence bad.vhd "block 1"
		expect_equal "$(cat "$out")" ""
	done
	expect_exit 1 vhdtool compare good.vhd garbage.vhd
	expect_sentence garbage.vhd "not a VHD"
	expect_exit 1 vhdtool compare missing.vhd good.vhd
	expect_sentence missing.vhd
	expect_exit 1 vhdtool compare good.vhd .
	expect_sentence directory
	expect_exit 1 sh -c "'$VHDTOOL' compare good.vhd good.vhd >/dev/full"
	expect_sentence "standard output"
}

test_mistakes() {
	expect_exit 2 vhdtool compare
	expect_exit 2 vhdtool compare a.raw
	expect_exit 2 vhdtool compare a.raw b.raw c.raw
	expect_exit 2 vhdtool compare --from qcow2 a.raw b.raw
	expect_exit 2 vhdtool compare --nonsense a.raw b.raw
	expect_sentence nonsense
	expect_exit 0 vhdtool compare --help
	expect_out "--strict"
}
