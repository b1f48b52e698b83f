#!/bin/bash
# The fuzz targets, which are the files tests/fuzz/*.c; $FUZZ, or arguments, choose some of them.
#
#	fuzz.sh			runs every known input (seeds made of fixtures/, tests/fuzz/corpus) through
#				the plain programs of $HVKIT_BUILD. The last line counts the targets.
#	fuzz.sh run SECONDS [TARGET...]
#				fuzzes each target for so long, $TEST_JOBS at once. What it learns stays in
#				build/fuzz/corpus, what it finds in build/fuzz/findings; status 1 when
#				something was found. To look at it: build/fuzz/tests/fuzz/TARGET FILE, and
#				tests/fuzz/unpack.py for an image that vhdtool can look at
#	fuzz.sh merge [TARGET...]
#				keeps of what was learned the small inputs that reach something new, in
#				tests/fuzz/corpus/TARGET. Files with other names than libFuzzer's stay: they
#				are what faults that have been mended were found with.
set -u
export LC_ALL=C
cd "${BASH_SOURCE[0]%/*}/../.." || exit 1
build=$(realpath -m "${HVKIT_BUILD:-build/asan}")
fuzz=$(realpath -m build/fuzz)
jobs=${TEST_JOBS:-$(nproc)}
hash=$(printf '[0-9a-f]%.0s' {1..40}) # the names that libFuzzer gives
verb=${1-replay}
seconds=60
shift $(($# > 0))
if [ "$verb" = run ]; then
	seconds=$1
	shift
fi
targets=${*:-${FUZZ:-$(basename -s .c tests/fuzz/*.c)}}

# Seeds and dictionary of a target: those of images, unless it has its own.
is_image() {
	grep -q '\.image = true' "tests/fuzz/$1.c"
}

seeds_of() {
	if is_image "$1"; then echo "$fuzz/seeds/image"; else echo "$fuzz/seeds/$1"; fi
}

dictionary_of() {
	if [ -e "tests/fuzz/$1.dict" ]; then
		echo "-dict=tests/fuzz/$1.dict"
	elif is_image "$1"; then
		echo "-dict=tests/fuzz/image.dict"
	fi
}

make_seeds() {
	command -v python3 >/dev/null || return 1
	[ -z "$(find tests/fuzz/seeds.py fixtures/gen -newer "$fuzz/seeds/done" 2>&1)" ] && return
	rm -rf "$fuzz/seeds"
	mkdir -p "$fuzz/seeds" && python3 -B tests/fuzz/seeds.py "$fuzz/seeds"
}

# Undo files are made, synced and removed for every input: best in memory.
fast_directory() {
	if [ -w /dev/shm ]; then mktemp -d -p /dev/shm; else mktemp -d; fi
}

parallel() { # FUNCTION: calls it for every target, in the background
	local target
	for target in $targets; do
		while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
		"$1" "$target" &
	done
	wait
}

replay_one() {
	local log=$TMPDIR/$1.log inputs=()
	for directory in "$(seeds_of "$1")" "tests/fuzz/corpus/$1"; do
		[ ! -d "$directory" ] || inputs+=("$directory")
	done
	"$build/tests/fuzz/$1" "${inputs[@]}" >"$log" 2>&1 && touch "$TMPDIR/$1.passed"
	sed "s/^/$1: /" "$log"
}

replay() {
	local target passed=0 failed=0 skipped=0
	make_seeds || { echo "no seeds without python3" && skipped=1; }
	parallel replay_one
	for target in $targets; do
		if [ -e "$TMPDIR/$target.passed" ]; then
			passed=$((passed + 1))
		else
			failed=$((failed + 1))
			echo "failed: $target"
		fi
	done
	echo "$passed passed, $failed failed, $skipped skipped"
	[ $failed = 0 ]
}

run_one() {
	local found=$fuzz/findings/$1 corpus=$fuzz/corpus/$1 log=$fuzz/$1.log dirs=()
	mkdir -p "$corpus" "$found"
	for directory in "tests/fuzz/corpus/$1" "$(seeds_of "$1")"; do
		[ ! -d "$directory" ] || dirs+=("$directory")
	done
	touch "$TMPDIR/$1.began"
	nice -n 10 "$fuzz/tests/fuzz/$1" -max_total_time="$seconds" -timeout=25 -rss_limit_mb=1024 \
		-malloc_limit_mb=256 -max_len=8192 -print_final_stats=1 -verbosity=1 \
		-artifact_prefix="$found/" $(dictionary_of "$1") "$corpus" "${dirs[@]}" >"$log" 2>&1
	echo $? >"$TMPDIR/$1.status"
	report "$1"
}

report() {
	local log=$fuzz/$1.log new
	new=$(find "$fuzz/findings/$1" -type f ! -name 'slow-unit-*' -newer "$TMPDIR/$1.began" | wc -l)
	printf '%-8s %10s executions, coverage %5s, %d findings\n' "$1" \
		"$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" \
		"$(grep -o ' cov: [0-9]*' "$log" | tail -n 1 | tr -dc 0-9)" "$new"
	[ "$new" = 0 ] && [ "$(cat "$TMPDIR/$1.status")" = 0 ] && return
	grep -hE '^finding:|ERROR: |runtime error|SUMMARY: ' "$log" | head -n 5 | sed 's/^/      | /'
	echo "      whole log: ${log#"$PWD"/}"
	touch "$TMPDIR/failed"
}

run() {
	make_seeds || echo "no seeds without python3"
	parallel run_one
	[ ! -e "$TMPDIR/failed" ]
}

# Beyond what seeds and reproducers reach.
merge_one() {
	local kept=tests/fuzz/corpus/$1 base=$TMPDIR/$1.base file name
	mkdir -p "$base" "$kept" "$fuzz/corpus/$1"
	find "$(seeds_of "$1")" "$kept" -type f ! -path "$kept/$hash" -exec cp -t "$base" {} +
	ls "$base" >"$TMPDIR/$1.had"
	"$fuzz/tests/fuzz/$1" -merge=1 -set_cover_merge=1 -use_counters=0 -max_len=1500 -timeout=25 \
		"$base" "$kept" "$fuzz/corpus/$1" >"$fuzz/$1.merge.log" 2>&1 ||
		{ echo "$1: merge failed, see $fuzz/$1.merge.log" && return; }
	find "$kept" -type f -path "$kept/$hash" -delete
	for file in "$base"/*; do
		name=${file##*/}
		grep -qxF "$name" "$TMPDIR/$1.had" || mv "$file" "$kept/$name"
	done
	rmdir --ignore-fail-on-non-empty "$kept"
	printf '%-8s %d files\n' "$1" "$(find "$kept" -type f 2>/dev/null | wc -l)"
}

merge() {
	parallel merge_one
}

TMPDIR=$(fast_directory) || exit 1
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
trap 'kill $(jobs -p) 2>/dev/null; exit 130' INT TERM
$verb
