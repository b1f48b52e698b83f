#!/bin/bash
# Runs one suite of tests, prints one line for each, and adds up.
#
#	run.sh SUITE scripts FILE.sh...		every function test_* of each script (see lib.sh)
#	run.sh SUITE criterion PROGRAM...	Criterion programs
#	run.sh SUITE programs PROGRAM...	plain programs: status 0 passes, 77 skips. Where the
#						last line reads "N passed, N failed, N skipped",
#						that many tests are counted.
#	run.sh SUITE built WHAT [REASON]	one test, passed, or skipped for REASON
#	run.sh total SUITE...			the sum of what these suites left in $HVKIT_CHECK
#
# Logs and results are kept in $HVKIT_CHECK. Results are lines of verdict, test, and reason.
set -u
export LC_ALL=C.UTF-8 TZ=UTC0 PATH="$PATH:/usr/sbin:/sbin"
export HVKIT_ROOT=${HVKIT_ROOT:-$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)}
export HVKIT_BUILD=${HVKIT_BUILD:-$HVKIT_ROOT/build}
export VHDTOOL=${VHDTOOL:-$HVKIT_BUILD/bin/vhdtool}
cd "$HVKIT_ROOT" || exit 1
HVKIT_CHECK=$(realpath -m "${HVKIT_CHECK:-build/check}")
timeout=${TIMEOUT:-120}
jobs=${TEST_JOBS:-$(nproc)}
umask 022

suite=$1
kind=${2-}
results=$HVKIT_CHECK/$suite.results
logs=$HVKIT_CHECK/$suite

# record VERDICT TEST REASON [LOG]: one line on the terminal, one in the results.
record() {
	local text
	case $1 in
	pass) text="ok    $2${3:+  ($3)}" ;;
	skip) text="SKIP  $2: $3" ;;
	fail) text="FAIL  $2: $3"
		[ ! -s "${4-}" ] || text+=$'\n'$(tail -n 40 "$4" | sed 's/^/      | /')$'\n'"      whole log: ${4#"$HVKIT_ROOT"/}" ;;
	esac
	{
		flock 9
		printf '%s\n' "$text"
		printf '%s\t%s\t%s\n' "$1" "$2" "$3" >&9
	} 9>>"$results"
}

# Counts verdicts in results on standard input, prints the sum, fails if something failed.
sum() {
	awk -F'\t' -v what="$1" '
		{ count[$1] += $1 == "more" ? 0 : 1 }
		END {
			printf "%s%d passed, %d failed, %d skipped\n", what, count["pass"],
				count["fail"], count["skip"]
			exit count["fail"] > 0
		}'
}

total() {
	local s all=()
	for s; do
		[ -e "$HVKIT_CHECK/$s.results" ] ||
			printf 'fail\t%s\tdid not run\n' "$s" >"$HVKIT_CHECK/$s.results" || exit 1
		all+=("$HVKIT_CHECK/$s.results")
	done
	echo
	awk -F'\t' '$1 == "skip" { print "skipped: " $2 ": " $3 }' "${all[@]}" /dev/null
	awk -F'\t' '$1 == "fail" { print "FAILED: " $2 ": " $3 }' "${all[@]}" /dev/null
	cat "${all[@]}" /dev/null | sum ""
}

