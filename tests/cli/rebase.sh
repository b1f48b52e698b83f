#!/bin/bash
# vhdtool rebase: another parent, the same contents; what could not be opened afterwards is refused
# before anything is touched.
. "${BASH_SOURCE[0]%/*}/../lib.sh"

M=$((1 << 20))

fresh() { # BYTES
	head -c "$1" /dev/urandom
}

# a.vhd and b.vhd, 12 MiB each, which differ in some places; child.vhd is a child of a.vhd, wanted.raw
# what it reads.
make_family() {
	fresh 10M >a.raw
	truncate -s 12M a.raw
	cp a.raw b.raw
	fresh 100K | dd of=b.raw bs=512 seek=9000 conv=notrunc status=none
	dd if=/dev/zero of=b.raw bs=512 seek=1001 count=3000 conv=notrunc status=none
	fresh 512 | dd of=b.raw bs=512 seek=$((23 * 1024)) conv=notrunc status=none
	vhdtool convert -q --to dynamic a.raw a.vhd
	vhdtool convert -q --to dynamic b.raw b.vhd
	vhdtool create -q --diff a.vhd child.vhd
	fresh 1M | vhdtool write -q --offset 4M child.vhd
	head -c 300K /dev/zero | vhdtool write -q --offset 1536 child.vhd
	vhdtool convert -qf --to raw child.vhd wanted.raw
}

parent_uuid() {
	vhdtool info --json "$1" | jq -r .parent.uuid
}

uuid() {
	vhdtool info --json "$1" | jq -r .uuid
}

expect_family() { # CHILD PARENT
	expect_contents "$1" wanted.raw
	expect_equal "$(parent_uuid "$1")" "$(uuid "$2")"
	expect_exit 0 vhdtool check -q "$1"
}

# ---- What it does ----

test_child_reads_the_same_over_another_parent() {
	make_family
	expect_exit 0 vhdtool rebase --parent b.vhd child.vhd
	expect_out "child.vhd: now a child of" "/b.vhd" "were copied into child.vhd"
	expect_family child.vhd b.vhd
	# And back: now it holds what differs, and nothing is copied.
	expect_exit 0 vhdtool rebase --verify --direct --json --parent a.vhd child.vhd
	expect_json '.verified and .copied_bytes == 0 and .compared_bytes > 0 and
		(.old_parent | endswith("/b.vhd")) and (.parent | endswith("/a.vhd"))'
	expect_family child.vhd a.vhd
}

test_only_what_differs_is_copied() {
	make_family
	expect_exit 0 vhdtool rebase --json --parent b.vhd child.vhd
	# 100 KiB of other data, 1500 KiB of zeros, one sector; each in pages, less what the child has.
	expect_json '.copied_bytes > 1200 * 1024 and .copied_bytes < 1700 * 1024'
}

test_where_the_old_parent_is_zero_the_child_gets_zeros() {
	vhdtool create -q --dynamic 8M a.vhd
	vhdtool create -q --diff a.vhd child.vhd
	fresh 8M >b.raw
	vhdtool convert -q --to fixed b.raw b.vhd
	truncate -s 8M wanted.raw
	expect_exit 0 vhdtool rebase --json --parent b.vhd child.vhd
	expect_json '.zeroed_bytes == .copied_bytes and .copied_bytes == 8388608'
	expect_family child.vhd b.vhd
}

test_shared_layers_are_not_even_read() {
	make_family
	vhdtool create -q --diff child.vhd leaf.vhd
	fresh 64K | vhdtool write -q --offset 9M leaf.vhd
	vhdtool convert -qf --to raw leaf.vhd wanted.raw
	expect_exit 0 vhdtool rebase --json --parent a.vhd leaf.vhd
	expect_json '.compared_bytes < 1600 * 1024 and .copied_bytes > 1048576'
	expect_family leaf.vhd a.vhd
	rm child.vhd
	expect_family leaf.vhd a.vhd
}

