#!/bin/bash
# libvhdi: vhdiinfo and vhdimount. It mounts parent and child as vhdi1, vhdi2, ...; bytes of a child's
# bitmap that are neither 00 nor FF it reads wrongly, so that children here are written in units of
# eight sectors.
. "${BASH_SOURCE[0]%/*}/../lib.sh"

need_mount() {
	need_tool vhdimount vhdiinfo fusermount
	[ -e /dev/fuse ] && [ -r /dev/fuse ] && [ -w /dev/fuse ] || skip "needs /dev/fuse"
	mkdir -p mnt
}

mounted() {
	vhdimount "$1" mnt >"$out" 2>"$err" || {
		! grep -qi fuse "$err" || skip "needs FUSE: $(tail -n 1 "$err")"
		fail "vhdimount: $(head -n 1 "$err")"
	}
}

unmounted() {
	fusermount -u mnt
}

tells_the_size() {
	expect_exit 0 vhdtool create --dynamic "$1" d.vhd
	expect_exit 0 vhdiinfo d.vhd
	expect_out "Disk type		: Dynamic" "$1 bytes"
	truncate -s "$1" raw
	expect_exit 0 vhdtool convert --from raw --to fixed raw f.vhd
	expect_exit 0 vhdiinfo f.vhd
	expect_out "Disk type		: Fixed" "$1 bytes"
	expect_equal "$(sed -n 's/.*Identifier.*: //p' "$out")" "$(vhdtool info --json f.vhd | jq -r .uuid)"
	rm d.vhd f.vhd raw
}

test_size_is_exact() {
	local size
	need_tool vhdiinfo jq
	for size in 1536 104448 10485760 13631488 $((127 << 30)) $((2040 << 30)); do
		subtest "$size" tells_the_size "$size"
	done
}

test_contents_of_fixed_and_dynamic_disks() {
	local to
	need_mount
	truncate -s $((9 * 1048576 + 1536)) model.raw
	noise 1234567 | dd of=model.raw bs=64K oflag=seek_bytes seek=3000000 conv=notrunc status=none
	for to in fixed dynamic "dynamic --block-size 512K"; do
		expect_exit 0 vhdtool convert --force --to $to model.raw d.vhd
		mounted d.vhd
		expect_same_file mnt/vhdi1 model.raw
		unmounted
	done
}

# Every layer of the chain is one of the files.
test_chain_of_whole_bytes() {
	need_mount
	truncate -s 6M 0.raw
	noise 3M 1 | dd of=0.raw bs=1M seek=1 conv=notrunc status=none
	expect_exit 0 vhdtool convert --to dynamic 0.raw a.vhd
	expect_exit 0 vhdtool create --diff a.vhd b.vhd
	cp 0.raw 1.raw
	noise 64K 2 | tee piece | vhdtool write -q --offset 2M b.vhd
	dd if=piece of=1.raw bs=1M seek=2 conv=notrunc status=none
	noise 4K 3 | tee piece | vhdtool write -q --offset $((5 * 1048576 + 8192)) b.vhd
	dd if=piece of=1.raw bs=4K seek=1282 conv=notrunc status=none
	expect_exit 0 vhdtool create --diff b.vhd c.vhd
	cp 1.raw 2.raw
	noise 8K 4 | tee piece | vhdtool write -q --offset $((2 * 1048576 + 4096)) c.vhd
	dd if=piece of=2.raw bs=4K seek=513 conv=notrunc status=none
	mounted c.vhd
	expect_same_file mnt/vhdi1 0.raw
	expect_same_file mnt/vhdi2 1.raw
	expect_same_file mnt/vhdi3 2.raw
	unmounted
	expect_contents c.vhd 2.raw
	expect_exit 0 vhdiinfo c.vhd
	expect_out Differential "Parent identifier"
	expect_equal "$(sed -n 's/.*Parent identifier.*: //p' "$out")" \
		"$(vhdtool info --json b.vhd | jq -r .uuid)"
}
