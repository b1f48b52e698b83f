#!/bin/bash
# QEMU's vpc driver: what we make it reads, what it makes and writes we read, and no one opens what
# the other one writes to. It is asked about fixed and dynamic disks only: it takes a differencing
# disk for a dynamic one.
. "${BASH_SOURCE[0]%/*}/../lib.sh"

mib=$((1 << 20))

need_qemu() {
	need_tool qemu-img qemu-io jq
}

qemu_size() {
	qemu-img info --output=json -f vpc "$1" | jq '."virtual-size"'
}

our_size() {
	vhdtool info --json "$1" | jq .size_bytes
}

# ---- What we make ----

# Sizes that CHS can express, and sizes that it cannot.
sizes() {
	echo 104448 528482304 33822351360 136899993600
	echo 512 1536 4194304 10485760 13631488 134217728 3221225472 34359738368 136365211648 \
		$((200 << 30)) $((2040 << 30))
}

size_is_exact() {
	expect_exit 0 vhdtool create --dynamic "$1" d.vhd
	expect_equal "$(qemu_size d.vhd)" "$1"
	truncate -s "$1" raw
	expect_exit 0 vhdtool convert --from raw --to fixed raw f.vhd
	expect_equal "$(qemu_size f.vhd)" "$1"
	# Since version 10 QEMU believes the size of all creators but two; before, it can be told to.
	for file in d.vhd f.vhd; do
		expect_equal "$(qemu-img info --output=json --image-opts \
			"driver=vpc,file.driver=file,file.filename=$file,force_size_calc=current_size" |
			jq '."virtual-size"')" "$1"
	done
	rm -f d.vhd f.vhd raw
}

test_size_is_exact() {
	local size
	need_qemu
	for size in $(sizes); do
		subtest "$size" size_is_exact "$size"
	done
}

test_it_reads_what_we_make() {
	local to
	need_qemu
	truncate -s $((11 * mib + 1536)) model.raw
	noise 1234567 1 | dd of=model.raw bs=64K oflag=seek_bytes seek=3000000 conv=notrunc status=none
	noise 512 2 | dd of=model.raw bs=512 seek=22530 conv=notrunc status=none
	for to in fixed dynamic "dynamic --block-size 512K" "dynamic --block-size 16M"; do
		expect_exit 0 vhdtool convert --force --to $to model.raw d.vhd
		expect_exit 0 qemu-img compare -f vpc -F raw d.vhd model.raw
		expect_exit 0 qemu-img convert -f vpc -O raw d.vhd back.raw
		expect_same_file back.raw model.raw
	done
	# A chain, made into one.
	expect_exit 0 vhdtool create --diff d.vhd c.vhd
	noise 70001 3 | vhdtool write -q --offset 5000001 c.vhd
	expect_exit 0 vhdtool convert --to dynamic c.vhd whole.vhd
	expect_exit 0 vhdtool convert c.vhd whole.raw
	expect_exit 0 qemu-img compare -f vpc -F raw whole.vhd whole.raw
	expect_exit 1 qemu-img compare -f vpc -F raw whole.vhd model.raw
	expect_equal "$(qemu_size whole.vhd)" $((11 * mib + 1536))
}

test_it_agrees_on_what_is_allocated() {
	need_qemu
	expect_exit 0 vhdtool create --dynamic 20M d.vhd
	noise 4096 | vhdtool write -q --offset 5M d.vhd
	noise 4096 | vhdtool write -q --offset 19M d.vhd
	qemu-img map -f vpc --output=json d.vhd | jq -c '.[] | select(.data) | [.start, .length]' >theirs
	printf '[%d,%d]\n' $((4 * mib)) $((2 * mib)) $((18 * mib)) $((2 * mib)) >ours
	expect_same_file theirs ours
}

# ---- What it makes ----

# reads_what_it_makes SUBFORMAT FORCE-SIZE SIZE
reads_what_it_makes() {
	local at
	expect_exit 0 qemu-img create -q -f vpc -o subformat="$1",force_size="$2" q.vhd "$3"
	expect_equal "$(our_size q.vhd)" "$(qemu_size q.vhd)"
	[ "$2" = off ] || expect_equal "$(our_size q.vhd)" "$3"
	expect_exit 0 vhdtool check q.vhd
	for at in 0 $(($3 / 2 / 512 * 512)) $(($3 - 4096)); do
		expect_exit 0 qemu-io -f vpc -c "write -P $((at % 250 + 1)) $at 4096" q.vhd
	done
	expect_exit 0 vhdtool check q.vhd
	expect_exit 0 qemu-img convert -f vpc -O raw q.vhd theirs.raw
	[ "$3" -gt $((1 << 30)) ] || expect_contents q.vhd theirs.raw
	expect_exit 0 vhdtool compare --strict q.vhd theirs.raw
	for at in 0 $(($3 / 2 / 512 * 512)) $(($3 - 4096)); do
		vhdtool read --offset $at --length 4096 q.vhd |
			cmp - <(head -c 4096 /dev/zero | tr '\0' "\\$(printf %o $((at % 250 + 1)))")
	done
	rm -f q.vhd theirs.raw
}

