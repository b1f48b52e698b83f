#!/bin/bash
# vhdtool bench: what it writes is there, what it measures adds up, and it finds what a disk gives
# back wrong.
. "${BASH_SOURCE[0]%/*}/../lib.sh"

# A disk of 8 MiB, or a chain with one, ready to be written; raw ones want --from raw.
make_disk() { # KIND FILE
	case $1 in
	raw) truncate -s 8M "$2" ;;
	fixed) vhdtool create -q --fixed 8M --secure-zero "$2" ;;
	dynamic) vhdtool create -q --dynamic 8M --block-size 512K "$2" ;;
	chain)
		noise 8M >"$HVKIT_STATE/base"
		vhdtool convert -q --to dynamic "$HVKIT_STATE/base" "$2.base.vhd"
		vhdtool create -q --diff "$2.base.vhd" "$2.middle.vhd"
		vhdtool bench -q --write --force -n 100 --seed 5 "$2.middle.vhd"
		vhdtool create -q --diff "$2.middle.vhd" "$2"
		;;
	esac
}

format_of() {
	[ "$1" != raw ] || echo --from raw
}

# Without reads, the contents follow from the seed.
written_and_verified() { # KIND OPTION...
	local kind=$1
	shift
	make_disk "$kind" disk
	cp disk before
	expect_exit 0 vhdtool bench --write --force --verify $(format_of "$kind") --json "$@" disk
	expect_json '.errors == 0 and .mismatches == 0 and .verified_blocks > 0 and .read == null
		and .write.requests == .requests and .error == null'
	! cmp -s disk before || fail "nothing was written"
	[ "$kind" = raw ] || expect_exit 0 vhdtool check --no-data disk
	rm -f disk*
}

test_what_is_written_is_there() {
	local kind
	need_tool jq
	for kind in raw fixed dynamic chain; do
		subtest "$kind" written_and_verified $kind -n 2000
		subtest "$kind direct" written_and_verified $kind -n 2000 --direct --flush-every 100
		subtest "$kind mixed sizes" written_and_verified $kind -n 300 -s 12800 --direct
		subtest "$kind large" written_and_verified $kind -n 50 -s 1M -d 4 --pattern sequential
	done
}

test_same_seed_writes_the_same_into_every_kind_of_disk() {
	local kind options want have
	for options in --write "--write --verify" "--mix 50" "--mix 50 --verify"; do
		want=
		for kind in raw fixed dynamic; do
			make_disk $kind disk
			expect_exit 0 vhdtool bench --force --direct $options $(format_of $kind) -n 1500 -s 8K \
				--seed 42 disk
			have=$(vhdtool hash $(format_of $kind) disk | awk '{ print $1 }')
			expect_equal "$have" "${want:=$have}" "$kind with $options"
			rm disk
		done
	done
}

