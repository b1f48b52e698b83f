#!/bin/bash
# One vspd with 32 disks, of which 8 are busy, over NBD: do they get the same, and together as much
# as one disk does with as many clients? That one is as large as the eight together, since a device
# may be faster where less of it is touched. How far its clients differ among each other shows what
# is not vspd's doing, but that of the clients and their processors.
#
#	HVKIT_BENCH_FAIR=256M		size of each busy disk; the others are empty
#	HVKIT_BENCH_FAIR_SECONDS=2	of each run
#	HVKIT_BENCH_RUNS=3		rounds
#	HVKIT_BENCH_OUT=build/bench	where vsp-fair.json goes
export HVKIT_BENCH_RUNS=${HVKIT_BENCH_RUNS:-3}
. "${BASH_SOURCE[0]%/*}/lib.sh"
. "$root/tests/bench/vsp-lib.sh"
size=$(numfmt --from=iec "${HVKIT_BENCH_FAIR:-256M}")
duration=${HVKIT_BENCH_FAIR_SECONDS:-2}
have_tools fio jq
fio --enghelp | grep -qw nbd || { echo "bench: SKIPPED: fio knows no NBD" >&2; exit 0; }
fit $((16 * size)) >/dev/null

make_disks() {
	local i
	for ((i = 1; i <= 32; i++)); do
		if [ $i -le 8 ]; then
			make_dynamic $i.vhd "$size"
		elif [ $i = 9 ]; then
			make_dynamic $i.vhd $((8 * size))
		else
			"$VHDTOOL" create -q --dynamic "$size" $i.vhd
		fi
		disks+=(--disk "d$i=$i.vhd")
	done
}

# Eight clients, of as many disks or of one.
make_jobs() { # one|eight PATTERN
	local i
	printf '[global]\nioengine=nbd\nrw=%s\nbs=4k\niodepth=8\n' "$2"
	printf 'time_based\nruntime=%s\nramp_time=1\nrandrepeat=0\nnorandommap\nrefill_buffers=0\n' "$duration"
	for ((i = 1; i <= 8; i++)); do
		printf '[client%s]\nuri=nbd+unix:///d%s?socket=%s/s.sock\n' $i \
			"$([ "$1" = eight ] && echo $i || echo 9)" "$dir"
		printf 'size=%s\n' "$([ "$1" = eight ] && echo "$size" || echo $((8 * size)))"
	done
}

one() { # one/PATTERN or eight/PATTERN
	local list
	make_jobs "${1%/*}" "${1#*/}" >jobs.fio
	list=$(fio --output-format=json jobs.fio | sed -n '/^{/,$p' |
		jq '[.jobs[] | .read.iops + .write.iops] | sort')
	note "$1 sum" "$(jq add <<<"$list")"
	note "$1 min" "$(jq first <<<"$list")"
	note "$1 max" "$(jq last <<<"$list")"
	note "$1 spread" "$(jq '100 * (last - first) / (add / length)' <<<"$list")"
}

disks=()
make_disks
start s.sock "$VSPD" "${disks[@]}" --nbd "unix:$dir/s.sock"
for pattern in randread randwrite; do
	interleaved one/$pattern eight/$pattern
done

printf '\n32 disks, 8 busy, 8 clients of depth 8 over NBD, %s each, on %s, medians of %s\n\n' \
	"$(numfmt --to=iec "$size")" "$(df --output=fstype . | tail -n 1)" "$runs"
echo "| work | 8 disks: least | most | spread | target | sum | one disk: sum | ratio | target | spread of its clients |"
echo "|---|---|---|---|---|---|---|---|---|---|"
for pattern in randread randwrite; do
	printf '| %s 4k | %.0f/s | %.0f/s | %.1f %% | <= 10 %% | %.0f/s | %.0f/s | %.2f | >= 1.0 | %.1f %% |\n' $pattern \
		"$(median "eight/$pattern min")" "$(median "eight/$pattern max")" \
		"$(median "eight/$pattern spread")" "$(median "eight/$pattern sum")" \
		"$(median "one/$pattern sum")" "$(paired "eight/$pattern sum" "one/$pattern sum")" "$(median "one/$pattern spread")"
done
save vsp-fair