test_we_read_what_it_makes() {
	local subformat force size
	need_qemu
	for size in $mib $((4 * mib)) $((33 * mib + 512)) 104448 528482304; do
		for subformat in fixed dynamic; do
			for force in on off; do
				[ $subformat-$size != fixed-528482304 ] || continue
				subtest $subformat-$force-$size reads_what_it_makes $subformat $force $size
			done
		done
	done
	for size in $((127 << 30)) $((300 << 30)); do
		for force in on off; do
			subtest dynamic-$force-$size reads_what_it_makes dynamic $force $size
		done
	done
}

test_we_read_what_it_converts() {
	local options
	need_qemu
	truncate -s 12M model.raw
	noise 3M | dd of=model.raw bs=1M seek=5 conv=notrunc status=none
	for options in fixed dynamic; do
		expect_exit 0 qemu-img convert -f raw -O vpc -o subformat=$options,force_size=on model.raw q.vhd
		expect_exit 0 vhdtool check q.vhd
		expect_contents q.vhd model.raw
		expect_exit 0 vhdtool convert --to dynamic q.vhd d.vhd
		expect_exit 0 qemu-img compare -f vpc -F vpc q.vhd d.vhd
		rm d.vhd
	done
}

# ---- Writing to each other's disks ----

# It takes a new block to begin right behind the last one, and everything in it to be zero. But in the
# layout of Windows 8 the footer lies seven sectors further: it shows through, once, as the seventh
# sector of the first block that QEMU adds, in disks of Windows as in ours.
expect_contents_but_old_footer() {
	local rc=0
	expect_exit 0 qemu-img convert -f vpc -O raw d.vhd theirs.raw
	expect_contents d.vhd theirs.raw
	vhdtool compare --json d.vhd model.raw >differences || rc=$?
	[ $rc = 1 ] || return 0
	expect_equal "$(jq .differing_sectors differences)" 1
	footer=$(jq .first_difference differences)
	expect_equal $((footer % (2 * mib))) 3072
	expect_equal "$(vhdtool read --offset "$footer" --length 8 d.vhd)" conectix
	vhdtool read --offset "$footer" --length 512 d.vhd |
		dd of=model.raw bs=512 seek=$((footer / 512)) conv=notrunc status=none
}

test_it_writes_into_our_disk() {
	local commands=() seed at length footer=
	need_qemu
	truncate -s 20M model.raw
	expect_exit 0 vhdtool create --dynamic 20M d.vhd
	noise 100000 | vhdtool write -q --offset 3000000 d.vhd
	noise 100000 | dd of=model.raw bs=64K oflag=seek_bytes seek=3000000 conv=notrunc status=none
	for seed in {1..20}; do
		at=$((seed * 7919 * 512 % (19 * mib))) length=$((seed * 3 * 512))
		commands+=(-c "write -P $seed $at $length")
	done
	expect_exit 0 qemu-io -f vpc "${commands[@]}" d.vhd
	expect_exit 0 qemu-io -f raw "${commands[@]}" model.raw
	expect_exit 0 vhdtool check d.vhd
	expect_contents_but_old_footer
	# And we go on where it stopped.
	noise 5M 9 | tee piece | vhdtool write -q --offset 9000001 d.vhd
	dd if=piece of=model.raw bs=64K oflag=seek_bytes seek=9000001 conv=notrunc status=none
	expect_exit 0 vhdtool check d.vhd
	expect_contents d.vhd model.raw
	expect_exit 0 qemu-img compare -f vpc -F raw d.vhd model.raw
}

test_we_write_into_its_disk() {
	need_qemu
	truncate -s 20M model.raw
	expect_exit 0 qemu-img create -q -f vpc -o force_size=on q.vhd 20M
	expect_exit 0 qemu-io -f vpc -c 'write -P 7 5M 100k' q.vhd
	expect_exit 0 qemu-io -f raw -c 'write -P 7 5M 100k' model.raw
	noise 3M | tee piece | vhdtool write -q --offset 5200000 q.vhd
	dd if=piece of=model.raw bs=64K oflag=seek_bytes seek=5200000 conv=notrunc status=none
	expect_exit 0 vhdtool check q.vhd
	expect_contents q.vhd model.raw
	expect_exit 0 qemu-img compare -f vpc -F raw q.vhd model.raw
}

# ---- Locks ----

