# For the benchmarks of vspd: starting it or qemu-storage-daemon, what their processor time is, and
# where the figures go.
#
#	HVKIT_BENCH_OUT=build/bench	where figures (JSON) and charts (SVG, by gnuplot) go
VSPD=${VHDTOOL%/*}/vspd
results=${HVKIT_BENCH_OUT:-$root/build/bench}
servers=()
trap 'leave; rm -rf "$dir"' EXIT

have_tools() {
	local tool
	for tool; do
		command -v "$tool" >/dev/null || { echo "bench: SKIPPED: needs $tool" >&2; exit 0; }
	done
}

# start SOCKET COMMAND...: in the background, until leave; its process is $server.
start() {
	local socket=$1 i
	shift
	"$@" &
	server=$!
	servers+=("$server")
	for ((i = 0; i < 500; i++)); do
		[ ! -S "$socket" ] || return 0
		kill -0 "$server" 2>/dev/null || break
		sleep 0.02
	done
	echo "bench: does not start: $*" >&2
	exit 1
}

leave() {
	local pid
	for pid in ${servers[@]+"${servers[@]}"}; do
		{ kill "$pid" && wait "$pid"; } 2>/dev/null || :
	done
	servers=()
	rm -f ./*.sock
}

# Nanoseconds that a process has had of processors, with all its threads.
cpu_ns() { # PID
	cat /proc/"$1"/task/*/schedstat 2>/dev/null | awk '{ sum += $1 } END { printf "%.0f", sum }'
}

# A raw file without holes.
make_raw() { # FILE BYTES
	truncate -s "$2" "$1"
	"$VHDTOOL" bench -q --direct --write --force --pattern sequential -s 1M -d 8 --bytes "$2" \
		--from raw "$1"
}

# A dynamic VHD, all of it allocated.
make_dynamic() { # FILE BYTES
	"$VHDTOOL" create -q --dynamic "$2" "$1"
	"$VHDTOOL" bench -q --direct --write --force --pattern sequential -s 1M -d 8 --bytes "$2" "$1"
}

# All that was noted, as medians: NAME.json
save() { # NAME
	local key
	mkdir -p "$results"
	for key in "${!seconds[@]}"; do
		jq -n --arg key "$key" --argjson value "$(median "$key")" '{($key): $value}'
	done | jq -Ss add >"$results/$1.json"
	echo
	echo "figures: $results/$1.json"
}

# chart NAME YLABEL TITLE...: NAME.svg of the lines "LABEL VALUE..." on standard input.
chart() {
	local name=$1 label=$2 column=2 plots="" title
	shift 2
	cat >"$name.data"
	command -v gnuplot >/dev/null || { echo "no chart: needs gnuplot"; return 0; }
	for title; do
		plots+="${plots:+, }\"$name.data\" using $column:xtic(1) title \"$title\""
		column=$((column + 1))
	done
	gnuplot <<-END
		set terminal svg size 760,400 dynamic background "white"
		set output "$results/$name.svg"
		set style data histograms
		set style fill solid 0.8 border -1
		set boxwidth 0.9
		set grid ytics
		set yrange [0:*]
		set ylabel "$label"
		set key outside top center horizontal
		plot $plots
	END
	echo "chart: $results/$name.svg"
}