test_dry_run_tells_and_changes_nothing() {
	make_family
	sha256sum ./*.vhd >before
	expect_exit 0 vhdtool rebase -n --json --parent b.vhd child.vhd
	expect_json '.dry_run and .copied_bytes > 1000000'
	cp "$out" dry.json
	sha256sum -c --quiet before
	expect_exit 0 vhdtool rebase -n --parent b.vhd child.vhd
	expect_out "can become a child of" "would be copied"
	expect_exit 0 vhdtool rebase --json --parent b.vhd child.vhd
	expect_json ".copied_bytes == $(jq .copied_bytes dry.json)"
	expect_exit 0 vhdtool rebase -q --parent a.vhd child.vhd
	[ ! -s "$out" ] || fail "something was printed"
}

test_unsafe_changes_the_record_alone() {
	make_family
	rm a.vhd
	expect_exit 1 vhdtool rebase --parent b.vhd child.vhd
	expect_sentence "child.vhd: its parent 'a.vhd' was not found" --unsafe
	expect_exit 0 vhdtool rebase --unsafe --json --parent b.vhd child.vhd
	expect_json '(.verified | not) and .old_parent == null and .compared_bytes == 0'
	expect_equal "$(parent_uuid child.vhd)" "$(uuid b.vhd)"
	# The child's own 1 MiB at 4 MiB, and b.vhd elsewhere.
	dd if=wanted.raw of=b.raw bs=1M skip=4 seek=4 count=1 conv=notrunc status=none
	dd if=/dev/zero of=b.raw bs=512 seek=3 count=600 conv=notrunc status=none
	expect_contents child.vhd b.raw
}

test_moved_parent_is_found_again() {
	make_family
	mkdir -p "else/π ☃"
	mv a.vhd "else/π ☃/renamed 😀.vhd"
	expect_exit 1 vhdtool hash child.vhd
	expect_exit 0 vhdtool rebase --unsafe --parent "else/π ☃/renamed 😀.vhd" child.vhd
	expect_out "as before"
	expect_family child.vhd "else/π ☃/renamed 😀.vhd"
	mkdir moved
	mv else child.vhd moved
	expect_contents moved/child.vhd wanted.raw
}

test_old_parent_may_be_named() {
	make_family
	mkdir else
	mv a.vhd else/x.vhd
	expect_exit 0 vhdtool rebase --old-parent else/x.vhd --parent b.vhd child.vhd
	expect_family child.vhd b.vhd
	expect_exit 1 vhdtool rebase --old-parent else/x.vhd --parent b.vhd child.vhd
	expect_sentence "is not its parent"
}

test_old_paths_are_overwritten_on_request() {
	make_family
	mkdir plain
	cp b.vhd plain
	expect_exit 0 vhdtool rebase --secure-zero --parent plain/b.vhd child.vhd
	! grep -qa "a.vhd" child.vhd || fail "the old path is there"
	! grep -qaP "a\0\.\0v\0h\0d" child.vhd || fail "the old path is there"
	expect_family child.vhd plain/b.vhd
}

# ---- Images of others ----

# A child as others write it, of a dynamic parent: PLACE is where its locators are.
foreign_family() { # PLACE
	need_tool python3
	PYTHONPATH=$HVKIT_ROOT/fixtures/gen python3 -B -c '
import sys
from vhdimage import DIFFERENCING, DYNAMIC, MIB, Vhd, w2ku, w2ru
parent = Vhd(DYNAMIC, 4 * MIB, "p", aligned=False).fill(0, 3000).fill(5000, 7)
child = Vhd(DIFFERENCING, 4 * MIB, "c", aligned=False).fill(3, 1).fill(1022, 5)
locators = {"none": (), "short": (w2ru(".\\p.vhd"),),
            "both": (w2ru(".\\p.vhd"), w2ku("C:\\vm\\p.vhd"))}[sys.argv[1]]
child.child_of(parent, *locators, name="p.vhd")
parent.file().write("./p.vhd")
child.file().write("./child.vhd")' "$1"
	vhdtool convert -qf --to raw child.vhd wanted.raw
	vhdtool convert -qf --to raw p.vhd p.raw
	fresh 40K | dd of=p.raw bs=512 seek=777 conv=notrunc status=none
}

foreign_child_is_rebased() { # PLACE
	local long
	foreign_family "$1"
	long=$(printf 'a directory of a long name%.0s' 1 2 3 4 5 6)
	mkdir -p "$long/$long/$long"
	vhdtool convert -q --to dynamic p.raw "$long/$long/$long/q.vhd"
	expect_exit 0 vhdtool rebase --parent "$long/$long/$long/q.vhd" child.vhd
	expect_family child.vhd "$long/$long/$long/q.vhd"
	# It takes more blocks afterwards.
	fresh 3M >new
	vhdtool write -q --offset 1M child.vhd <new
	dd if=new of=wanted.raw bs=1M seek=1 conv=notrunc status=none
	expect_family child.vhd "$long/$long/$long/q.vhd"
	expect_exit 0 vhdtool rebase --parent p.vhd child.vhd
	expect_family child.vhd p.vhd
	rm -r ./*
}

test_children_of_others_are_rebased() {
	for place in none short both; do
		subtest $place foreign_child_is_rebased $place
	done
}

# ---- Refusals ----

test_loops_are_refused() {
	make_family
	vhdtool create -q --diff child.vhd leaf.vhd
	sha256sum ./*.vhd >before
	expect_exit 1 vhdtool rebase --parent child.vhd child.vhd
	expect_sentence "child.vhd: cannot be its own parent"
	ln -s child.vhd link.vhd
	expect_exit 1 vhdtool rebase --unsafe --parent link.vhd child.vhd
	expect_sentence "cannot be its own parent"
	expect_exit 1 vhdtool rebase --unsafe --parent leaf.vhd child.vhd
	expect_sentence "leaf.vhd: depends on 'child.vhd'"
	mkdir copies
	cp child.vhd a.vhd copies
	expect_exit 1 vhdtool rebase --unsafe --parent copies/child.vhd child.vhd
	expect_sentence "copies/child.vhd: has the UUID of 'child.vhd'"
	sha256sum -c --quiet before
}

test_parents_that_cannot_be_ones_are_refused() {
	make_family
	sha256sum ./*.vhd >before
	expect_exit 1 vhdtool rebase --parent a.raw child.vhd
	expect_sentence "a.raw: only a VHD can be a parent"
	expect_exit 1 vhdtool rebase --parent none.vhd child.vhd
	expect_sentence "none.vhd"
	vhdtool create -q --dynamic 20M large.vhd
	expect_exit 1 vhdtool rebase --parent large.vhd child.vhd
	expect_sentence "large.vhd: has 20971520 bytes, with which it cannot be the parent of 'child.vhd'"
	expect_exit 1 vhdtool rebase --parent a.vhd b.vhd
	expect_sentence "b.vhd: is not a differencing disk"
	expect_exit 2 vhdtool rebase child.vhd
	expect_exit 2 vhdtool rebase --verify --unsafe --parent b.vhd child.vhd
	sha256sum -c --quiet before
}

test_smaller_parent_leaves_zeros_beyond_its_end() {
	make_family
	vhdtool create -q --dynamic 5M small.vhd
	fresh 5M | vhdtool write -q small.vhd
	expect_exit 0 vhdtool rebase --parent small.vhd child.vhd
	expect_family child.vhd small.vhd
}

test_disks_in_use_and_read_only_files_are_refused() {
	make_family
	rm -f "$HVKIT_STATE/held"
	python3 -c 'import fcntl, os, struct, sys, time
fd = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(fd, 37, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 201, 1, 0))
open(sys.argv[2], "w").close()
time.sleep(60)' child.vhd "$HVKIT_STATE/held" &
	while [ ! -e "$HVKIT_STATE/held" ]; do sleep 0.05; done
	expect_exit 1 vhdtool rebase --parent b.vhd child.vhd
	expect_sentence "child.vhd: in use by another program"
	expect_exit 0 vhdtool rebase -n --parent b.vhd child.vhd
	kill %1
	wait %1 || true
	chmod 777 .
	chmod 444 ./*.vhd
	expect_exit 1 as_nobody vhdtool rebase --parent b.vhd child.vhd
	expect_sentence "child.vhd: cannot open for writing"
}

# ---- Interruptions ----

test_killed_anywhere_it_reads_the_same() {
	local n parent
	need_tool strace
	make_family
	mkdir work
	for n in 1 3 6 9 11 13 15 17 18 20; do
		cp a.vhd b.vhd child.vhd work
		strace -f -o /dev/null -e trace=pwrite64,fdatasync,ftruncate \
			-e inject=pwrite64,fdatasync,ftruncate:signal=KILL:when=$n \
			"$VHDTOOL" rebase -q --parent b.vhd work/child.vhd 2>/dev/null || true
		expect_contents work/child.vhd wanted.raw
		# Of the two footers one may be ahead.
		vhdtool check --json work/child.vhd >"$out" || true
		expect_json '[.findings[] | select(.severity == "error").code] - ["footer-differs"] == []'
		expect_exit 0 vhdtool rebase -q --parent b.vhd work/child.vhd
		expect_family work/child.vhd b.vhd
	done
}

test_full_host_leaves_the_old_parent_and_room_lets_it_go_on() {
	new_fs ext4 100M fs
	cd fs
	make_family
	mv wanted.raw a.raw b.raw "$HVKIT_STATE"
	dd if=/dev/zero of=ballast bs=64K status=none 2>/dev/null || true
	truncate -s $(($(stat -c %s ballast) - 256 * 1024)) ballast
	expect_exit 1 vhdtool rebase --parent b.vhd child.vhd
	expect_sentence "child.vhd"
	expect_contents child.vhd "$HVKIT_STATE/wanted.raw"
	rm ballast
	expect_exit 0 vhdtool rebase --parent b.vhd child.vhd
	expect_contents child.vhd "$HVKIT_STATE/wanted.raw"
	expect_equal "$(parent_uuid child.vhd)" "$(uuid b.vhd)"
	cd ..
}
