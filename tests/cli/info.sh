#!/bin/bash
# vhdtool info: everything that footer, header and locators say, of any disk that can be opened.
. "${BASH_SOURCE[0]%/*}/../lib.sh"

# make_image FILE EXPRESSION: an image of fixtures/gen, by a Python expression that gives a Vhd.
make_image() {
	need_tool python3
	PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$HVKIT_ROOT/fixtures/gen python3 -c '
import sys
from vhdimage import *
eval(sys.argv[2]).file().write("./" + sys.argv[1])' "$1" "$2"
}

# A child, with a locator and a name, of what make_image made.
make_child() { # FILE PARENT-EXPRESSION PARENT-PATH [MORE]
	make_image "$1" "Vhd(DIFFERENCING, 2 * MIB, '$1'${4-}).fill(1, 1).child_of(($2).locate(), \
w2ru('.\\\\' + '$3'), name='$3')"
}

base="Vhd(DYNAMIC, 2 * MIB, 'base').fill(0, 3)"

info_json() {
	expect_exit 0 vhdtool info --json "$@"
}

test_empty_dynamic_disk() {
	expect_exit 0 vhdtool create --dynamic 10M d.vhd
	info_json d.vhd
	expect_json '.file == "d.vhd" and .format == "dynamic" and .size_bytes == 10485760'
	expect_json '.size_rule == "current size" and .block_bytes == 2097152 and .block_count == 5'
	expect_json '.allocated_blocks == 0 and .allocated_bytes == 0 and .aligned == null'
	expect_json '.footer.creator == "hvkt" and .footer.creator_name == "hvkit"'
	expect_json '.footer.type == 3 and .footer.trailing_valid and .footer.copy_valid'
	expect_json '.footer.original_bytes == 10485760 and .footer.current_bytes == 10485760'
	expect_json '.footer.uuid == .uuid and (.uuid | test("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"))'
	expect_json '.header.offset == 512 and .header.max_entries == 5 and .header.version == "1.0"'
	expect_json '.parent == null and .complete and .layers == 1 and (has("chain") | not)'
	expect_exit 0 vhdtool info d.vhd
	expect_out "file:           d.vhd" "format:         dynamic" "10 MiB (10485760 bytes)" \
		"0 of 5 blocks" "'hvkt' (hvkit)" "BAT at byte:"
}

test_time_and_checksum_are_those_of_the_footer() {
	make_image t.vhd "Vhd(FIXED, 2 * MIB, 't', timestamp=0).fill(0, 1)"
	info_json t.vhd
	expect_json '.footer.created == "2000-01-01T00:00:00Z" and .footer.timestamp == 0'
	make_image t.vhd "Vhd(FIXED, 2 * MIB, 't', timestamp=0xffffffff).fill(0, 1)"
	info_json t.vhd
	expect_json '.footer.created == "2136-02-07T06:28:15Z"'
	expect_equal "$(jq -r .footer.checksum "$out")" \
		"0x$(tail -c 448 t.vhd | head -c 4 | od -An -tx1 | tr -d ' ')"
}

test_allocation_is_counted() {
	expect_exit 0 vhdtool create --dynamic 64M d.vhd
	noise 1K >bytes
	for at in 0 10M 63M; do
		expect_exit 0 vhdtool write --offset $at --from-file bytes d.vhd
	done
	info_json d.vhd
	expect_json '.allocated_blocks == 3 and .allocated_bytes == 3 * 2097152 and .aligned'
	expect_json '.fragments == 1 and .header.data_end > .allocated_bytes'
	expect_exit 0 vhdtool info d.vhd
	expect_out "3 of 32 blocks" "multiple of 4 KiB" "1 run of blocks"
}

test_misaligned_and_scattered_blocks_are_told() {
	make_image m.vhd "setattr(d := Vhd(DYNAMIC, 4 * MIB, 'm', aligned=False).fill(0, 1)\
.fill(1024, 1).fill(2048, 1), 'order', [2, 1, 0]) or d"
	info_json m.vhd
	expect_json '.aligned == false and .allocated_blocks == 3 and .fragments == 3'
	expect_exit 0 vhdtool info m.vhd
	expect_out "not every block" "3 runs"
}

