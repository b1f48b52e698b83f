#!/bin/bash
# vspd beside qemu-storage-daemon: the same fio jobs (tests/bench/fio) over NBD on a Unix socket, on the
# same fully allocated dynamic VHD and on a raw file of the same size, past the page cache.
#
#	HVKIT_BENCH_VSP=4G		size of each disk
#	HVKIT_BENCH_SECONDS=2		of each run
#	HVKIT_BENCH_RUNS=3		runs of each
#	HVKIT_BENCH_OUT=build/bench	where vsp.json and vsp.svg go
export HVKIT_BENCH_RUNS=${HVKIT_BENCH_RUNS:-3}
. "${BASH_SOURCE[0]%/*}/lib.sh"
. "$root/tests/bench/vsp-lib.sh"
size=$(fit "$(numfmt --from=iec "${HVKIT_BENCH_VSP:-4G}")")
duration=${HVKIT_BENCH_SECONDS:-2}
jobs=(randread-4k-d32 randwrite-4k-d32 read-1m-d8 write-1m-d8 randread-4k-d1)
have_tools fio jq qemu-storage-daemon
fio --enghelp | grep -qw nbd || { echo "bench: SKIPPED: fio knows no NBD" >&2; exit 0; }

enter() { # CONTENDER
	local driver=vpc file=dynamic.vhd
	[[ $1 = *-dynamic ]] || driver=raw file=raw
	case $1 in
	vspd-dynamic) start s.sock "$VSPD" --disk $file --nbd unix:s.sock ;;
	vspd-raw) start s.sock "$VSPD" --disk $file,format=raw --nbd unix:s.sock ;;
	*)
		start s.sock qemu-storage-daemon \
			--blockdev driver=file,filename=$file,node-name=f,cache.direct=on,aio=native \
			--blockdev driver=$driver,file=f,node-name=v,cache.direct=on \
			--nbd-server addr.type=unix,addr.path=s.sock \
			--export nbd,id=e,node-name=v,name=,writable=on
		;;
	esac
}

one() { # CONTENDER/JOB
	local who=${1%%/*} job=${1#*/} before json
	enter "$who"
	before=$(cpu_ns "$server")
	json=$(URI="nbd+unix:///?socket=$dir/s.sock" fio --output-format=json --size="$size" \
		--runtime="$duration" "$root/tests/bench/fio/$job.fio" | sed -n "/^{/,\$p")
	note "$1" "$(jq '.jobs[0] | (.read.iops + .write.iops)' <<<"$json")"
	note "$1 mean" "$(jq '.jobs[0] | (.read.clat_ns.mean + .write.clat_ns.mean) / 1000' <<<"$json")"
	# The ramp of one second is in the processor time and not in the count: so many more.
	note "$1 cpu" "$(jq --argjson ns $(($(cpu_ns "$server") - before)) --argjson d "$duration" \
		'.jobs[0] | $ns / 1000 / ((.read.total_ios + .write.total_ios) * ($d + 1) / $d)' <<<"$json")"
	leave
}

make_raw raw "$size"
make_dynamic dynamic.vhd "$size"
for job in "${jobs[@]}"; do
	interleaved {vspd-dynamic,qemu-dynamic,vspd-raw,qemu-raw}/"$job"
done

# ---- The table ----

show() { # JOB TARGET-SAME TARGET-RAW
	local job=$1
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
save vsp
for job in randread-4k-d32 randwrite-4k-d32 randread-4k-d1; do
	echo "$job $(median "vspd-dynamic/$job") $(median "qemu-dynamic/$job") $(median "qemu-raw/$job")"
done | chart vsp "requests per second over NBD" "vspd, dynamic VHD" \
	"qemu-storage-daemon, the same" "qemu-storage-daemon, raw file"
