# For the shell tests in cli/ and interop/. A test script reads
#
#	#!/bin/bash
#	. "${BASH_SOURCE[0]%/*}/../lib.sh"
#
#	test_fixed_disk_has_the_size_asked_for() {
#		expect_exit 0 vhdtool create --fixed 8M a.vhd
#		expect_equal "$(stat -c %s a.vhd)" $((8 * 1024 * 1024 + 512))
#	}
#
# run.sh runs each test_* function in a process of its own, in an empty directory of its own that
# is swept afterwards: what is mounted below it is unmounted, loop devices on files in it are
# detached, processes left in the background are killed. Any command that fails fails the test
# (set -e; not in a pipe, whose last command decides). A script may also be started by hand:
# `tests/cli/create.sh`, and T=PATTERN chooses tests.
#
# $VHDTOOL is the binary, vhdtool runs it, $HVKIT_ROOT is the source tree, $HVKIT_STATE a second
# directory for what must not lie about in the first, $SANITIZED is 1 in the ASan and TSan builds.

if [ -z "${HVKIT_RUNNER-}" ]; then
	HVKIT_ROOT=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
	script=$(realpath "${BASH_SOURCE[1]}")
	HVKIT_ROOT=$HVKIT_ROOT TEST_PATTERN=${T-} exec "$HVKIT_ROOT/tests/run.sh" \
		"$(basename "${script%/*}")" scripts "${script#"$HVKIT_ROOT"/}"
fi

out=$HVKIT_STATE/out
err=$HVKIT_STATE/err
SANITIZED=
! grep -aqsE '__[at]san_init' "$VHDTOOL" || SANITIZED=1

# ---- For run.sh ----

list_tests() {
	shopt -s extdebug
	local name
	for name in $(compgen -A function test_); do
		declare -F "$name"
	done | sort -n -k 2 | awk '{ print $1 }'
}

run_test() {
	set -eEu
	deferred=()
	trap 'stumbled "$BASH_COMMAND" "${BASH_SOURCE[0]##*/}:$LINENO"' ERR
	trap undo EXIT
	trap 'exit 143' TERM
	"$1"
}

stumbled() {
	local what=$1 where=$2
	[ -e "$HVKIT_STATE/reason" ] && return
	[ "$what" != '"$@"' ] || what=$subtest where=subtest
	echo "$where: failed: $what" | tee "$HVKIT_STATE/reason"
}

undo() {
	local i
	trap - ERR
	set +eEu
	for ((i = ${#deferred[@]} - 1; i >= 0; i--)); do
		eval "${deferred[i]}"
	done
}

# ---- Verdicts ----

# Ends the test, passed. (Coming to the end of it does, too.)
ok() {
	exit 0
}

skip() {
	echo "$*" | tee "$HVKIT_STATE/reason"
	exit 77
}

fail() {
	local i=0
	while [ "${BASH_SOURCE[i]}" = "${BASH_SOURCE[0]}" ]; do
		i=$((i + 1))
	done
	echo "${BASH_SOURCE[i]##*/}:${BASH_LINENO[i - 1]}: $*" | tee "$HVKIT_STATE/reason"
	exit 1
}

# subtest NAME COMMAND...: one of many cases, with a line and a verdict of its own; the next one
# runs whatever happens. COMMAND (often a function) may skip and fail.
subtest() {
	local name=$1 subtest=${*:2} rc verdict=pass reason=
	shift
	echo "--- $name"
	set +e
	trap - ERR
	(
		set -eEu
		trap - EXIT
		trap 'stumbled "$BASH_COMMAND" "${BASH_SOURCE[0]##*/}:$LINENO"' ERR
		"$@"
	)
	rc=$?
	set -e
	trap 'stumbled "$BASH_COMMAND" "${BASH_SOURCE[0]##*/}:$LINENO"' ERR
	case $rc in
	0) ;;
	77) verdict=skip ;;
	*) verdict=fail ;;
	esac
	[ $rc = 0 ] || reason=$(head -n 1 "$HVKIT_STATE/reason" 2>/dev/null || echo "status $rc")
	rm -f "$HVKIT_STATE/reason"
	printf '%s\t%s\t%s\n' $verdict "$name" "${reason//$'\t'/ }" >>"$HVKIT_STATE/subtests"
}

# defer COMMAND: run when the test ends, the last one first. Not from a $(...).
defer() {
	deferred+=("$*")
}

# ---- Needs ----

need_root() {
	[ "$(id -u)" = 0 ] || skip "needs root"
}

need_tool() {
	local tool
	for tool; do
		command -v "$tool" >/dev/null || skip "needs $tool, which is not installed"
		# Leaks cannot be looked for under ptrace.
		[ "$tool" != strace ] || export ASAN_OPTIONS="$ASAN_OPTIONS:detect_leaks=0"
	done
}

need_loop() {
	local device
	need_root
	need_tool losetup
	truncate -s 1M "$HVKIT_STATE/try-loop"
	device=$(losetup --find --show "$HVKIT_STATE/try-loop" 2>/dev/null) && [ -b "$device" ] ||
		skip "needs loop devices, which cannot be made here"
	losetup -d "$device"
	rm "$HVKIT_STATE/try-loop"
}

