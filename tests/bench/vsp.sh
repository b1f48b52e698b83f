#!/bin/bash
# vspd beside qemu-storage-daemon: the same fio jobs (tests/bench/fio) over NBD on a Unix socket, on the
# same fully allocated dynamic VHD and on a raw file of the same size, past the page cache.
#
#	HVKIT_BENCH_VSP=4G		size of each disk
#	HVKIT_BENCH_SECONDS=4		of each run
#	HVKIT_BENCH_OUT=build/bench	where vsp.json and vsp.svg go (the chart needs gnuplot)
export HVKIT_BENCH_RUNS=${HVKIT_BENCH_RUNS:-3}
. "${BASH_SOURCE[0]%/*}/lib.sh"
VSPD=${VHDTOOL%/*}/vspd
here=$root/tests/bench
size=$(fit "$(numfmt --from=iec "${HVKIT_BENCH_VSP:-4G}")")
duration=${HVKIT_BENCH_SECONDS:-4}
results=${HVKIT_BENCH_OUT:-$root/build/bench}
jobs=(randread-4k-d32 randwrite-4k-d32 read-1m-d8 write-1m-d8 randread-4k-d1)
server=
trap 'leave; rm -rf "$dir"' EXIT

for tool in fio jq qemu-storage-daemon; do
	command -v "$tool" >/dev/null || { echo "bench: SKIPPED: needs $tool" >&2; exit 0; }
done
fio --enghelp | grep -qw nbd || { echo "bench: SKIPPED: fio knows no NBD" >&2; exit 0; }

leave() {
	[ ! "$server" ] || { kill "$server" && wait "$server"; } 2>/dev/null || :
	server=
	rm -f "$dir/sock"
}

enter() { # CONTENDER
	local i
	case $1 in
	vspd-dynamic) "$VSPD" --disk dynamic.vhd --nbd "unix:$dir/sock" & ;;
	vspd-raw) "$VSPD" --disk raw,format=raw --nbd "unix:$dir/sock" & ;;
	qemu-dynamic | qemu-raw)
		local driver=vpc file=dynamic.vhd
		[ "$1" = qemu-dynamic ] || driver=raw file=raw
		qemu-storage-daemon --blockdev \
			driver=file,filename=$file,node-name=f,cache.direct=on,aio=native \
			--blockdev driver=$driver,file=f,node-name=v,cache.direct=on \
			--nbd-server addr.type=unix,addr.path="$dir/sock" \
			--export nbd,id=e,node-name=v,name=,writable=on &
		;;
	esac
	server=$!
	for ((i = 0; i < 200; i++)); do
		[ ! -S "$dir/sock" ] || return 0
		sleep 0.02
	done
	echo "bench: $1 does not start" >&2
	exit 1
}

ticks() {
	awk '{ print $14 + $15 }' "/proc/$server/stat"
}

one() { # CONTENDER/JOB
	local who=${1%%/*} job=${1#*/} before json
	enter "$who"
	before=$(ticks)
	json=$(URI="nbd+unix:///?socket=$dir/sock" fio --output-format=json --size="$size" \
		--runtime="$duration" "$here/fio/$job.fio" | sed -n "/^{/,\$p")
	note "$1" "$(jq '.jobs[0] | (.read.iops + .write.iops)' <<<"$json")"
	note "$1 mean" "$(jq '.jobs[0] | (.read.clat_ns.mean + .write.clat_ns.mean) / 1000' <<<"$json")"
	# The ramp is in the ticks and not in the count: so many more.
	note "$1 cpu" "$(jq --argjson t $(($(ticks) - before)) --argjson d "$duration" \
		'.jobs[0] | $t / 100 / ((.read.total_ios + .write.total_ios) * ($d + 1) / $d) * 1e6' <<<"$json")"
	leave
}