test_size_rules() {
	make_image chs.vhd "Vhd(FIXED, 4 * MIB, 'chs', creator=b'vpc ').fill(0, 1)"
	info_json chs.vhd
	expect_json '.size_rule == "geometry" and .size_bytes == 4177920 and .footer.current_bytes == 4194304'
	make_image max.vhd "Vhd(FIXED, 4 * MIB, 'max', creator=b'vpc ', geometry=MAX_CHS).fill(0, 1)"
	info_json max.vhd
	expect_json '.size_rule == "current size" and .size_bytes == 4194304'
	make_image cut.vhd "Vhd(FIXED, 4 * MIB, 'cut').fill(0, 1).both(current=8 * MIB)"
	info_json cut.vhd
	expect_json '.size_rule == "file size" and .size_bytes == 4194304'
	expect_exit 0 vhdtool info cut.vhd
	expect_out "less than the footer says"
}

test_creators_are_named() {
	local pair
	for pair in "b'vpc ':Virtual PC" "b'vs  ':Virtual Server" "b'win ':Windows" \
		"b'd2v\\0':Disk2vhd" "b'wa\\0\\0':Azure" "b'qemu':QEMU" "b'qem2':QEMU" \
		"b'CTXS':XenServer" "b'vbox':VirtualBox" "b'\\x1b[2J':unknown"; do
		make_image c.vhd "Vhd(FIXED, 4 * MIB, 'c', creator=${pair%%:*}).fill(0, 1)"
		info_json c.vhd
		expect_json ".footer.creator_name == \"${pair#*:}\""
	done
	expect_json '.footer.creator == "?[2J"'
	make_image c.vhd "Vhd(DYNAMIC, 4 * MIB, 'c', creator=b'tap\\0', creator_version=0x10003).fill(0, 1)"
	info_json c.vhd
	expect_json '.footer.creator_name == "Xen blktap" and .footer.creator_version == "1.3"'
}

test_damaged_footer_and_old_form() {
	make_image d.vhd "Vhd(DYNAMIC, 2 * MIB, 'd').fill(0, 1).trailing(checksum_error=1)"
	info_json d.vhd
	expect_json '.footer.trailing_valid == false and .footer.copy_valid'
	expect_exit 0 vhdtool info d.vhd
	expect_out "damaged" "in force"
	make_image o.vhd "Vhd(FIXED, 2 * MIB, 'o').fill(0, 1)"
	truncate -s -1 o.vhd
	info_json o.vhd
	expect_json '.footer.old_form and .size_bytes == 2097152 and .footer.copy_valid == null'
}

test_saved_state_hidden_and_temporary() {
	make_image s.vhd "Vhd(FIXED, 2 * MIB, 's', saved=1, features=3, hidden=1).fill(0, 1)"
	info_json s.vhd
	expect_json '.footer.saved_state and .footer.temporary and .footer.hidden'
	expect_json '.footer.features == "0x00000003"'
	make_image s.vhd "Vhd(FIXED, 2 * MIB, 's').fill(0, 1)"
	info_json s.vhd
	expect_json '[.footer.saved_state, .footer.temporary, .footer.hidden] == [false, false, false]'
}

test_sparse_host_file_is_told() {
	expect_exit 0 vhdtool create --fixed 20M full.vhd
	info_json full.vhd
	expect_json '.host.sparse == false and .host.size_bytes == 20972032'
	expect_json '.host.allocated_bytes >= .host.size_bytes'
	truncate -s 20M hole.vhd
	tail -c 512 full.vhd >>hole.vhd
	info_json hole.vhd
	expect_json '.host.sparse and .host.allocated_bytes < 1048576'
	expect_json ".host.filesystem == \"$(findmnt -no FSTYPE -T .)\""
	expect_exit 0 vhdtool info hole.vhd
	expect_out "Windows refuses"
}

test_azure_is_judged() {
	expect_exit 0 vhdtool create --fixed 20M good.vhd
	info_json good.vhd
	expect_json '.azure.acceptable and .azure.reason == null'
	expect_exit 0 vhdtool create --fixed 19M small.vhd
	info_json small.vhd
	expect_json '.azure.acceptable == false and (.azure.reason | test("20 MiB"))'
	expect_exit 0 vhdtool create --fixed 20972032 odd.vhd
	info_json odd.vhd
	expect_json '.azure.acceptable == false and (.azure.reason | test("whole"))'
	expect_exit 0 vhdtool create --dynamic 20M dynamic.vhd
	info_json dynamic.vhd
	expect_json '.azure.acceptable == false and (.azure.reason | test("fixed"))'
	expect_exit 0 vhdtool info dynamic.vhd
	expect_out "not acceptable: it is not a fixed disk"
}