# Opens FILE in qemu-io until its standard input, descriptor 9, is closed.
open_in_qemu() {
	mkfifo "$HVKIT_STATE/commands"
	qemu-io -f vpc "${@:2}" "$1" <"$HVKIT_STATE/commands" >"$HVKIT_STATE/said" 2>&1 &
	exec 9>"$HVKIT_STATE/commands"
	until grep -q 'qemu-io>' "$HVKIT_STATE/said"; do
		[ -e /proc/$! ] || fail "$(cat "$HVKIT_STATE/said")"
		sleep 0.05
	done
}

test_what_it_writes_to_is_left_alone() {
	need_qemu
	noise 1M >model.raw
	expect_exit 0 vhdtool convert --to dynamic model.raw d.vhd
	expect_exit 0 vhdtool create --diff d.vhd child.vhd
	sha256sum d.vhd >before
	open_in_qemu d.vhd
	expect_exit 1 sh -c "echo x | '$VHDTOOL' write d.vhd"
	expect_sentence d.vhd "in use"
	expect_exit 1 vhdtool hash d.vhd
	expect_sentence d.vhd "open for writing"
	expect_exit 1 vhdtool hash child.vhd
	expect_sentence d.vhd "open for writing"
	expect_exit 1 vhdtool convert --force --to dynamic model.raw d.vhd
	expect_sentence d.vhd "in use"
	expect_exit 1 vhdtool create --force --dynamic 1M d.vhd
	expect_sentence d.vhd "in use"
	expect_exit 1 vhdtool create --force --fixed 1M d.vhd
	expect_sentence d.vhd "in use"
	expect_exit 0 vhdtool info d.vhd --force-share
	expect_exit 0 vhdtool hash -U d.vhd
	exec 9>&-
	wait
	expect_exit 0 sha256sum -c before
	expect_exit 0 sh -c "echo x | '$VHDTOOL' write d.vhd"
}

test_what_it_reads_is_not_written_to() {
	need_qemu
	noise 1M >model.raw
	expect_exit 0 vhdtool convert --to dynamic model.raw d.vhd
	open_in_qemu d.vhd -r
	expect_exit 1 sh -c "echo x | '$VHDTOOL' write d.vhd"
	expect_sentence d.vhd "in use"
	expect_exit 1 vhdtool create --force --dynamic 1M d.vhd
	expect_sentence d.vhd "in use"
	expect_contents d.vhd model.raw
	exec 9>&-
	wait
}

# expect_locked COMMAND...: QEMU refuses.
expect_locked() {
	expect_exit 1 "$@"
	grep -q 'Failed to get.*lock' "$err" || fail "refused for another reason: $(cat "$err")"
}

test_it_leaves_alone_what_we_write_to() {
	local writer
	need_qemu
	noise 1M >model.raw
	expect_exit 0 vhdtool convert --to dynamic model.raw d.vhd
	mkfifo "$HVKIT_STATE/bytes"
	vhdtool write -q d.vhd <"$HVKIT_STATE/bytes" &
	writer=$!
	exec 9>"$HVKIT_STATE/bytes"
	until grep -q "OFDLCK .*:$(stat -c %i d.vhd) 203 203" /proc/locks; do
		[ -e /proc/$writer ] || fail "the writer has ended"
		sleep 0.05
	done
	expect_locked qemu-img info -f vpc d.vhd
	expect_locked qemu-io -f vpc -c 'write 0 512' d.vhd
	expect_locked qemu-io -r -f vpc -c 'read 0 512' d.vhd
	expect_locked qemu-img convert -f raw -O raw -n model.raw d.vhd
	expect_exit 0 qemu-img info -U -f vpc d.vhd
	exec 9>&-
	wait $writer
	expect_exit 0 qemu-io -f vpc -c 'write 0 512' d.vhd
}

test_it_does_not_write_to_what_we_read() {
	local reader
	need_qemu
	noise 8M >model.raw
	expect_exit 0 vhdtool convert --to dynamic model.raw d.vhd
	expect_exit 0 vhdtool create --diff d.vhd child.vhd
	mkfifo "$HVKIT_STATE/bytes"
	vhdtool read child.vhd >"$HVKIT_STATE/bytes" &
	reader=$!
	exec 9<"$HVKIT_STATE/bytes"
	head -c 1 <&9 >/dev/null # it is open, and the pipe is too small for all of it
	expect_locked qemu-io -f vpc -c 'write 0 512' d.vhd
	expect_exit 0 qemu-io -r -f vpc -c 'read 0 512' d.vhd
	expect_exit 0 qemu-img info -f vpc d.vhd
	exec 9<&-
	! wait $reader
	expect_exit 0 qemu-io -f vpc -c 'write 0 512' d.vhd
}
