#!/bin/bash
# How long `vhdtool create` takes beside what it is measured by: fallocate, and dd with O_DIRECT.
# Prints a table of medians and ratios. Runs are interleaved, in an order that rotates, so that
# what else the machine does hits all alike.
#
#	HVKIT_BENCH_DIR=/var/tmp	where; on the filesystem that is to be measured
#	HVKIT_BENCH_FIXED=50G		size of the fixed disk
#	HVKIT_BENCH_WRITE=8G		size of the disk that is written
#	HVKIT_BENCH_RUNS=5		runs of each
set -eu -o pipefail
export LC_ALL=C.UTF-8 PATH="$PATH:/usr/sbin:/sbin"
root=$(cd "${BASH_SOURCE[0]%/*}/../.." && pwd)
VHDTOOL=${VHDTOOL:-$root/build/bin/vhdtool}
place=${HVKIT_BENCH_DIR:-/var/tmp}
fixed=$(numfmt --from=iec "${HVKIT_BENCH_FIXED:-50G}")
write=$(numfmt --from=iec "${HVKIT_BENCH_WRITE:-8G}")
runs=${HVKIT_BENCH_RUNS:-5}

dir=$(mktemp -d "$place/hvkit-bench.XXXXXX")
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM
cd "$dir"

declare -A seconds # lists, one for each contender

# Sizes are cut to what fits, with a word about it.
fit() {
	local avail most
	avail=$(df --output=avail -B1 . | tail -n 1)
	most=$(((avail - (2 << 30)) >> 30 << 30))
	if [ "$1" -le "$most" ]; then
		echo "$1"
	elif [ "$most" -ge $((1 << 30)) ]; then
		echo "bench: $place has room for $(numfmt --to=iec "$most") instead of $(numfmt --to=iec "$1")" >&2
		echo "$most"
	else
		echo "bench: $place has no room; set HVKIT_BENCH_DIR" >&2
		exit 1
	fi
}

# What the run before left is gone, and the filesystem has nothing else to do.
calm() {
	rm -f ./*.out
	sync -f .
	sleep 0.3
}

timed() { # CONTENDER COMMAND...
	local name=$1 start
	shift
	calm
	start=$EPOCHREALTIME
	"$@" >/dev/null 2>&1
	seconds[$name]+=" $(awk "BEGIN { print $EPOCHREALTIME - $start }")"
}

# vhdtool's own figure of the writing part, without the reading back.
timed_write() {
	calm
	"$VHDTOOL" create --fixed "$write" --secure-zero=write --json w.out >json
	seconds[write]+=" $(jq .zeroing.write_seconds json)"
	seconds[verify]+=" $(jq .zeroing.verify_seconds json)"
}

one() {
	case $1 in
	fallocate) timed fallocate fallocate -l $((fixed + 512)) f.out ;;
	create) timed create "$VHDTOOL" create --fixed "$fixed" c.out ;;
	secure) timed secure "$VHDTOOL" create --fixed "$fixed" --secure-zero s.out ;;
	dd) timed dd dd if=/dev/zero of=d.out bs=4M oflag=direct count=$((write >> 22)) ;;
	write) timed_write ;;
	esac
}

interleaved() { # CONTENDER...
	local run i all=("$@")
	for ((run = 0; run < runs; run++)); do
		for ((i = 0; i < ${#all[@]}; i++)); do
			one "${all[(run + i) % ${#all[@]}]}"
		done
	done
}

median() {
	tr ' ' '\n' <<<"${seconds[$1]# }" | sort -g | awk '{ v[NR] = $1 }
		END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

# row WORK SECONDS PEER SECONDS RATIO TARGET
row() {
	printf '| %s | %.3f s | %s | %.3f s | %.2f | %s |\n' "$@"
}

over() {
	awk "BEGIN { print $1 / $2 }"
}

fixed=$(fit "$fixed")
write=$(fit "$write")
# The first allocation reads the filesystem's own maps, which is nobody's merit.
one fallocate
seconds=()
interleaved fallocate create secure
interleaved dd write
calm

peer=$(median fallocate) dd=$(median dd)
size=$(numfmt --to=iec "$fixed") written=$(numfmt --to=iec "$write")
echo "create, on $(df --output=fstype . | tail -n 1), medians of $runs"
echo
echo "| work | vhdtool | peer | peer's time | ratio | target |"
echo "|---|---|---|---|---|---|"
row "create fixed $size" "$(median create)" "fallocate -l $size" "$peer" \
	"$(over "$(median create)" "$peer")" "time <= 1.3 x"
row "the same with --secure-zero, proof included" "$(median secure)" "fallocate -l $size" "$peer" \
	"$(over "$(median secure)" "$peer")" "time <= 2 x"
row "--secure-zero=write of $written, writing part" "$(median write)" "dd bs=4M oflag=direct" "$dd" \
	"$(over "$dd" "$(median write)")" "rate >= 0.95 x"
row "  reading it back" "$(median verify)" "dd bs=4M oflag=direct" "$dd" \
	"$(over "$dd" "$(median verify)")" "-"