test_raw_image() {
	noise 1M >disk.raw
	info_json disk.raw
	expect_json '.format == "raw" and .size_bytes == 1048576 and .size_rule == "file size"'
	expect_json '[.uuid, .footer, .header, .parent, .block_bytes] == [null, null, null, null, null]'
	expect_json '.azure.acceptable == false and .host.size_bytes == 1048576'
	expect_exit 0 vhdtool info disk.raw
	expect_out "raw" "1 MiB"
}

test_filesystem_inside_is_named() {
	need_tool mkfs.ext4
	truncate -s 8M fs.raw
	mkfs.ext4 -q -L hello fs.raw
	expect_exit 0 vhdtool create --dynamic 8M fs.vhd
	expect_exit 0 vhdtool write --from-file fs.raw fs.vhd
	expect_exit 0 vhdtool create --diff fs.vhd child.vhd
	for file in fs.raw fs.vhd child.vhd; do
		info_json $file
		expect_json '.contents.signature == "ext4" and .contents.label == "hello"'
		expect_json ".contents.uuid == \"$(blkid -p -o value -s UUID fs.raw)\" and .contents.error == null"
	done
	expect_exit 0 vhdtool info child.vhd
	expect_out "ext4" "hello"
}

test_partitions_inside_are_listed() {
	need_tool mkfs.ext4
	truncate -s 16M disk.raw part.raw
	truncate -s 4M part.raw
	mkfs.ext4 -q -L inner part.raw
	put disk.raw 446 '\0\0\0\0\x83\0\0\0\0\x08\0\0\0\x20\0\0' # 4 MiB at 1 MiB
	put disk.raw 462 '\0\0\0\0\x83\0\0\0\0\x30\0\0\0\x20\0\0' # 4 MiB at 6 MiB
	put disk.raw 510 '\x55\xaa'
	dd if=part.raw of=disk.raw bs=1M seek=6 conv=notrunc status=none
	expect_exit 0 vhdtool create --dynamic 16M disk.vhd
	expect_exit 0 vhdtool write --from-file disk.raw disk.vhd
	info_json disk.vhd
	expect_json '.contents.table == "dos" and (.contents.partitions | length) == 2'
	expect_json '.contents.partitions[0] | .number == 1 and .offset == 1048576 and .length == 4194304 and .type == "0x83" and .signature == null'
	expect_json '.contents.partitions[1] | .signature == "ext4" and .label == "inner"'
	expect_exit 0 vhdtool info disk.vhd
	expect_out "partition 2:" "4 MiB at 6 MiB: ext4 'inner'"
}

test_ciphertext_is_not_looked_into() {
	make_image x.vhd "(d := __import__('hostile_images').xen(), d.batmap.update(keyhash=b'\\1' + bytes(64)))[0]"
	info_json x.vhd
	expect_json '.header.encrypted and .complete and (.contents.error | test("encrypted"))'
}

test_chain_is_described_layer_by_layer() {
	expect_exit 0 vhdtool create --dynamic 8M a.vhd
	expect_exit 0 vhdtool create --diff a.vhd b.vhd
	expect_exit 0 vhdtool create --diff b.vhd c.vhd
	info_json --chain c.vhd
	expect_json '[.chain[].file | sub(".*/"; "")] == ["c.vhd", "b.vhd", "a.vhd"]'
	expect_json '[.chain[].parent.state] == ["ok", "ok", null] and .complete and .layers == 3'
	expect_json '.chain[0].parent.uuid == .chain[1].uuid and .chain[1].parent.uuid == .chain[2].uuid'
	expect_json '.parent.state == "ok" and .parent.name == "b.vhd" and .uuid == .chain[0].uuid'
	expect_json '[.parent.locators[].code] | sort == ["MacX", "W2ku", "W2ru"]'
	expect_json '.parent.locators[] | select(.code == "W2ru").text == ".\\b.vhd"'
	expect_exit 0 vhdtool info --chain c.vhd
	expect_out "layer 0:" "layer 2:" "parent ok" "yes, 3 layers" "W2ru"
}