# Takes away what a test may have left under a directory, whatever became of the test.
sweep() {
	local where=$1 target device file
	while read -r target; do
		printf -v target %b "$target"
		[[ $target != "$where"/* ]] || umount "$target" 2>/dev/null ||
			fusermount -uz "$target" 2>/dev/null || umount -l "$target" 2>/dev/null
	done < <(awk '{ print $5 }' /proc/self/mountinfo | tac)
	while read -r device file; do
		[[ $file != "$where"/* ]] || losetup -d "$device" 2>/dev/null
	done < <(losetup -l -n -O NAME,BACK-FILE 2>/dev/null)
	chmod -R u+rwX "$where" 2>/dev/null
	rm -rf "$where"
}

interrupted() {
	trap '' INT TERM
	kill $(jobs -p) 2>/dev/null
	wait
	sweep "$tmp"
	echo "interrupted"
	exit 130
}

# The sanitizers write to a file of their own, and exit with a status that nothing else has: a
# report is seen even where the test does not look.
sanitizers() {
	export ASAN_OPTIONS="exitcode=99:log_path=$1:detect_leaks=1:allocator_may_return_null=1"
	export UBSAN_OPTIONS="exitcode=99:log_path=$1:print_stacktrace=1"
}

sanitizer_reports() {
	local report
	for report in "$1".*; do
		[ ! -e "$report" ] || cat "$report"
	done
}

# One test of a script, in a process group and a directory of its own.
run_script() {
	local script=$1 test=$2 name=${1##*/} log dir pid rc start=$EPOCHREALTIME verdict reason
	name=$suite/${name%.sh}:${test#test_}
	log=$logs/${name##*/}.log
	dir=$tmp/${name##*/}
	log=${log/:/.} dir=${dir/:/.} # a colon would end the sanitizers' option
	mkdir -p "$dir/work" "$dir/state"
	chmod 1777 "$dir/work" "$dir/state"
	sanitizers "$dir/state/sanitizer"
	(cd "$dir/work" && HVKIT_STATE=$dir/state exec timeout -k 10 "$timeout" \
		bash -c '. "$1"; run_test "$2"' "$script" "$HVKIT_ROOT/$script" "$test") \
		>"$log" 2>&1 </dev/null &
	pid=$!
	trap 'kill $pid; wait $pid; exit 1' TERM
	{ wait $pid; } 2>/dev/null
	rc=$?
	kill -- -$pid 2>/dev/null # what the test left in the background
	sanitizer_reports "$dir/state/sanitizer" >>"$log"

	while IFS=$'\t' read -r verdict test reason; do
		record "$verdict" "$name/$test" "$reason" "$log"
	done 2>/dev/null <"$dir/state/subtests"
	reason=$(head -n 1 "$dir/state/reason" 2>/dev/null || tail -n 1 "$log")
	if compgen -G "$dir/state/sanitizer.*" >/dev/null; then
		record fail "$name" "a sanitizer found a fault" "$log"
	elif [ $rc = 77 ]; then
		record skip "$name" "$reason"
	elif [ $rc = 124 ] || [ $rc = 137 ]; then
		record fail "$name" "no end after $timeout seconds" "$log"
	elif [ $rc != 0 ]; then
		record fail "$name" "${reason:-status $rc}" "$log"
	elif [ ! -e "$dir/state/subtests" ]; then
		record pass "$name" "$(awk "BEGIN { printf \"%.1f s\", $EPOCHREALTIME - $start }")"
	fi
	sweep "$dir"
}

scripts() {
	local script test tests
	for script; do
		tests=$(HVKIT_STATE=$tmp bash -c '. "$1"; list_tests' "$script" "$HVKIT_ROOT/$script" \
			2>"$logs/list.log") && [ -n "$tests" ] || {
			record fail "$suite/${script##*/}" "holds no tests, or does not load" "$logs/list.log"
			continue
		}
		for test in $tests; do
			[[ $(basename -s .sh "$script"):${test#test_} =~ ${TEST_PATTERN:-.} ]] || continue
			while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do
				wait -n
			done
			run_script "$script" "$test" &
		done
	done
	wait
}

# Criterion leaves a TAP file; a leak found after a test has passed is only in the sanitizer's log.
criterion() {
	local program name log rc count line reason shown
	for program; do
		name=$suite/${program#*/unit/}
		log=$logs/$(tr / - <<<"${name#*/}").log
		mkdir -p "$tmp/${name#*/}"
		sanitizers "$tmp/${name#*/}/sanitizer"
		(cd "$tmp/${name#*/}" && timeout -k 10 $((timeout * 5)) "$HVKIT_ROOT/$program" --jobs 2 \
			--timeout "$timeout" --tap=tap) >"$log" 2>&1 </dev/null &
		{ wait $!; } 2>/dev/null
		rc=$?
		sanitizer_reports "$tmp/${name#*/}/sanitizer" >>"$log"
		count=0 shown=$log
		while read -r line; do
			case $line in
			1..*) count=${line#1..} ;;
			*"# SKIP"*) record skip "$name:$(test_of "$line")" "${line##*# SKIP }" ;;
			"ok - "*) printf 'pass\t%s\t\n' "$name:$(test_of "$line")" >>"$results" ;;
			"not ok - "*) # the log is shown once
				reason=${line#*::* }
				[[ $reason == *[a-z]\ * ]] || reason="assertion failed"
				record fail "$name:$(test_of "$line")" "$reason" "$shown"
				shown= ;;
			*) continue ;;
			esac
			[[ $line == 1..* ]] || count=$((count - 1))
		done < <(cat "$tmp/${name#*/}/tap" 2>/dev/null)
		if compgen -G "$tmp/${name#*/}/sanitizer.*" >/dev/null; then
			record fail "$name" "a sanitizer found a fault" "$log"
		elif [ "$count" != 0 ] || { [ $rc != 0 ] && ! grep -q "^fail	$name:" "$results"; }; then
			record fail "$name" "ended with status $rc before all its tests had run" "$log"
		elif ! grep -q "^fail	$name:" "$results"; then
			echo "ok    $name  ($(grep -c "^pass	$name:" "$results") tests)"
		fi
		sweep "$tmp/${name#*/}"
	done
}

test_of() {
	local test=${1#*ok - }
	test=${test%% *}
	echo "${test#*::}"
}

programs() {
	local program name log rc last n
	for program; do
		name=$suite/${program##*/}
		log=$logs/${program##*/}.log
		mkdir -p "$tmp/${program##*/}"
		sanitizers "$tmp/sanitizer"
		TMPDIR=$tmp/${program##*/} timeout -k 10 $((timeout * 5)) "./$program" \
			>"$log" 2>&1 </dev/null &
		{ wait $!; } 2>/dev/null
		rc=$?
		sanitizer_reports "$tmp/sanitizer" >>"$log"
		last=$(tail -n 1 "$log")
		if [[ $rc != 77 && $last =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed,\ ([0-9]+)\ skipped$ ]]; then
			for ((n = 0; n < BASH_REMATCH[1]; n++)); do printf 'pass\t%s\t\n' "$name"; done >>"$results"
			[ "${BASH_REMATCH[2]}" = 0 ] || [ $rc != 0 ] || rc=1
			for ((n = 1; n < BASH_REMATCH[2]; n++)); do printf 'fail\t%s\t\n' "$name"; done >>"$results"
			for ((n = 0; n < BASH_REMATCH[3]; n++)); do record skip "$name" "see ${log#"$HVKIT_ROOT"/}"; done
			[ $rc != 0 ] || echo "ok    $name  ($last)"
		elif [ $rc = 0 ]; then
			record pass "$name" "$last"
		fi
		case $rc in
		0) ;;
		77) record skip "$name" "$last" ;;
		124 | 137) record fail "$name" "no end after $((timeout * 5)) seconds" "$log" ;;
		*) record fail "$name" "status $rc" "$log" ;;
		esac
		sweep "$tmp/${program##*/}"
	done
}

built() {
	if [ -n "${2-}" ]; then
		record skip "$suite" "$2"
	else
		record pass "$suite" "$1"
	fi
}

if [ "$suite" = total ]; then
	shift
	total "$@"
	exit
fi
shift 2
rm -rf "$logs"
{ mkdir -p "$logs" && : >"$results"; } || exit 1
export HVKIT_RUNNER=1
tmp=$(mktemp -d "${TMPDIR:-/var/tmp}/hvkit-test.XXXXXX") || exit 1
chmod 755 "$tmp"
trap interrupted INT TERM
$kind "$@"
sweep "$tmp"
sum "$suite: " <"$results"
