#!/bin/bash
# The engine beside QEMU's drivers and beside a raw file: requests per second, their cost on the
# processor, chains, allocation, and what a huge disk takes. Everybody bypasses the page cache and
# uses native AIO; ours is `vhdtool bench`, theirs `qemu-img bench -t none -n`.
#
# Two tables: one on a real filesystem, where the device decides, and the same on ext4 on a loop
# device over memory, where the engines do. The second needs root and free memory.
#
#	HVKIT_BENCH_ENGINE=4G		size of each disk; the second table takes at most 1G
#	HVKIT_BENCH_SECONDS=1		of each run
#	HVKIT_BENCH_RUNS=3		of each contender
#	HVKIT_BENCH_MEMORY=		0: without the second table, 1: without the first
#
# qemu-img knows no random offsets. So both sides go through the disk in steps of about 0.382 of
# its size (and less than the 2 GiB that qemu-img takes), a prime number of requests, which visits
# everything once before it begins again, and never two neighbours soon after each other. Sector bitmaps are read when their block is first
# used: each of our runs, raw ones too, begins with a warm-up that does not count, but where it says
# "just opened". QEMU reads no bitmaps.
export HVKIT_BENCH_RUNS=${HVKIT_BENCH_RUNS:-3}
. "${BASH_SOURCE[0]%/*}/lib.sh"
asked=$(numfmt --from=iec "${HVKIT_BENCH_ENGINE:-4G}")
duration=${HVKIT_BENCH_SECONDS:-1}
memory=${HVKIT_BENCH_MEMORY-}
depths="1 2 4 8"
disks=7 # raw, fixed, dynamic, QEMU's, one half-made child, all children, one that is being filled

declare -A jobs counts
start_cpu= # what qemu-img's processor time is without any requests

missing() {
	echo "bench: SKIPPED: $*" >&2
}

have() {
	command -v "$1" >/dev/null
}

times() { # NUMBER NUMBER
	awk "BEGIN { print $1 * $2 }"
}

# ---- Runs ----

ours() { # NAME OPTION... FILE
	local name=$1 json
	shift
	json=$("$VHDTOOL" bench --json --direct -t "$duration" --warm-up "$(times "$duration" 0.5)" "$@")
	note "$name" "$(jq .iops <<<"$json")"
	note "$name cpu" "$(jq '(.user_seconds + .system_seconds) * 1e6 / .requests' <<<"$json")"
	note "$name p50" "$(jq '(.read // .write).latency_ns.p50' <<<"$json")"
}

qemu_bench() { # COUNT OPTION... FILE: sets took and cpu, both in seconds
	local TIMEFORMAT='%U %S' count=$1
	shift
	{ time GLIBC_TUNABLES=glibc.malloc.hugetlb=1 qemu-img bench -t none -n -c "$count" "$@" >qemu.log 2>&1; } 2>qemu.time ||
		{ cat qemu.log >&2; exit 1; }
	took=$(awk '/completed/ { print $(NF - 1) }' qemu.log)
	cpu=$(awk '{ print $1 + $2 }' qemu.time)
}

# Counts only: how many requests fill the time is found by trying. Its memory lies in huge pages, as
# ours does, because devices notice.
theirs() { # NAME OPTION... FILE
	local name=$1 count
	shift
	if [ ! "$start_cpu" ]; then
		qemu_bench 1 "$@"
		start_cpu=$cpu
	fi
	if [ -z "${counts[$name]-}" ]; then
		for ((count = 100; ; count *= 4)); do
			qemu_bench $count "$@"
			! awk "BEGIN { exit !($took >= $duration / 4) }" || break
		done
		counts[$name]=$(awk "BEGIN { printf \"%d\", $count / $took * $duration + 1 }")
	fi
	qemu_bench "${counts[$name]}" "$@"
	note "$name" "$(awk "BEGIN { print ${counts[$name]} / $took }")"
	note "$name cpu" "$(awk "BEGIN { print ($cpu - $start_cpu) * 1e6 / ${counts[$name]} }")"
}

