#!/bin/bash
# vhdtool map: extents, and where they lie.
. "${BASH_SOURCE[0]%/*}/../lib.sh"

map_json() {
	expect_exit 0 vhdtool map --json "$@"
}

# The extents follow each other from A to B.
expect_whole() {
	expect_json ". as \$e | .[0].start == $1 and (.[-1] | .start + .length) == $2 and
		all(range(1; length); \$e[.].start == \$e[. - 1].start + \$e[. - 1].length)"
}

# Bytes of FILE as it lies on the host.
host_bytes() {
	dd if="$1" bs=1 skip="$2" count="$3" status=none
}

test_empty_disk_is_one_extent_of_zeros() {
	expect_exit 0 vhdtool create --dynamic 10M d.vhd
	map_json d.vhd
	expect_json '. == [{start: 0, length: 10485760, depth: 0, present: false, zero: true, data: false}]'
	expect_exit 0 vhdtool map d.vhd
	expect_equal "$(wc -l <"$out")" 2
	expect_out "offset" "10485760  zero"
}

test_largest_disk_is_one_extent_too() {
	expect_exit 0 vhdtool create --dynamic 2040G d.vhd
	map_json d.vhd
	expect_json 'length == 1 and .[0].length == 2040 * 1073741824'
}

test_data_lies_where_the_map_says() {
	expect_exit 0 vhdtool create --dynamic 10M d.vhd
	noise 3K >bytes
	expect_exit 0 vhdtool write --offset 4M --from-file bytes d.vhd
	map_json d.vhd
	expect_whole 0 10485760
	expect_json 'map(select(.data)) | length >= 1 and all(.[]; .depth == 0 and .file == "d.vhd")'
	expect_json 'all(.[]; .data != .zero)'
	host_bytes d.vhd "$(jq 'map(select(.start <= 4194304 and .start + .length > 4194304))[0] |
		.offset + 4194304 - .start' "$out")" 3072 | cmp - bytes
}

test_layers_of_a_chain() {
	expect_exit 0 vhdtool create --dynamic 8M a.vhd
	noise 64K 1 >one
	noise 512 2 >two
	expect_exit 0 vhdtool write --from-file one a.vhd
	expect_exit 0 vhdtool create --diff a.vhd b.vhd
	expect_exit 0 vhdtool write --offset 1K --from-file two b.vhd
	map_json b.vhd
	expect_whole 0 8388608
	expect_json 'map(select(.data))[0] | .start == 0 and .length == 1024 and .depth == 1 and (.file | test("a.vhd$"))'
	expect_json 'map(select(.data))[1] | .start == 1024 and .length == 512 and .depth == 0 and .file == "b.vhd"'
	expect_json 'map(select(.data))[2] | .start == 1536 and .depth == 1'
	host_bytes b.vhd "$(jq '.[1].offset' "$out")" 512 | cmp - two
	host_bytes a.vhd "$(jq '.[0].offset' "$out")" 1024 | cmp - <(head -c 1024 one)
	expect_exit 0 vhdtool map b.vhd
	grep -qE '^ +1024 +512 +data +0 +[0-9]+ +b.vhd$' "$out"
	grep -qE '^ +0 +1024 +data +1 +[0-9]+ +.*a.vhd$' "$out"
}

test_text_and_json_agree() {
	expect_exit 0 vhdtool create --dynamic 64M d.vhd
	printf x >x
	for at in 1 5M 5244000 20M 63M; do
		expect_exit 0 vhdtool write --offset $at --from-file x d.vhd
	done
	map_json d.vhd
	jq -r '.[] | "\(.start) \(.length) \(if .data then "data" else "zero" end) \(.offset // "-")"' "$out" >json
	expect_exit 0 vhdtool map d.vhd
	awk 'NR > 1 { print $1, $2, $3, $5 }' "$out" >text
	expect_same_file json text
}

test_part_of_a_disk() {
	expect_exit 0 vhdtool create --dynamic 8M d.vhd
	noise 4K >bytes
	expect_exit 0 vhdtool write --offset 1M --from-file bytes d.vhd
	map_json --offset 1048577 --length 100 d.vhd
	expect_json '. == [.[0]] and .[0].start == 1048577 and .[0].length == 100 and .[0].data'
	host_bytes d.vhd "$(jq '.[0].offset' "$out")" 100 | cmp - <(tail -c +2 bytes | head -c 100)
	map_json --offset 4M d.vhd
	expect_whole 4194304 8388608
	map_json --length 0 d.vhd
	expect_json '. == []'
	map_json --offset 8M d.vhd
	expect_json '. == []'
	expect_exit 1 vhdtool map --offset 8388609 d.vhd
	expect_sentence "d.vhd" "8388609" "beyond"
	expect_exit 1 vhdtool map --offset 8M --length 1 d.vhd
	expect_sentence "d.vhd" "beyond"
}