test_missing_parent_is_a_state_not_a_failure() {
	expect_exit 0 vhdtool create --dynamic 8M a.vhd
	expect_exit 0 vhdtool create --diff a.vhd b.vhd
	expect_exit 0 vhdtool create --diff b.vhd c.vhd
	rm a.vhd
	info_json b.vhd
	expect_json '.parent.state == "missing" and (.parent.path | test("a.vhd$")) and (.complete | not)'
	expect_json '(.problem | test("a.vhd")) and .contents.error == .problem and .contents.partitions == []'
	expect_json '.size_bytes == 8388608 and .allocated_blocks == 0'
	info_json --chain c.vhd
	expect_json '.parent.state == "ok" and (.complete | not) and (.chain | length) == 2'
	expect_json '.chain[1].parent.state == "missing"'
	expect_exit 0 vhdtool info --chain c.vhd
	expect_out "parent missing" "not known" "incomplete"
	expect_equal "$(cat "$err")" ""
}

test_parent_states() {
	make_image base.vhd "$base"
	make_child wrong.vhd "Vhd(DYNAMIC, 2 * MIB, 'other')" base.vhd
	info_json wrong.vhd
	expect_json '.parent.state == "wrong" and (.problem | test("wrong.vhd.*base.vhd"))'
	make_child resized.vhd "$base" base.vhd
	make_image base.vhd "Vhd(DYNAMIC, 4 * MIB, 'base', original=2 * MIB).fill(0, 3)"
	info_json resized.vhd
	expect_json '.parent.state == "resized"'
	noise 4K >base.vhd
	info_json resized.vhd
	expect_json '.parent.state == "failed"'
	rm base.vhd
	mkdir base.vhd
	info_json resized.vhd
	expect_json '.parent.state == "failed" or .parent.state == "missing"'
	make_image self.vhd "(d := Vhd(DIFFERENCING, MIB, 'self').fill(5, 5)).child_of(d, w2ru('.\\\\self.vhd'), name='self.vhd')"
	info_json --chain self.vhd
	expect_json '.parent.state == "loop" and (.chain | length) == 1'
}

test_the_right_parent_by_option() {
	mkdir here there
	(cd here && expect_exit 0 vhdtool create --dynamic 8M a.vhd)
	(cd here && expect_exit 0 vhdtool create --diff a.vhd b.vhd)
	mv here/a.vhd there/z.vhd
	info_json here/b.vhd
	expect_json '.parent.state == "missing"'
	info_json --parent there/z.vhd here/b.vhd
	expect_json '.parent.state == "ok" and .parent.path == "there/z.vhd" and .complete'
}

test_texts_of_strangers_do_not_drive_the_terminal() {
	make_image evil.vhd "Vhd(DIFFERENCING, 2 * MIB, 'evil').fill(1, 1).child_of(($base).locate(), \
w2ru('.\\\\\\x1b]0;x\\x07.vhd'), name='\\x1b[2J\\x9b1m.vhd')"
	expect_exit 0 vhdtool info --chain evil.vhd
	expect_out '\x1b[2J' '\xc2\x9b1m.vhd' '\x1b]0;x\x07'
	! LC_ALL=C grep -q $'[\x01-\x08\x0b-\x1f\x7f\x9b]' "$out"
}

test_disk_in_use() {
	expect_exit 0 vhdtool create --dynamic 8M d.vhd
	mkfifo pipe
	"$VHDTOOL" write d.vhd <pipe >written &
	exec 3>pipe
	printf x >&3
	for _ in {1..200}; do # trying to open it would be in the writer's way
		! grep -q ":$(stat -c %i d.vhd) " /proc/locks || break
		sleep 0.05
	done
	sleep 0.2 # the locks are taken one by one
	expect_exit 1 vhdtool info d.vhd
	expect_sentence "d.vhd"
	expect_exit 0 vhdtool info -U d.vhd
	expect_out "dynamic"
	exec 3>&-
	wait $!
	expect_exit 0 vhdtool info d.vhd
}