# An empty disk, and every request is the first in its block. Until all is durable.
fill_ours() {
	local json
	calm
	"$VHDTOOL" create -q --dynamic "$size" e.out
	json=$("$VHDTOOL" bench --json --direct --write --force --flush-every 1s \
		--step "$block_step" -n "$blocks" e.out)
	note "$1" "$(jq '.requests / (.seconds + .last_flush_seconds)' <<<"$json")"
}

# The driver flushes at each allocation by itself; what is asked for comes on top.
fill_theirs() {
	local every=${counts[$1]-}
	calm
	qemu-img create -q -f vpc -o force_size=on e.out "$size"
	qemu_bench "$blocks" -f vpc -d 32 -w -s 4096 -S "$block_step" --no-drain \
		--flush-interval "$((${every:-$blocks} > 32 ? ${every:-$blocks} : 32))" e.out
	counts[$1]=$(awk "BEGIN { printf \"%d\", $blocks / $took }")
	note "$1" "$(awk "BEGIN { print $blocks / $took }")"
}

one() {
	local job
	read -ra job <<<"${jobs[$1]}"
	"${job[0]}" "$1" "${job[@]:1}"
}

# ---- Disks ----

fill() { # OPTION... FILE: all of it, in order
	"$VHDTOOL" bench -q --direct --write --force --pattern sequential -s 1M -d 8 --bytes "$size" "$@"
}

make_disks() {
	truncate -s "$size" raw
	fill --from raw raw
	"$VHDTOOL" create -q --fixed "$size" --allow-stale fixed.vhd
	fill fixed.vhd
	"$VHDTOOL" create -q --dynamic "$size" dynamic.vhd
	fill dynamic.vhd
	[ ! "$qemu" ] || qemu-img convert -t none -T none -f raw -O vpc -o force_size=on raw qemu.vhd
}

# Eight children, the oldest on the dynamic disk; each holds an eighth of all pieces of 64 KiB, with
# pieces of the seven others between them in every block. Room that stays unused is given back.
make_chain() {
	local pieces=$((size >> 16)) step parent=dynamic.vhd depth
	step=$(step_of 65536)
	for ((depth = 1; depth <= 8; depth++)); do
		"$VHDTOOL" create -q --diff "$parent" "child$depth.vhd"
		parent=child$depth.vhd
		"$VHDTOOL" bench -q --direct --write --force -s 64K --step "$step" \
			--skip $(((depth - 1) * pieces / 8)) -n $((pieces / 8)) "$parent"
		fallocate --dig-holes "$parent" || :
	done
}

# step_of UNIT: in bytes.
step_of() {
	local n=$((size * 382 / 1000 / $1)) most=$(((2 << 30) * 95 / 100 / $1))
	n=$((n < most ? n : most))
	while [ "$(factor "$n" | wc -w)" != 2 ]; do
		n=$((n + 1))
	done
	echo $((n * $1))
}

# ---- Tables ----

title() {
	printf '\n%s\n\n' "$1"
	echo "| work | vhdtool | peer | peer's | ratio | target |"
	echo "|---|---|---|---|---|---|"
}

rates() { # WORK CONTENDER PEER-NAME PEER TARGET: requests per second
	[ -n "${seconds[$4]-}" ] || return 0
	printf '| %s | %.0f/s | %s | %.0f/s | %.2f | %s |\n' "$1" "$(median "$2")" "$3" \
		"$(median "$4")" "$(paired "$2" "$4")" "$5"
}

micro() { # WORK CONTENDER PEER-NAME PEER TARGET: nanoseconds, told in microseconds
	printf '| %s | %.1f us | %s | %.1f us | %.2f | %s |\n' "$1" "$(times "$(median "$2")" 1e-3)" \
		"$3" "$(times "$(median "$4")" 1e-3)" "$(paired "$2" "$4")" "$5"
}