written_blocks() { # FILE: which blocks of 4 KiB are not zero
	python3 -c 'import sys
data = open(sys.argv[1], "rb").read()
print(*[i for i in range(len(data) // 4096) if any(data[i * 4096:i * 4096 + 4096])])' "$1"
}

test_another_seed_writes_something_else_and_elsewhere() {
	make_disk raw a
	make_disk raw b
	vhdtool bench -q --from raw --write --force -n 100 --seed 1 a
	vhdtool bench -q --from raw --write --force -n 100 --seed 2 b
	[ "$(written_blocks a)" != "$(written_blocks b)" ] || fail "in the same places"
	vhdtool bench -q --from raw --write --force --pattern sequential --bytes 8M --seed 1 a
	vhdtool bench -q --from raw --write --force --pattern sequential --bytes 8M --seed 2 b
	! cmp -s a b || fail "the same data"
}

test_random_requests_go_everywhere() {
	make_disk raw disk
	vhdtool bench -q --from raw --write --force -n 20000 disk
	[ "$(written_blocks disk | wc -w)" -ge 2040 ] || fail "blocks were left out: $(written_blocks disk)"
}

test_reads_are_verified_while_it_runs() {
	need_tool jq
	make_disk fixed disk
	expect_exit 0 vhdtool bench --mix 50 --force --verify -n 2000 --length 64K --json disk
	expect_json '.verified_blocks >= .read.requests - 100 + 16 and .verified_blocks <= .read.requests + 16'
}

test_sequential_writes_cover_the_range_and_nothing_else() {
	head -c 8M /dev/zero | tr '\0' x >disk
	cp disk before
	expect_exit 0 vhdtool bench --from raw --write --force --pattern sequential -s 4K \
		--offset 1M --length 64K --bytes 64K --verify disk
	cmp -n $((1 << 20)) disk before || fail "written before the range"
	cmp -i $(((1 << 20) + 65536)) disk before || fail "written behind the range"
	expect_equal "$(tail -c +$(((1 << 20) + 1)) disk | head -c 64K | tr -d -c x | wc -c | awk '{ print ($1 < 1000) }')" 1
	# What does not fill a request at the end of the range stays.
	cp before disk
	expect_exit 0 vhdtool bench --from raw --write --force --pattern sequential -s 4K \
		--offset 512 --length 10000 -n 50 --verify disk
	cmp -n 512 disk before || fail "written before the range"
	cmp -i $((512 + 8192)) disk before || fail "written behind the last whole request"
}

test_step_goes_round_the_range() {
	truncate -s 64K disk
	# Of 16 blocks with a step of 5, the first 8: 0 5 10 15 4 9 14 3.
	expect_exit 0 vhdtool bench --from raw --write --force --step 20K -s 4K -n 8 -d 1 --json disk
	expect_json '.pattern == "sequential" and .step_bytes == 20480'
	expect_equal "$(written_blocks disk)" "0 3 4 5 9 10 14 15"
}

test_a_run_may_be_cut_into_two() {
	local pattern
	for pattern in "--pattern random" "--pattern random --mix 30" "--pattern sequential" "--step 12K"; do
		truncate -s 1M whole parts
		[[ $pattern == *mix* ]] || pattern+=" --write"
		vhdtool bench -q --from raw $pattern --force -n 100 -d 4 --seed 8 whole
		vhdtool bench -q --from raw $pattern --force -n 60 -d 4 --seed 8 parts
		vhdtool bench -q --from raw $pattern --force -n 40 -d 4 --seed 8 --skip 60 parts
		expect_equal "$(written_blocks parts)" "$(written_blocks whole)" "$pattern"
		expect_equal "$(written_blocks whole | awk '{ print (NF > 20) }')" 1
		expect_same_file whole parts
		rm whole parts
	done
}

test_reading_changes_nothing() {
	make_disk chain disk
	cat disk* | sha256sum >before
	expect_exit 0 vhdtool bench -n 3000 disk
	expect_exit 0 vhdtool bench -n 3000 --direct --pattern sequential disk
	cat disk* | sha256sum >after
	expect_same_file before after
}

test_a_parent_is_found_where_the_user_says() {
	make_disk chain disk
	mv disk.middle.vhd elsewhere.vhd
	expect_exit 1 vhdtool bench -n 10 disk
	expect_sentence disk.middle.vhd
	expect_exit 0 vhdtool bench -n 10 --parent elsewhere.vhd disk
	expect_exit 0 vhdtool bench -n 10 --write --force --verify --parent elsewhere.vhd disk
}

# What was written by one run can be looked at by another.
planted() { # SENTENCE-PART DAMAGE...
	local words=$1
	shift
	make_disk raw disk
	vhdtool bench -q --from raw --write --force --verify --pattern sequential --bytes 8M \
		--seed 9 disk
	cp disk "$HVKIT_STATE/sound"
	expect_exit 0 vhdtool bench --from raw --verify --pattern sequential --bytes 8M --seed 9 disk
	"$@"
	expect_exit 1 vhdtool bench --from raw --verify --pattern sequential --bytes 8M --seed 9 \
		--json disk
	expect_sentence disk "$words"
	expect_json '.mismatches == 1 and .errors == 1 and (.error | length > 0)'
	expect_exit 1 vhdtool bench -q --from raw --verify --pattern sequential --bytes 8M --seed 9 disk
	expect_equal "$(wc -c <"$out")" 0
	rm disk
}

copy_sector() { # FROM TO: bytes
	dd if="$HVKIT_STATE/sound" of=disk bs=512 count=1 skip=$(($1 / 512)) seek=$(($2 / 512)) \
		conv=notrunc status=none
}

flip_a_bit() {
	put disk 1234567 "$(printf '\\x%02x' $(($(od -An -tu1 -j1234567 -N1 disk) ^ 4)))"
}

write_again() {
	# The same place a second time; then one sector of the first.
	vhdtool bench -q --from raw --write --force --verify --pattern sequential -n 2 -d 1 \
		--offset 32K --length 4K --seed 9 disk
	copy_sector 34304 34304
}

test_planted_damage_is_found_and_named() {
	need_tool jq
	subtest "a flipped bit" planted "damaged sector at 1234432" flip_a_bit
	subtest "a sector of another place" \
		planted "misplaced sector at 8192: it holds what was written at 102400" \
		copy_sector 102400 8192
	subtest "half a write" planted "torn write: the sector at 34304 holds write" write_again
	subtest "zeros" planted "foreign sector at 4194304" \
		dd if=/dev/zero of=disk bs=512 count=1 seek=8192 conv=notrunc status=none
}

test_another_seed_finds_nothing_of_its_own() {
	make_disk raw disk
	vhdtool bench -q --from raw --write --force --verify --pattern sequential --bytes 8M \
		--seed 9 disk
	expect_exit 1 vhdtool bench --from raw --verify -n 100 --seed 10 --json disk
	expect_json '.mismatches == 100'
	expect_sentence foreign "seed 10"
}

# While it runs, somebody else puts back what the disk held at first.
test_stale_data_is_found_while_it_runs() {
	local old
	need_tool jq
	truncate -s 256K disk
	vhdtool bench -q --from raw --write --force --verify --pattern sequential --bytes 256K \
		--seed 3 disk
	cp disk "$HVKIT_STATE/old"
	while :; do
		dd if="$HVKIT_STATE/old" of=disk bs=4K conv=notrunc status=none
	done &
	old=$!
	expect_exit 1 vhdtool bench --from raw --mix 50 --force --verify -t 20 -d 4 --seed 3 --json disk
	kill $old
	wait $old 2>/dev/null || :
	expect_json '.mismatches > 0'
	grep -qE 'stale|torn' "$err" || fail "$(cat "$err")"
}

test_the_figures_add_up() {
	need_tool jq
	make_disk dynamic disk
	expect_exit 0 vhdtool bench --force --mix 70 -n 5000 --flush-every 500 -d 8 --json disk
	expect_json '.requests == 5000 and .read.requests + .write.requests == 5000
		and .bytes == 5000 * 4096 and .read.bytes == .read.requests * 4096
		and .read_percent == 70 and (.read.requests > 3250 and .read.requests < 3750)
		and .depth == 8 and .request_bytes == 4096 and .length == 8388608 and .offset == 0
		and .format == "dynamic" and .file == "disk" and .size_bytes == 8388608
		and .pattern == "random" and .step_bytes == null and .direct == false'
	expect_json '.flush.requests >= 1 and .flush.requests <= 3 and .last_flush_seconds >= 0'
	expect_json '(.iops * .seconds - 5000 | fabs) < 1 and .user_seconds + .system_seconds > 0
		and (.mib_per_second * 256 - .iops | fabs) < 1'
	expect_json '[.read, .write, .flush] | all(.latency_ns | .min <= .p50 and .min <= .mean
		and .p50 <= .p90 and .p90 <= .p99 and .p99 <= .p99_9 and .p99_9 <= .max and .mean <= .max)'
	expect_json '[.read, .write, .flush] | all(([.histogram[].count] | add) == .requests
		and .histogram[0].first_ns <= .latency_ns.min
		and .histogram[-1].last_ns >= .latency_ns.max
		and (.histogram | all(.first_ns <= .last_ns)))'
	# So many at a time that each waits for the others: Little's law.
	expect_json '(.read.latency_ns.mean * .read.requests + .write.latency_ns.mean * .write.requests)
		/ 1e9 / .seconds | . > 6 and . < 8.5'
}

test_a_warm_up_does_not_count() {
	need_tool jq
	make_disk dynamic disk
	expect_exit 0 vhdtool bench --force --mix 50 -n 3000 --flush-every 500 --warm-up 0.2 -d 8 --json disk
	expect_json '.requests == 3000 and .read.requests + .write.requests == 3000
		and (.flush.requests // 0) <= 4 and (.iops * .seconds - 3000 | fabs) < 1'
}

test_the_text_tells_the_same() {
	make_disk dynamic disk
	expect_exit 0 vhdtool bench --force --mix 50 -n 2000 --verify --seed 4711 --direct disk
	expect_out "disk: dynamic, 8 MiB, past the page cache" "seed 4711" "50 % reads" "p99.9" \
		"latency <" "2000 requests" "verified"
	grep -qE '^read +[0-9]+ ' "$out" || fail "no reads"
	grep -qE '^write +[0-9]+ ' "$out" || fail "no writes"
	expect_exit 0 vhdtool bench -q -n 100 disk
	expect_equal "$(cat "$out" "$err" | wc -c)" 0
}

took() { # COMMAND...: milliseconds in $ms
	local start=${EPOCHREALTIME/./}
	"$@"
	ms=$(((${EPOCHREALTIME/./} - start) / 1000))
}

test_time_ends_a_run() {
	need_tool jq
	make_disk fixed disk
	took expect_exit 0 vhdtool bench -t 0.5 --warm-up 0.3 --json disk
	[ "$ms" -ge 800 ] && [ "$ms" -lt 15000 ] || fail "$ms ms instead of 800"
	expect_json '.seconds >= 0.49 and .seconds < 10'
	took expect_exit 0 vhdtool bench -t 30 -n 10 --json disk
	[ "$ms" -lt 10000 ] || fail "$ms ms for 10 requests"
	expect_json '.requests == 10'
	took expect_exit 0 vhdtool bench -t 0.3 -n 1000000000 disk
	[ "$ms" -lt 15000 ] || fail "$ms ms instead of 300"
}

test_flushes_come_in_time() {
	need_tool jq
	make_disk dynamic disk
	expect_exit 0 vhdtool bench --write --force --direct -t 1 --flush-every 0.1s --json disk
	# A busy disk may take its time for each.
	expect_json '.flush.requests >= 1 and .flush.requests <= 10'
	expect_exit 0 vhdtool bench --write --force --direct -n 1000 -d 1 --flush-every 100 --json disk
	expect_json '.flush.requests >= 1 and .flush.requests <= 10'
	expect_exit 0 vhdtool bench --write --force --direct -n 1000 --json disk
	expect_json '.flush == null'
}

test_counts_end_a_run() {
	need_tool jq
	make_disk fixed disk
	expect_exit 0 vhdtool bench --bytes 1M -s 64K --json disk
	expect_json '.requests == 16 and .bytes == 1048576'
	# A last request that is begun is a whole one.
	expect_exit 0 vhdtool bench --bytes 100K -s 64K --json disk
	expect_json '.requests == 2'
	expect_exit 0 vhdtool bench --bytes 1M -n 3 -s 64K --json disk
	expect_json '.requests == 3'
}

test_depth_larger_than_the_range() {
	make_disk dynamic disk
	expect_exit 0 vhdtool bench --mix 50 --force --verify -d 64 --length 8K -n 500 --direct disk
	expect_exit 0 vhdtool bench --write --force -d 1024 --length 4K -n 2000 --direct disk
}

test_without_force_it_names_what_it_would_destroy() {
	local how
	need_tool mkfs.ext4
	truncate -s 16M a.raw
	mkfs.ext4 -q -L precious a.raw
	vhdtool convert -q --to fixed a.raw a.vhd
	cp a.vhd before
	for how in --write "--mix 99"; do
		expect_exit 1 vhdtool bench $how -n 1 a.vhd
		expect_sentence a.vhd ext4 precious --force
	done
	expect_exit 0 vhdtool bench -n 100 a.vhd
	expect_same_file a.vhd before
	expect_exit 0 vhdtool bench --write --force -n 100 a.vhd
	expect_out "it held an ext4 filesystem labelled 'precious'"
	expect_exit 0 vhdtool bench --write --force -n 1 --json before
	expect_json '.destroyed | contains("precious")'
}

test_raw_image_asks_for_its_format_before_it_is_written() {
	noise 1M >a.raw
	cp a.raw before
	expect_exit 1 vhdtool bench --write --force -n 1 a.raw
	expect_sentence a.raw "--from raw"
	expect_same_file a.raw before
	expect_exit 0 vhdtool bench -n 1 a.raw
	expect_exit 0 vhdtool bench --write --force -n 1 --from raw a.raw
}

test_block_device() {
	need_loop
	truncate -s 9M "$HVKIT_STATE/device"
	device=$(loop_on "$HVKIT_STATE/device")
	expect_exit 0 vhdtool bench -n 100 --direct --from raw "$device"
	expect_exit 1 vhdtool bench --write --force -n 1 "$device"
	expect_exit 0 vhdtool bench --mix 30 --force -n 1000 --verify --direct --from raw "$device"
}

test_what_cannot_be_written_is_said_so() {
	make_disk fixed disk
	chmod 444 disk
	expect_exit 1 as_nobody vhdtool bench --write --force -n 1 "$PWD/disk"
	expect_sentence disk
	expect_exit 0 as_nobody vhdtool bench -n 1 "$PWD/disk"
}

test_disk_in_use_is_refused() {
	need_tool qemu-io
	make_disk fixed disk
	{ echo "write 0 4k" && touch "$HVKIT_STATE/held" && sleep 30; } |
		qemu-io -f raw disk >/dev/null 2>&1 &
	while [ ! -e "$HVKIT_STATE/held" ]; do sleep 0.05; done
	sleep 0.5
	expect_exit 1 vhdtool bench -n 1 disk
	expect_sentence disk "open for writing in another program"
	expect_exit 0 vhdtool bench -n 1 --force-share disk
}

test_failing_requests_are_counted_and_end_the_run() {
	need_tool jq
	make_disk dynamic disk
	vhdtool bench -q --write --force --pattern sequential -s 1M --bytes 8M disk
	# The file loses its second half: blocks that were there are not.
	truncate -s 4M disk
	expect_exit 1 vhdtool bench -t 60 --json disk
	expect_sentence disk
	expect_json '.errors >= 1000 and .errors < 1100 and .read.errors == .errors
		and .read.requests > 0 and .mismatches == 0 and (.error | contains("disk"))'
}

test_full_filesystem_is_an_error() {
	need_loop
	need_tool jq
	new_fs ext4 16M fs -m 0
	vhdtool create -q --dynamic 64M fs/disk
	expect_exit 1 vhdtool bench --write --force --direct -t 60 -s 64K --pattern sequential --json fs/disk
	expect_sentence fs/disk
	expect_json '.write.errors > 0'
	expect_exit 0 vhdtool check --no-data fs/disk
}

test_the_range_has_to_be_inside() {
	make_disk fixed disk
	expect_exit 0 vhdtool bench -n 10 --offset 8384512 disk
	expect_exit 0 vhdtool bench -n 10 --offset 8388096 -s 512 disk
	expect_exit 1 vhdtool bench -n 10 --offset 8388096 disk
	expect_sentence disk "no room"
	expect_exit 1 vhdtool bench -n 10 --offset 8M disk
	expect_exit 1 vhdtool bench -n 10 --offset 9M disk
	expect_sentence disk "beyond the disk's end"
	expect_exit 1 vhdtool bench -n 10 --length 9M disk
	expect_sentence disk "beyond the disk's end"
	expect_exit 1 vhdtool bench -n 10 --offset 100 disk
	expect_sentence disk "sector size"
	expect_exit 1 vhdtool bench -n 10 --length 4095 disk
	expect_sentence disk "no room"
}

test_mistakes_in_the_command_line() {
	local mistake
	make_disk fixed disk
	cp disk before
	while read -r mistake; do
		expect_exit 2 vhdtool bench --force $mistake disk
		expect_sentence
	done <<-'END'
		--pattern zigzag
		--size 0
		--size 100
		--size 65M
		--size 4X
		--depth 0
		--depth 1025
		--depth many
		--size 64M --depth 32
		--mix 101
		--mix 50 --write
		--requests 0
		--bytes 0
		--seconds 0
		--seconds -1
		--seconds 1e3
		--seconds nan
		--seconds inf
		--seconds 0x10
		--seconds 1s
		--seconds 1.2.3
		--seconds 99999999999
		--warm-up soon
		--flush-every 1s
		--write --flush-every 0
		--write --flush-every 0s
		--write --flush-every s
		--write --flush-every 1m
		--step 4K --pattern random
		--step 0
		--step 6K
		--seed -1
		--seed x
		--seed 9223372036854775808
		--verify
		--verify --mix 100
		--write --force-share
		--length nothing
	END
	expect_exit 2 vhdtool bench
	expect_exit 2 vhdtool bench disk disk
	expect_same_file disk before
}

test_what_is_no_disk_is_refused() {
	local bad
	mkdir directory
	head -c 3000 /dev/zero >broken.vhd
	for bad in directory broken.vhd missing.vhd; do
		expect_exit 1 timeout 5 "$VHDTOOL" bench -n 1 $bad
		expect_sentence $bad
		expect_exit 1 timeout 5 "$VHDTOOL" bench --write --force -n 1 $bad
		expect_sentence $bad
	done
}

test_every_key_is_in_the_manual() {
	local key page=$HVKIT_ROOT/vhdtool/vhdtool.1
	need_tool jq
	make_disk dynamic disk
	expect_exit 0 vhdtool bench --force --mix 50 -n 1000 --flush-every 100 --verify --json disk
	for key in $(jq -r '.. | objects | keys[]' "$out" | sort -u); do
		grep -qE "^\.(It|Va) .*\b$key\b" "$page" || fail "the manual has no key \"$key\""
	done
}