test_holes_of_a_fixed_disk() {
	expect_exit 0 vhdtool create --fixed 8M full.vhd
	noise 64K >f.vhd
	truncate -s 8M f.vhd
	tail -c 512 full.vhd >>f.vhd
	map_json f.vhd
	expect_whole 0 8388608
	expect_json '.[0].data and .[0].offset == 0 and .[0].start == 0'
	[ "$(stat -c %b f.vhd)" -gt 16000 ] || expect_json '.[1].zero and (.[1] | has("offset") | not)'
}

test_raw_image() {
	noise 4K >disk.raw
	map_json disk.raw
	expect_json '. == [{start: 0, length: 4096, depth: 0, present: true, zero: false, data: true, offset: 0, file: "disk.raw"}]'
	: >empty.raw
	map_json empty.raw
	expect_json '. == []'
}

test_agrees_with_qemu() {
	need_tool qemu-img qemu-io
	qemu-img create -q -f vpc -o force_size=on q.vhd 20M
	noise 2M >bytes
	for at in 4M 12M 14M; do
		expect_exit 0 vhdtool write --offset $at --from-file bytes q.vhd
	done
	qemu-img map -f vpc --output=json q.vhd >theirs
	map_json q.vhd
	for file in theirs "$out"; do
		jq -c '.[] | select(.data) | [.start, .length, .offset]' "$file" >"$file.data"
	done
	[ -s theirs.data ]
	expect_same_file theirs.data "$out.data"
}

test_names_of_any_kind() {
	local name=$'a "b"\\c\n\xff.vhd'
	expect_exit 0 vhdtool create --dynamic 8M "$name"
	printf x | vhdtool write -q "$name"
	map_json "$name"
	expect_json '.[0].file | startswith("a \"b\"\\c\n")'
	expect_exit 0 vhdtool map "$name"
	expect_equal "$(grep -c . "$out")" 3
	expect_out '\x0a\xff.vhd'
}

# Thousands of extents, and no more memory than for one.
test_memory_does_not_grow_with_extents() {
	need_tool python3
	PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$HVKIT_ROOT/fixtures/gen python3 -c '
from vhdimage import *
disk = Vhd(DYNAMIC, 64 * MIB, "many", block=2 * MIB)
for sector in range(0, 131072, 2):
    disk.fill(sector, 1)
disk.file().write("./many.vhd")'
	map_json many.vhd
	expect_json 'length == 131072'
	[ -z "$SANITIZED" ] || ok
	vhdtool map --length 1 many.vhd >/dev/null
	expect_exit 0 bash -c "ulimit -v 200000; '$VHDTOOL' map many.vhd"
	expect_equal "$(wc -l <"$out")" 131073
}

test_reader_that_goes_away() {
	expect_exit 0 vhdtool create --dynamic 8M d.vhd
	expect_exit 1 sh -c "'$VHDTOOL' map d.vhd >/dev/full"
	expect_sentence "standard output"
}

test_mistakes() {
	expect_exit 2 vhdtool map
	expect_exit 2 vhdtool map --length lots d.vhd
	expect_sentence "lots"
	expect_exit 2 vhdtool map --offset 5MB d.vhd
	expect_exit 1 vhdtool map missing.vhd
	expect_sentence "missing.vhd"
	mkdir dir.vhd
	expect_exit 1 vhdtool map dir.vhd
	expect_sentence "directory"
	mkfifo fifo.vhd
	expect_exit 1 vhdtool map fifo.vhd
	expect_sentence "fifo.vhd"
	noise 64K >garbage.vhd
	expect_exit 1 vhdtool map --json garbage.vhd
	expect_sentence "garbage.vhd"
	expect_equal "$(cat "$out")" ""
	expect_exit 0 vhdtool create --dynamic 8M a.vhd
	expect_exit 0 vhdtool create --diff a.vhd b.vhd
	rm a.vhd
	expect_exit 1 vhdtool map b.vhd
	expect_sentence "b.vhd" "a.vhd" "--parent"
}