cpu_us() { # WORK CONTENDER PEER-NAME PEER TARGET
	[ -n "${seconds[$4]-}" ] || return 0
	printf '| %s | %.2f us | %s | %.2f us | %.2f | %s |\n' "$1" "$(median "$2")" "$3" \
		"$(median "$4")" "$(paired "$2" "$4")" "$5"
}

# The same work on all kinds of disk, ours and theirs.
compete() { # KEY OUR-OPTIONS QEMU-OPTIONS
	local key=$1 names
	jobs[$key raw]="ours $2 --from raw raw"
	jobs[$key fixed]="ours $2 fixed.vhd"
	jobs[$key dynamic]="ours $2 dynamic.vhd"
	jobs[$key qraw]="theirs $3 -f raw raw"
	jobs[$key qvpc]="theirs $3 -f vpc dynamic.vhd"
	jobs[$key qown]="theirs $3 -f vpc qemu.vhd"
	names=("$key raw" "$key fixed" "$key dynamic")
	[ ! "$qemu" ] || names+=("$key qraw" "$key qvpc" "$key qown")
	interleaved "${names[@]}"
}

told() { # WORK KEY TARGET-AGAINST-QEMU
	rates "$1, fixed" "$2 fixed" "our raw file" "$2 raw" ">= 0.97"
	rates "$1, dynamic" "$2 dynamic" "our raw file" "$2 raw" ">= 0.97"
	rates "$1, dynamic" "$2 dynamic" "qemu vpc, same file" "$2 qvpc" "$3"
	rates "$1, dynamic" "$2 dynamic" "qemu vpc, its own file" "$2 qown" "$3"
	rates "$1, raw" "$2 raw" "qemu raw" "$2 qraw" "-"
}

speed() {
	local small="-s 4096 --step $step" large="-s 1M --pattern sequential"
	compete rr "$small" "-d 32 -s 4096 -S $step"
	jobs[cold]="ours --warm-up 0.000001 $small dynamic.vhd"
	interleaved cold
	compete rw "$small --write --force" "-d 32 -w -s 4096 -S $step"
	compete sr "$large" "-d 32 -s 1M"
	compete sw "$large --write --force" "-d 32 -w -s 1M"
	told "random 4 KiB reads" rr "-"
	rates "the same, just opened" cold "with its bitmaps known" "rr dynamic" "-"
	told "random 4 KiB writes" rw ">= 8"
	told "sequential 1 MiB reads" sr "-"
	told "sequential 1 MiB writes" sw "-"
	cpu_us "processor time of a random 4 KiB read, dynamic" "rr dynamic cpu" "qemu vpc" "rr qvpc cpu" "< 0.5"
	cpu_us "processor time of a random 4 KiB write, dynamic" "rw dynamic cpu" "qemu vpc" "rw qvpc cpu" "< 0.5"
	cpu_us "processor time of a random 4 KiB read, raw" "rr raw cpu" "qemu raw" "rr qraw cpu" "-"
	if [ "$qemu" ]; then
		jobs[fill]=fill_ours jobs[qfill]=fill_theirs
		interleaved fill qfill
		rates "4 KiB writes that allocate a block each, a flush each second" fill "qemu vpc" qfill ">= 5"
	fi
}

# At depth 1 the time of a request is all there is.
latency() {
	local work="-s 4096 --step $step -d 1"
	jobs[l raw]="ours $work --from raw raw"
	jobs[l fixed]="ours $work fixed.vhd"
	jobs[l dynamic]="ours $work dynamic.vhd"
	interleaved "l raw" "l fixed" "l dynamic"
	micro "4 KiB reads one at a time, fixed, median latency" "l fixed p50" "our raw file" "l raw p50" "<= 1.03"
	micro "the same, dynamic" "l dynamic p50" "our raw file" "l raw p50" "<= 1.03"
}