test_block_device() {
	need_loop
	local device
	make_image f.vhd "Vhd(FIXED, 2 * MIB, 'f').fill(0, 1)"
	device=$(loop_on f.vhd)
	info_json "$device"
	expect_json '.format == "fixed" and .size_bytes == 2097152 and .host.block_device'
	expect_json '.host.sparse == false and .host.size_bytes == 2097664 and .host.filesystem == null'
}

test_mistakes() {
	expect_exit 2 vhdtool info
	expect_exit 2 vhdtool info a.vhd b.vhd
	expect_exit 2 vhdtool info --from qcow2 a.vhd
	expect_exit 1 vhdtool info missing.vhd
	expect_sentence "missing.vhd" "No such file"
	mkdir dir.vhd
	expect_exit 1 vhdtool info dir.vhd
	expect_sentence "dir.vhd" "directory"
	mkfifo fifo.vhd
	expect_exit 1 vhdtool info fifo.vhd
	expect_sentence "fifo.vhd"
	: >empty.vhd
	expect_exit 1 vhdtool info empty.vhd
	expect_sentence "empty.vhd"
	noise 64K >garbage.vhd
	expect_exit 1 vhdtool info --chain garbage.vhd
	expect_sentence "garbage.vhd" "footer"
	expect_exit 1 vhdtool info --json garbage.vhd
	expect_equal "$(cat "$out")" "" "no JSON after a failure"
	make_image secret.vhd "$base"
	chmod 000 secret.vhd
	expect_exit 1 as_nobody vhdtool info secret.vhd
	expect_sentence "secret.vhd" "Permission"
	expect_exit 1 vhdtool info missing.vhd/x
	expect_sentence "missing.vhd/x"
}

test_lost_output_is_a_failure() {
	expect_exit 0 vhdtool create --dynamic 8M d.vhd
	expect_exit 1 sh -c "'$VHDTOOL' info d.vhd >/dev/full"
	expect_sentence "standard output"
	expect_exit 1 sh -c "'$VHDTOOL' info --json d.vhd >/dev/full"
}

test_looking_changes_nothing() {
	expect_exit 0 vhdtool create --dynamic 8M a.vhd
	expect_exit 0 vhdtool create --diff a.vhd b.vhd
	cat a.vhd b.vhd | sha256sum >before
	stat -c '%Y %Z' a.vhd b.vhd >>before
	expect_exit 0 vhdtool info --chain b.vhd
	{ cat a.vhd b.vhd | sha256sum && stat -c '%Y %Z' a.vhd b.vhd; } >after
	expect_same_file before after
}

# No block is looked at, however many there are.
test_huge_disk_costs_what_its_table_costs() {
	need_tool strace
	expect_exit 0 vhdtool create --dynamic 2040G big.vhd
	printf x >x
	for at in 0 1T 2039G; do
		expect_exit 0 vhdtool write -q --offset $at --from-file x big.vhd
	done
	strace -f -o trace -e trace=pread64,preadv,read "$VHDTOOL" info --json big.vhd >"$out"
	expect_json '.size_bytes == 2040 * 1073741824 and .allocated_blocks == 3'
	[ "$(wc -l <trace)" -lt 400 ] || fail "$(wc -l <trace) reads"
	expect_equal "$(awk '{ n += $NF > 0 ? $NF : 0 } END { print (n < 64 * 1048576) }' trace)" 1 "bytes read"
}

test_every_key_is_in_the_manual() {
	need_tool jq
	local key page=$HVKIT_ROOT/vhdtool/vhdtool.1
	make_image base.vhd "$base"
	make_child child.vhd "$base" base.vhd
	expect_exit 0 vhdtool create --dynamic 8M part.vhd
	printf '\x83\0\0\0\0\x08\0\0\0\x20\0\0' | vhdtool write -q --offset 450 part.vhd
	printf '\x55\xaa' | vhdtool write -q --offset 510 part.vhd
	{ vhdtool info --json --chain child.vhd && vhdtool info --json part.vhd &&
		vhdtool map --json child.vhd; } >all.json
	for key in $(jq -r '.. | objects | keys[]' all.json | sort -u); do
		grep -qE "^\.(It|Li|Dq|Sy|Cm|Va).*\b$key\b" "$page" || fail "the manual has no key \"$key\""
	done
}
