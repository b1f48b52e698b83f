# For the benchmarks: each script compares contenders in one run, prints a table of medians and
# ratios, and is repeated by anyone with `make bench` or by itself. Runs are interleaved, in an
# order that rotates, so that what else the machine does hits all alike.
#
#	HVKIT_BENCH_DIR=/var/tmp	where; on the filesystem that is to be measured
#	HVKIT_BENCH_RUNS=5		runs of each
set -eu -o pipefail
export LC_ALL=C.UTF-8 PATH="$PATH:/usr/sbin:/sbin"
root=$(cd "${BASH_SOURCE[0]%/*}/../.." && pwd)
VHDTOOL=${VHDTOOL:-$root/build/bin/vhdtool}
place=${HVKIT_BENCH_DIR:-/var/tmp}
runs=${HVKIT_BENCH_RUNS:-5}

dir=$(mktemp -d "$place/hvkit-bench.XXXXXX")
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM
cd "$dir"

declare -A seconds # lists, one for each contender (or of what else was noted)

# A size, cut to what fits (with a word about it) when it and 2 GiB more are not free.
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

note() { # CONTENDER SECONDS (or another number)
	seconds[$1]+=" $2"
}

timed() { # CONTENDER COMMAND...
	local name=$1 start
	shift
	calm
	start=$EPOCHREALTIME
	"$@" >/dev/null 2>&1 || { echo "bench: failed: $*" >&2; exit 1; }
	note "$name" "$(awk "BEGIN { print $EPOCHREALTIME - $start }")"
}

# Calls one NAME for each name, as often as runs says.
interleaved() {
	local run i all=("$@")
	for ((run = 0; run < runs; run++)); do
		for ((i = 0; i < ${#all[@]}; i++)); do
			one "${all[(run + i) % ${#all[@]}]}"
		done
	done
}

middle() {
	sort -g | awk '{ v[NR] = $1 }
		END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

median() {
	tr ' ' '\n' <<<"${seconds[$1]# }" | middle
}

# The median of CONTENDER / PEER, each run divided by that of the same round.
paired() { # CONTENDER PEER
	paste <(tr ' ' '\n' <<<"${seconds[$1]# }") <(tr ' ' '\n' <<<"${seconds[$2]# }") |
		awk '{ print $1 / $2 }' | middle
}

over() {
	awk "BEGIN { print $1 / $2 }"
}

head_row() { # TITLE
	printf '\n%s, on %s, medians of %s\n\n' "$1" "$(df --output=fstype . | tail -n 1)" "$runs"
	echo "| work | vhdtool | peer | peer's time | ratio | target |"
	echo "|---|---|---|---|---|---|"
}

# row WORK SECONDS PEER SECONDS RATIO TARGET
row() {
	printf '| %s | %.3f s | %s | %.3f s | %.2f | %s |\n' "$@"
}