chain() {
	local work depth
	work="-s 4096 --step $step --warm-up $(times "$duration" 2)"
	jobs[c0]="ours $work dynamic.vhd"
	for depth in $depths; do
		jobs[c$depth]="ours $work child$depth.vhd"
	done
	interleaved c0 c1 c2 c4 c8
	for depth in $depths; do
		rates "random 4 KiB reads, children: $depth" "c$depth" "flat dynamic" c0 \
			"$([ "$depth" = 8 ] && echo ">= 0.85" || echo -)"
	done
	for depth in $depths; do
		cpu_us "  processor time of each, children: $depth" "c$depth cpu" "flat dynamic" "c0 cpu" "-"
	done
}

# ---- Instructions ----

# In user space, all of them: by the processor's counter, or by valgrind's.
count_instructions() { # COMMAND...
	if [ "$counter" = perf ]; then
		perf stat -x, -e instructions:u -o perf.log "$@" >/dev/null 2>&1
		awk -F, '/instructions/ { print $1 }' perf.log
	else
		valgrind --tool=cachegrind --cache-sim=no --cachegrind-out-file=/dev/null "$@" 2>&1 |
			awk '/ I +refs:/ { gsub(",", "", $NF); print $NF }'
	fi
}

# What one more request costs, from runs with few and with many; N in the command is the number.
per_request() { # FEW MANY COMMAND...
	local few=$1 many=$2 a b
	shift 2
	a=$(count_instructions "${@/#@N/$few}")
	b=$(count_instructions "${@/#@N/$many}")
	echo $(((b - a) / (many - few)))
}

instruction_row() { # WORK OURS PEER-NAME PEER TARGET
	printf '| %s | %d | %s | %d | %.2f | %s |\n' "$1" "$2" "$3" "$4" "$(over "$2" "$4")" "$5"
}

instructions() {
	local small="-s 4096 --step $step" few=$((blocks * 16)) many=$((blocks * 16 + 20000))
	local raw fixed read write chain1 chain8 qread qwrite qraw
	if perf stat -x, -e instructions:u -o perf.log true 2>/dev/null && grep -q '^[0-9]' perf.log; then
		counter=perf
	elif have valgrind; then
		counter=valgrind
	else
		missing "instructions are counted by perf or valgrind, and neither can do it here"
		return
	fi
	bench=("$VHDTOOL" bench -q --direct)
	raw=$(per_request $few $many "${bench[@]}" $small --from raw -n @N raw)
	fixed=$(per_request $few $many "${bench[@]}" $small -n @N fixed.vhd)
	read=$(per_request $few $many "${bench[@]}" $small -n @N dynamic.vhd)
	write=$(per_request $few $many "${bench[@]}" $small --write --force -n @N dynamic.vhd)
	chain1=$(per_request $few $many "${bench[@]}" $small -n @N child1.vhd)
	chain8=$(per_request $((few * 8)) $((few * 8 + 20000)) "${bench[@]}" $small -n @N child8.vhd)
	title "Instructions in user space for each 4 KiB request, by $counter; ours include the generator's"
	if [ "$qemu" ]; then
		bench=(qemu-img bench -t none -n -d 32 -s 4096 -S "$step")
		qraw=$(per_request 2000 6000 "${bench[@]}" -f raw -c @N raw)
		qread=$(per_request 2000 6000 "${bench[@]}" -f vpc -c @N dynamic.vhd)
		qwrite=$(per_request 200 600 "${bench[@]}" -w -f vpc -c @N dynamic.vhd)
		instruction_row "reads, raw" "$raw" "qemu raw" "$qraw" "< 0.5"
		instruction_row "reads, dynamic" "$read" "qemu vpc" "$qread" "< 0.5"
		instruction_row "writes, dynamic" "$write" "qemu vpc" "$qwrite" "< 0.5"
	fi
	instruction_row "reads, fixed" "$fixed" "our raw file" "$raw" "-"
	instruction_row "reads, dynamic" "$read" "our raw file" "$raw" "-"
	instruction_row "reads, 1 child" "$chain1" "flat dynamic" "$read" "-"
	instruction_row "reads, 8 children" "$chain8" "flat dynamic" "$read" "-"
}

