#!/bin/bash
# What vhost-user costs vspd and qemu-storage-daemon by itself: tests/bench/vhostload, which keeps a
# ring full and looks for answers without end, against a disk with nothing behind it, a file in the
# page cache, and the same file past it.
#
#	HVKIT_BENCH_BATCH=256M		size of the file
#	HVKIT_BENCH_RUNS=3		runs of each, of a second
#	HVKIT_BENCH_OUT=build/bench	where vsp-batch.json and vsp-batch.svg go
export HVKIT_BENCH_RUNS=${HVKIT_BENCH_RUNS:-3}
. "${BASH_SOURCE[0]%/*}/lib.sh"
. "$root/tests/bench/vsp-lib.sh"
load=${VHDTOOL%/bin/*}/tests/bench/vhostload
size=$(fit "$(numfmt --from=iec "${HVKIT_BENCH_BATCH:-256M}")")
have_tools jq qemu-storage-daemon

enter() { # WHO DISK
	local disk=()
	if [ "$1" = vspd ]; then
		case $2 in
		null) disk=("null:1T") ;;
		cached) disk=("file,format=raw,cache=writeback") ;;
		direct) disk=("file,format=raw") ;;
		esac
		start s.sock "$VSPD" --disk "${disk[@]}" --vhost-user s.sock
		return
	fi
	case $2 in
	null) disk=(driver=null-co,node-name=v,size=$((1 << 40)),read-zeroes=on) ;;
	cached) disk=(driver=file,node-name=v,filename=file,aio=threads) ;;
	direct) disk=(driver=file,node-name=v,filename=file,cache.direct=on,aio=native) ;;
	esac
	start s.sock qemu-storage-daemon --blockdev "${disk[@]}" --export \
		vhost-user-blk,id=e,node-name=v,writable=on,addr.type=unix,addr.path=s.sock
}

one() { # WHO/DISK/PATTERN/DEPTH
	local who disk pattern depth json
	IFS=/ read -r who disk pattern depth <<<"$1"
	enter "$who" "$disk"
	json=$("$load" --socket s.sock --pattern "$pattern" --depth "$depth" --seconds 1 --json)
	note "$1" "$(jq .iops <<<"$json")"
	note "$1 cpu" "$(jq '.cpu_ns_per_request / 1000' <<<"$json")"
	note "$1 core" "$(jq .iops_per_core <<<"$json")"
	note "$1 mean" "$(jq '.mean_ns / 1000' <<<"$json")"
	leave
}

make_raw file "$size"
cat file >/dev/null
works=(null/randread/1 null/randread/64 null/randwrite/64 cached/randread/64 cached/randwrite/64
	direct/randread/64)
for work in "${works[@]}"; do
	interleaved {vspd,qemu}/"$work"
done

printf '\nvspd and qemu-storage-daemon with a client that batches, 4 KiB, medians of %s\n\n' "$runs"
echo "| disk, work, depth | vspd | of a core | CPU s per million | qemu-storage-daemon | of a core | CPU s per million | ratio | ratio of CPU |"
echo "|---|---|---|---|---|---|---|---|---|"
for work in "${works[@]}"; do
	printf '| %s | %.0f/s | %.0f/s | %.2f | %.0f/s | %.0f/s | %.2f | %.2f | %.2f |\n' "${work//\// }" \
		"$(median "vspd/$work")" "$(median "vspd/$work core")" "$(median "vspd/$work cpu")" \
		"$(median "qemu/$work")" "$(median "qemu/$work core")" "$(median "qemu/$work cpu")" \
		"$(paired "vspd/$work" "qemu/$work")" "$(paired "vspd/$work cpu" "qemu/$work cpu")"
done
save vsp-batch
for work in "${works[@]:1}"; do
	echo "${work//\//-} $(median "vspd/$work core") $(median "qemu/$work core")"
done | chart vsp-batch "requests per second of a core" vspd qemu-storage-daemon