# Room in the test's directory.
need_space() {
	[ "$(df --output=avail -B1 . | tail -n 1)" -ge "$(numfmt --from=iec "$1")" ] ||
		skip "needs $1 of room in ${TMPDIR:-/var/tmp}"
}

# ---- Making things ----

vhdtool() {
	"$VHDTOOL" "$@"
}

vhdmount() {
	"${VHDTOOL%/*}/vhdmount" "$@"
}

# The same as an ordinary user, where the test runs as root.
as_nobody() {
	if [ "$(id -u)" != 0 ]; then
		"$@"
		return
	fi
	if [ "$1" = vhdtool ] || [ "$1" = vhdmount ]; then
		[ -e "$HVKIT_STATE/$1" ] || install -m 755 "${VHDTOOL%/*}/$1" "$HVKIT_STATE/$1"
		set -- "$HVKIT_STATE/$1" "${@:2}"
	fi
	setpriv --reuid=65534 --regid=65534 --clear-groups -- "$@"
}

# noise BYTES [SEED]: bytes that do not compress, the same for the same seed.
noise() {
	python3 -c 'import random, sys
left, source = int(sys.argv[1]), random.Random(int(sys.argv[2]))
while left:
    n = min(left, 1 << 20)
    sys.stdout.buffer.write(source.randbytes(n))
    left -= n' "$(numfmt --from=iec "$1")" "${2:-1}"
}

# put FILE OFFSET BYTES...: writes what printf makes of BYTES ("\x01\x02") into FILE at OFFSET.
put() {
	local file=$1 offset=$2
	shift 2
	printf "$@" | dd of="$file" bs=1 seek="$((offset))" conv=notrunc status=none
}

# loop_on FILE [losetup options]: prints the device; it goes when the test ends.
loop_on() {
	losetup --find --show "${@:2}" "$(realpath "$1")"
}

# new_fs TYPE SIZE DIRECTORY [mkfs options]: a small filesystem of its own, mounted, empty.
new_fs() {
	local type=$1 size=$2 where=$3 image
	shift 3
	need_loop
	need_tool "mkfs.$type"
	image=$(mktemp -u "$HVKIT_STATE/$type.XXXXXX")
	truncate -s "$size" "$image"
	mkdir -p "$where"
	"mkfs.$type" "$@" "$image" >/dev/null 2>&1 || fail "mkfs.$type $* failed"
	mount -o loop "$image" "$where" 2>"$image.err" ||
		skip "needs to mount $type: $(tail -n 1 "$image.err")"
	rm -rf "$where/lost+found"
}

# ---- Expectations ----

# Runs a command; its output lands in $out and $err.
expect_exit() {
	local want=$1 rc=0
	shift
	echo "\$ $*"
	"$@" >"$out" 2>"$err" || rc=$?
	[ $rc = "$want" ] || {
		head -n 40 "$out" "$err"
		fail "'$*': status $rc instead of $want: $(head -n 1 "$err")"
	}
}

# After expect_exit: the error was one sentence by our rules, and holds these words.
expect_sentence() {
	local line words
	line=$(head -n 1 "$err")
	[ -n "$line" ] || fail "no error was printed"
	[ "$(sed 1d "$err" | grep -vc -- '--help')" = 0 ] || fail "more than one sentence: $(cat "$err")"
	[[ $line =~ ^[a-z]+:\ . ]] || fail "does not begin with the program's name: $line"
	[[ $line != *[.!] ]] || fail "ends with a full stop: $line"
	for words; do
		[[ $line == *"$words"* ]] || fail "does not say \"$words\": $line"
	done
}

# After expect_exit: standard output holds each of these.
expect_out() {
	local words
	for words; do
		grep -qF -- "$words" "$out" || fail "does not print \"$words\": $(head -n 20 "$out")"
	done
}

# After expect_exit: standard output is JSON of which this jq filter is true.
expect_json() {
	need_tool jq
	jq -e "$1" "$out" >/dev/null || fail "not so: $1 in: $(head -c 2000 "$out")"
}

expect_equal() {
	[ "$1" = "$2" ] || fail "\"$1\" is not \"$2\"${3:+ ($3)}"
}

expect_same_file() {
	cmp -- "$1" "$2" || fail "\"$1\" and \"$2\" differ"
}

expect_file() {
	local file
	for file; do
		[ -e "$file" ] || fail "\"$file\" is not there"
	done
}

expect_no_file() {
	local file
	for file; do
		[ ! -e "$file" ] || fail "\"$file\" is there"
	done
}

# Nothing lies in a directory but these.
expect_only() {
	local want
	want=$(printf '%s\n' "${@:2}" | sort)
	[ "$(ls -A "$1")" = "$want" ] || fail "in \"$1\": $(ls -A "$1" | tr '\n' ' ')"
}

# expect_contents DISK RAW: the disk holds exactly what the raw file does.
expect_contents() {
	local disk raw
	disk=$(vhdtool hash "$1" | awk '{ print $1 }')
	raw=$(sha256sum "$2" | awk '{ print $1 }')
	expect_equal "$disk" "$raw" "contents of \"$1\" and \"$2\""
}
