#!/bin/bash
# vhdtool merge: the target reads as the child did, the child reads as ever, however often and wherever
# it is interrupted, and nobody else's disk is harmed.
. "${BASH_SOURCE[0]%/*}/../lib.sh"

M=$((1 << 20))

fresh() { # BYTES
	head -c "$1" /dev/urandom
}

# A chain of base.vhd, 1.vhd, 2.vhd ... N.vhd of 24 MiB, each with some data and some zeros of its own;
# wanted.raw is what N.vhd reads.
make_chain() { # N [TYPE]
	local i parent=base.vhd
	fresh 20M >raw
	truncate -s 24M raw
	vhdtool convert -q --to "${2-dynamic}" raw base.vhd
	rm raw
	for ((i = 1; i <= $1; i++)); do
		vhdtool create -q --diff $parent "$i.vhd"
		fresh 3000K | vhdtool write -q --offset $((i * 2 * M - 7680)) "$i.vhd"
		head -c 700K /dev/zero | vhdtool write -q --offset $((i * M + 512)) "$i.vhd"
		parent=$i.vhd
	done
	vhdtool convert -q --to raw $parent wanted.raw
}

expect_sound() {
	local file
	for file; do
		expect_exit 0 vhdtool check -q "$file"
	done
}

# Holds the lock of a program that has FILE open: for writing, or with "r" for reading.
open_elsewhere() { # FILE [r]
	rm -f "$HVKIT_STATE/held"
	python3 -c 'import fcntl, os, struct, sys, time
fd = os.open(sys.argv[1], os.O_RDWR)
for byte in (100, 201) if sys.argv[3] == "r" else (101,):
    fcntl.fcntl(fd, 37, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, byte, 1, 0))
open(sys.argv[2], "w").close()
time.sleep(60)' "$1" "$HVKIT_STATE/held" "${2-w}" &
	holder=$!
	while [ ! -e "$HVKIT_STATE/held" ]; do sleep 0.05; done
}

# ---- What it does ----