# ---- A huge disk ----

huge() {
	local kib
	"$VHDTOOL" create -q --dynamic 2040G huge.vhd
	python3 "$root/tests/bench/scatter.py" huge.vhd $((2040 * 512 / 100))
	for ((i = 0; i < runs; i++)); do
		timed info "$VHDTOOL" info huge.vhd
		timed open "$VHDTOOL" bench -q -d 1 -n 1 huge.vhd
		kib=$(/usr/bin/env time -f %M "$VHDTOOL" bench -q -d 1 -n 1 huge.vhd 2>&1 | tail -n 1)
		note resident "$kib"
	done
	printf '\nA dynamic disk of 2040 GiB, 1 %% allocated, medians of %s runs\n\n' "$runs"
	echo "| what | found | target |"
	echo "|---|---|---|"
	printf '| largest resident set, open and read once | %.1f MiB | <= 16 MiB |\n' \
		"$(over "$(median resident)" 1024)"
	printf '| time to start, open, read once and end | %.1f ms | <= 20 ms |\n' "$(times "$(median open)" 1000)"
	printf '| vhdtool info | %.1f ms | - |\n' "$(times "$(median info)" 1000)"
	rm huge.vhd
}

# ---- The second table ----

# ext4 on a loop device over memory, for a run of this script inside.
in_memory() {
	local size=$((asked < 1 << 30 ? asked : 1 << 30)) need avail
	need=$((size * disks + (3 << 30)))
	avail=$(awk '/^MemAvailable/ { printf "%.0f", $2 * 1024 }' /proc/meminfo)
	if [ "$(id -u)" != 0 ] || ! have losetup || ! have mkfs.ext4; then
		missing "the table in memory needs root, losetup and mkfs.ext4"
		return 0
	elif [ "$avail" -lt "$need" ]; then
		missing "the table in memory needs $(numfmt --to=iec "$need") of free memory"
		return 0
	fi
	device=
	mkdir memory place
	trap 'umount -q place; [ ! "$device" ] || losetup -d "$device"; umount -q memory; cd /; rm -rf "$dir"' EXIT
	mount -t tmpfs -o "size=$need" tmpfs memory
	truncate -s "$((need - (256 << 20)))" memory/image
	mkfs.ext4 -q -m 0 memory/image
	if ! device=$(losetup --find --show --direct-io=on memory/image 2>/dev/null); then
		missing "the table in memory needs loop devices, which cannot be made here"
		return 0
	fi
	mount "$device" place
	HVKIT_BENCH_DIR=$dir/place HVKIT_BENCH_ENGINE=$size HVKIT_BENCH_MEMORY=inside \
		"$root/tests/bench/engine.sh"
}

# ---- All ----

here() {
	local room where
	room=$(fit $((asked * disks)))
	size=$((room / disks < asked ? room / disks >> 28 << 28 : asked))
	blocks=$((size >> 21))
	step=$(step_of 4096)
	block_step=$(step_of 2097152)
	make_disks
	where="$(numfmt --to=iec "$size") disks on $(df --output=fstype . | tail -n 1)"
	[ "$memory" != inside ] || where+=" in memory"
	calm
	title "The engine, O_DIRECT, 32 requests at a time, $where, medians of $runs runs"
	speed
	latency
	make_chain
	calm
	chain
	[ "$memory" != inside ] || return 0
	instructions
	huge
}

have jq || { missing "jq is not installed"; exit 0; }
qemu=1
have qemu-img || { missing "qemu-img is not installed: no rows against it"; qemu=; }
[ "$memory" = 1 ] || here
case $memory in
0 | inside) ;;
*) in_memory ;;
esac