truncate -s "$size" raw
"$VHDTOOL" bench -q --direct --write --force --pattern sequential -s 1M -d 8 --bytes "$size" --from raw raw
"$VHDTOOL" create -q --dynamic "$size" dynamic.vhd
"$VHDTOOL" bench -q --direct --write --force --pattern sequential -s 1M -d 8 --bytes "$size" dynamic.vhd

for job in "${jobs[@]}"; do
	interleaved {vspd-dynamic,qemu-dynamic,vspd-raw,qemu-raw}/"$job"
done

# ---- The table, JSON, a chart ----

show() { # JOB TARGET-SAME TARGET-RAW
	local what="" unit="/s" job=$1
	if [ "$job" = randread-4k-d1 ]; then
		printf '| %s, mean latency | %.0f us | %.0f us | %.2f | %s | %.0f us | %.2f | %s |\n' "$job" \
			"$(median "vspd-dynamic/$job mean")" "$(median "qemu-dynamic/$job mean")" \
			"$(paired "vspd-dynamic/$job mean" "qemu-dynamic/$job mean")" "$2" \
			"$(median "qemu-raw/$job mean")" \
			"$(paired "vspd-dynamic/$job mean" "qemu-raw/$job mean")" "$3"
		return
	fi
	printf '| %s | %.0f/s | %.0f/s | %.2f | %s | %.0f/s | %.2f | %s |\n' "$job" \
		"$(median "vspd-dynamic/$job")" "$(median "qemu-dynamic/$job")" \
		"$(paired "vspd-dynamic/$job" "qemu-dynamic/$job")" "$2" "$(median "qemu-raw/$job")" \
		"$(paired "vspd-dynamic/$job" "qemu-raw/$job")" "$3"
}

show_cpu() { # JOB
	printf '| %s, CPU seconds per million | %.1f | %.1f | %.2f | %s | %.1f | %.2f | |\n' "$1" \
		"$(median "vspd-dynamic/$1 cpu")" "$(median "qemu-dynamic/$1 cpu")" \
		"$(paired "vspd-dynamic/$1 cpu" "qemu-dynamic/$1 cpu")" "<= 0.6" \
		"$(median "qemu-raw/$1 cpu")" "$(paired "vspd-dynamic/$1 cpu" "qemu-raw/$1 cpu")"
}

save() {
	local key job
	mkdir -p "$results"
	for key in "${!seconds[@]}"; do
		jq -n --arg key "$key" --argjson value "$(median "$key")" '{($key): $value}'
	done | jq -s add >"$results/vsp.json"
	command -v gnuplot >/dev/null || return 0
	for job in randread-4k-d32 randwrite-4k-d32 randread-4k-d1; do
		echo "$job $(median "vspd-dynamic/$job") $(median "qemu-dynamic/$job") $(median "qemu-raw/$job")"
	done >chart.data
	gnuplot <<-END
		set terminal svg size 720,400 dynamic
		set output "$results/vsp.svg"
		set style data histograms
		set style fill solid 0.8 border -1
		set boxwidth 0.9
		set ylabel "requests per second"
		set key top right
		plot "chart.data" using 2:xtic(1) title "vspd, dynamic VHD", \
			"" using 3 title "qemu-storage-daemon, the same", \
			"" using 4 title "qemu-storage-daemon, raw file"
	END
}

printf '\nvspd over NBD, %s, on %s, medians of %s\n\n' "$(numfmt --to=iec "$size")" \
	"$(df --output=fstype . | tail -n 1)" "$runs"
echo "| work (dynamic VHD) | vspd | qemu-storage-daemon | ratio | target | its raw file | ratio | target |"
echo "|---|---|---|---|---|---|---|---|"
show randread-4k-d32 ">= 1.2" ">= 1.05"
show randwrite-4k-d32 ">= 10" ">= 1.05"
show read-1m-d8 ">= 1.3" ">= 1.0"
show write-1m-d8 ">= 1.3" ">= 1.0"
show randread-4k-d1 "<= 0.95" "-"
show_cpu randread-4k-d32
show_cpu randwrite-4k-d32
save
echo
echo "figures: $results/vsp.json"