merges() { # TYPE LAYERS LEVELS [OPTION]
	local into=base.vhd
	make_chain "$2" "$1"
	[ "$3" = "$2" ] || into=$(($2 - $3)).vhd
	expect_exit 0 vhdtool merge ${4-} --into "$into" "$2.vhd"
	expect_out "merged into"
	expect_contents "$into" wanted.raw
	expect_contents "$2.vhd" wanted.raw
	expect_sound ./*.vhd
	expect_no_file ./*.hvmerge
	rm ./*
}

test_any_number_of_levels_in_one_pass() {
	subtest parent merges dynamic 1 1
	subtest fixed merges fixed 2 2
	subtest three-levels merges dynamic 3 3
	subtest two-upper-levels merges dynamic 4 2
	subtest one-upper-level merges dynamic 3 1
	subtest direct merges dynamic 2 2 --direct
}

test_parent_is_the_default_and_others_read_it() {
	need_tool qemu-img
	make_chain 1
	expect_exit 0 vhdtool merge 1.vhd
	qemu-img convert -f vpc -O raw base.vhd base.raw
	expect_same_file base.raw wanted.raw
}

test_dry_run_tells_all_and_changes_nothing() {
	make_chain 2
	sha256sum ./*.vhd >before
	expect_exit 0 vhdtool merge -n --into base.vhd --json 2.vhd
	expect_json '.dry_run and (.layers | length) == 2 and .merged_bytes == .size_bytes and
		([.layers[].copied_bytes] | add) == .copied_bytes and .layers[1].copied_bytes > 0 and
		.harmed == [] and .layers[0].deleted == false'
	cp "$out" dry.json
	sha256sum -c --quiet before
	expect_only . 1.vhd 2.vhd base.vhd before dry.json wanted.raw
	expect_exit 0 vhdtool merge --into base.vhd --json 2.vhd
	expect_json "del(.seconds, .dry_run, .into) == $(jq -c 'del(.seconds, .dry_run, .into)' dry.json)"
	expect_exit 0 vhdtool merge -n --into base.vhd --delete 2.vhd
	expect_out "can be merged" "would be deleted"
	expect_exit 0 vhdtool merge -nq 2.vhd
	[ ! -s "$out" ] || fail "something was printed"
}

test_zeros_in_the_child_free_blocks_of_the_target() {
	make_chain 1
	vhdtool wipe -q --force 1.vhd
	expect_exit 0 vhdtool merge 1.vhd
	expect_exit 0 vhdtool info --json base.vhd
	truncate -s 0 zeros
	truncate -s 24M zeros
	expect_contents base.vhd zeros
	expect_contents 1.vhd zeros
}

test_smaller_target_grows() {
	make_chain 2
	vhdtool resize -q 2.vhd 40M
	fresh 1M | vhdtool write -q --offset 39M 2.vhd
	vhdtool convert -q --to raw 2.vhd bigger.raw
	expect_exit 0 vhdtool merge --into base.vhd 2.vhd
	expect_out "grew up to 40 MiB"
	expect_contents base.vhd bigger.raw
	expect_contents 2.vhd bigger.raw
	expect_sound base.vhd 1.vhd 2.vhd
}

test_larger_target_must_end_in_zeros() {
	make_chain 1
	vhdtool resize -q 1.vhd 20M 2>/dev/null || vhdtool resize -qf 1.vhd 20M
	expect_exit 0 vhdtool merge 1.vhd
	vhdtool read --length 20M base.vhd >base.raw
	truncate -s 20M wanted.raw
	expect_same_file base.raw wanted.raw
	fresh 512 | vhdtool write -q --offset 23M base.vhd
	expect_exit 1 vhdtool merge 1.vhd
	expect_sentence "/base.vhd: is larger than '1.vhd'" "data beyond its end at $((20 * M))"
}

# ---- Deleting ----

test_delete_leaves_the_target_alone() {
	make_chain 3
	expect_exit 0 vhdtool merge --into base.vhd --delete --json 3.vhd
	expect_json '[.layers[].deleted] == [true, true, true]'
	expect_only . base.vhd wanted.raw
	expect_contents base.vhd wanted.raw
}

test_deleted_files_are_overwritten_on_request() {
	make_chain 2
	ln 2.vhd "$HVKIT_STATE/2"
	ln 1.vhd "$HVKIT_STATE/1"
	expect_exit 0 vhdtool merge --into base.vhd --delete --secure-zero 2.vhd
	expect_only . base.vhd wanted.raw
	expect_contents base.vhd wanted.raw
	for file in 1 2; do
		[ -s "$HVKIT_STATE/$file" ] || fail "$file is empty"
		cmp -n "$(stat -c %s "$HVKIT_STATE/$file")" "$HVKIT_STATE/$file" /dev/zero
	done
}

test_nothing_is_deleted_that_somebody_uses() {
	make_chain 2
	open_elsewhere 1.vhd r
	expect_exit 1 vhdtool merge --into base.vhd --delete 2.vhd
	expect_sentence "everything is merged, but nothing was deleted" "1.vhd" "in use"
	expect_contents 2.vhd wanted.raw
	kill $holder
	wait $holder || true
	# The next run has nothing to copy any more.
	expect_exit 0 vhdtool merge --into base.vhd --delete --json 2.vhd
	expect_json '.copied_bytes == 0 and .resumed_bytes == .size_bytes'
	expect_only . base.vhd wanted.raw
	expect_contents base.vhd wanted.raw
}

# Whatever system call of the deletion is the last: the child reads as ever, or is gone.
test_killed_while_it_deletes_the_child_is_right_or_gone() {
	local n
	need_tool strace
	make_chain 3
	mkdir chain
	mv ./*.vhd "$HVKIT_STATE"
	for n in 1 2 3 4; do
		cp "$HVKIT_STATE"/*.vhd chain
		cd chain
		strace -f -o /dev/null -e trace=unlink -e inject=unlink:signal=KILL:when=$n \
			"$VHDTOOL" merge -q --into base.vhd --delete 3.vhd || true
		expect_contents base.vhd ../wanted.raw
		# The lowest layer goes first; then the one above does not open any more.
		[ -e 1.vhd ] || [ ! -e 2.vhd ] || expect_exit 1 vhdtool hash 2.vhd
		[ -e 3.vhd ] || expect_no_file 1.vhd 2.vhd
		if [ -e 3.vhd ]; then
			expect_contents 3.vhd ../wanted.raw
			expect_exit 0 vhdtool merge -q --into base.vhd --delete 3.vhd
			expect_contents base.vhd ../wanted.raw
			expect_only . base.vhd
		fi
		echo "$n: $(ls)"
		rm ./*
		cd ..
	done
}

# ---- Other disks ----

test_sibling_is_named_and_nothing_is_merged() {
	make_chain 2
	sha256sum ./*.vhd >before
	vhdtool create -q --diff base.vhd sibling.vhd
	expect_exit 1 vhdtool merge --into base.vhd 2.vhd
	expect_sentence "sibling.vhd: is a child of" "/base.vhd'" --force
	expect_exit 1 vhdtool merge -n --json --into base.vhd 2.vhd
	expect_json '.harmed | length == 1 and (.[0].file | endswith("/sibling.vhd")) and
		(.[0].child_of | endswith("/base.vhd"))'
	sha256sum -c --quiet before
	# Into the layer above it harms nobody.
	expect_exit 0 vhdtool merge 2.vhd
	rm sibling.vhd
	# A child of a layer between is harmed as well.
	vhdtool create -q --diff 1.vhd between.vhd
	expect_exit 1 vhdtool merge --into base.vhd 2.vhd
	expect_sentence "between.vhd: is a child of" "/1.vhd'"
	expect_exit 0 vhdtool merge --force --into base.vhd 2.vhd
	expect_out "between.vhd: depends on what changes"
	expect_contents base.vhd wanted.raw
}

test_siblings_elsewhere_are_looked_for_where_one_is_told() {
	make_chain 1
	mkdir a b c "b/dir, with comma"
	vhdtool create -q --diff base.vhd "b/dir, with comma/x"
	expect_exit 1 vhdtool merge -n --siblings-in a --siblings-in "b/dir, with comma" 1.vhd
	expect_sentence "b/dir, with comma/x: is a child of"
	expect_exit 0 vhdtool merge -n --siblings-in a --siblings-in b 1.vhd
	expect_exit 1 vhdtool merge --siblings-in none 1.vhd
	expect_sentence "none"
	# Beside each layer they are found by themselves.
	mv 1.vhd c
	expect_exit 0 vhdtool merge -n c/1.vhd
	vhdtool create -q --diff base.vhd c/2.vhd
	expect_exit 1 vhdtool merge -n c/1.vhd
	expect_sentence "c/2.vhd: is a child of"
}

test_children_of_the_child_matter_when_it_is_deleted() {
	make_chain 2
	expect_exit 1 vhdtool merge --delete 1.vhd
	expect_sentence "2.vhd: is a child of '1.vhd', which would be deleted"
	expect_exit 0 vhdtool merge 1.vhd
	expect_contents 2.vhd wanted.raw
}

test_what_cannot_be_looked_into_may_be_a_sibling() {
	make_chain 1
	chmod 777 .
	chmod 666 ./*.vhd
	install -m 0 /dev/null secret.vhd
	install -m 0 /dev/null secret.txt
	mkfifo fifo.vhd
	expect_exit 1 as_nobody vhdtool merge 1.vhd
	expect_sentence "secret.vhd: cannot be looked into" --force
	expect_exit 0 as_nobody vhdtool merge --force 1.vhd
	expect_contents base.vhd wanted.raw
}

# ---- Interruptions ----

# A chain that takes a while: two layers of 64 MiB over a base, 2M blocks in random order.
make_large_chain() {
	vhdtool create -q --dynamic 200M base.vhd
	vhdtool create -q --diff base.vhd 1.vhd
	fresh 64M | vhdtool write -q --offset 3M 1.vhd
	vhdtool create -q --diff 1.vhd 2.vhd
	fresh 64M | vhdtool write -q --offset 50M 2.vhd
	head -c 3M /dev/zero | vhdtool write -q --offset 10M 2.vhd
	wanted=$(vhdtool hash 2.vhd)
}

test_killed_again_and_again_it_comes_to_an_end() {
	local n=0 delay
	make_large_chain
	for n in 1 2 3 4 5 6; do
		timeout --foreground -s KILL "0.$((3 * n + 10))" \
			"$VHDTOOL" merge -q --into base.vhd 2.vhd || true
		expect_equal "$(vhdtool hash 2.vhd)" "$wanted" "after kill $n"
		expect_exit 0 vhdtool check -q 2.vhd
	done
	expect_exit 0 vhdtool merge -q --into base.vhd 2.vhd
	expect_equal "$(vhdtool hash base.vhd | awk '{ print $1 }')" "${wanted%% *}"
	expect_equal "$(vhdtool hash 2.vhd)" "$wanted"
	expect_no_file base.vhd.hvmerge
	# A kill may leave slack before the footer, a leak.
	vhdtool check base.vhd || expect_equal $? 4
}

# Sends the signal when some of it is merged; each write takes a while meanwhile.
interrupt_merge() { # SIGNAL
	local before rc=0 tracer
	before=$(stat -c %b base.vhd)
	strace -f -o /dev/null -e trace=pwrite64,pwritev,io_submit,pwritev2 \
		-e inject=pwrite64,pwritev,io_submit,pwritev2:delay_enter=100000 \
		"$VHDTOOL" merge --into base.vhd 2.vhd >"$out" 2>"$err" &
	tracer=$!
	while [ "$(stat -c %b base.vhd)" -lt $((before + 60000)) ]; do
		kill -0 $tracer || fail "the merge came to an end: $(cat "$err")"
		sleep 0.1
	done
	pkill -"$1" -P $tracer
	wait $tracer || rc=$?
	return $rc
}

test_interrupted_it_goes_on_where_it_was() {
	local rc=0 all
	need_tool strace
	make_large_chain
	all=$(vhdtool merge -n --json --into base.vhd 2.vhd | jq .copied_bytes)
	interrupt_merge INT || rc=$?
	expect_equal $rc 1
	expect_sentence "2.vhd: interrupted after" "the same command goes on there"
	expect_file base.vhd.hvmerge
	expect_equal "$(vhdtool hash 2.vhd)" "$wanted"
	expect_exit 0 vhdtool merge --json --into base.vhd 2.vhd
	expect_json '.resumed_bytes > 0 and .resumed_bytes < .size_bytes and .restarted == null and
		.copied_bytes < '"$all - 10000000"
	expect_equal "$(vhdtool hash base.vhd | awk '{ print $1 }')" "${wanted%% *}"
	expect_no_file base.vhd.hvmerge
}

test_what_was_changed_meanwhile_is_merged_from_the_beginning() {
	need_tool strace
	make_large_chain
	interrupt_merge TERM || true
	fresh 1M | vhdtool write -q --offset 4M 2.vhd
	wanted=$(vhdtool hash 2.vhd)
	expect_exit 0 vhdtool merge --json --into base.vhd 2.vhd
	expect_json '.resumed_bytes == 0 and (.restarted | contains("changed"))'
	expect_equal "$(vhdtool hash base.vhd | awk '{ print $1 }')" "${wanted%% *}"
}

test_unfinished_merge_of_another_disk_is_not_forgotten() {
	need_tool strace
	make_large_chain
	mkdir else
	vhdtool create -q --diff base.vhd else/other.vhd
	fresh 1M | vhdtool write -q else/other.vhd
	interrupt_merge INT || true
	mv 1.vhd 2.vhd "$HVKIT_STATE"
	expect_exit 1 vhdtool merge else/other.vhd
	expect_sentence "base.vhd: a merge of another disk into it was not finished" "hvmerge" --force
	expect_exit 0 vhdtool merge --force else/other.vhd
	expect_out "began again: it was of another disk"
}

test_damaged_progress_is_no_progress() {
	need_tool strace
	make_large_chain
	interrupt_merge INT || true
	put base.vhd.hvmerge 40 '\x01'
	expect_exit 0 vhdtool merge --json --into base.vhd 2.vhd
	expect_json '.resumed_bytes == 0 and (.restarted | contains("damaged"))'
	expect_equal "$(vhdtool hash base.vhd | awk '{ print $1 }')" "${wanted%% *}"
}

test_files_in_the_way_are_left_alone() {
	make_chain 1
	echo "my own notes" >base.vhd.hvmerge
	expect_exit 1 vhdtool merge 1.vhd
	expect_sentence "base.vhd.hvmerge: is in the way"
	expect_equal "$(cat base.vhd.hvmerge)" "my own notes"
	rm base.vhd.hvmerge
	mkdir base.vhd.hvmerge
	expect_exit 1 vhdtool merge 1.vhd
	expect_sentence "base.vhd.hvmerge: is in the way"
}

# ---- Hosts and disks that are not as they should be ----

test_full_host_stops_it_and_room_lets_it_go_on() {
	new_fs ext4 80M fs
	cd fs
	vhdtool create -q --dynamic 24M base.vhd
	vhdtool create -q --diff base.vhd 1.vhd
	vhdtool create -q --diff 1.vhd 2.vhd
	fresh 20M | vhdtool write -q --offset 1M 2.vhd
	vhdtool convert -q --to raw 2.vhd "$HVKIT_STATE/wanted.raw"
	dd if=/dev/zero of=ballast bs=64K status=none 2>/dev/null || true
	truncate -s $(($(stat -c %s ballast) - 3 * M)) ballast
	expect_exit 1 vhdtool merge --into base.vhd 2.vhd
	expect_contents 2.vhd "$HVKIT_STATE/wanted.raw"
	rm ballast
	expect_exit 0 vhdtool merge --into base.vhd 2.vhd
	expect_contents base.vhd "$HVKIT_STATE/wanted.raw"
	expect_sound base.vhd
	cd ..
}

test_disks_in_use_are_not_merged() {
	make_chain 2
	open_elsewhere base.vhd r
	expect_exit 1 vhdtool merge --into base.vhd 2.vhd
	expect_sentence "/base.vhd: in use"
	kill $holder
	open_elsewhere 1.vhd w
	expect_exit 1 vhdtool merge --into base.vhd 2.vhd
	expect_sentence "/1.vhd: open for writing in another program"
	kill $holder
}

test_read_only_files_are_said() {
	make_chain 1
	chmod 777 .
	chmod 444 base.vhd
	expect_exit 1 as_nobody vhdtool merge 1.vhd
	expect_sentence "/base.vhd: cannot open for writing"
	chmod 666 base.vhd
	chmod 444 1.vhd
	expect_exit 1 as_nobody vhdtool merge --delete 1.vhd
	expect_sentence "nothing was deleted" "1.vhd: cannot open for writing"
	expect_exit 0 as_nobody vhdtool merge 1.vhd
}

test_mistakes_are_told() {
	make_chain 2
	expect_exit 1 vhdtool merge base.vhd
	expect_sentence "base.vhd: is not a differencing disk"
	expect_exit 1 vhdtool merge --into 2.vhd 2.vhd
	expect_sentence "2.vhd: cannot be merged into itself"
	expect_exit 1 vhdtool merge --into 2.vhd 1.vhd
	expect_sentence "2.vhd: is no ancestor of '1.vhd'"
	expect_exit 1 vhdtool merge --into none.vhd 1.vhd
	expect_sentence "none.vhd"
	expect_exit 1 vhdtool merge none.vhd
	expect_sentence "none.vhd"
	expect_exit 2 vhdtool merge
	rm base.vhd
	expect_exit 1 vhdtool merge 2.vhd
	expect_sentence "/1.vhd: its parent 'base.vhd' was not found"
}

test_loops_are_refused() {
	need_tool python3
	PYTHONPATH=$HVKIT_ROOT/fixtures/gen python3 -B -c '
from vhdimage import DIFFERENCING, MIB, Vhd, w2ru
disks = [Vhd(DIFFERENCING, MIB, name).fill(5, 5) for name in "ab"]
for i, disk in enumerate(disks):
    above = "ba"[i] + ".vhd"
    disk.child_of(disks[1 - i], w2ru(".\\" + above), name=above)
    disk.file().write("./" + "ab"[i] + ".vhd")'
	expect_exit 1 vhdtool merge a.vhd
	expect_sentence "loop"
	expect_exit 1 vhdtool merge --into b.vhd a.vhd
	expect_sentence "loop"
}
