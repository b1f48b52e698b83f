#!/bin/bash
# vspd beside qemu-storage-daemon over vhost-user, inside a guest: Debian's cloud kernel under QEMU
# (TCG, so that the guest is slow and the figures are the guest's as much as ours) runs the jobs of
# tests/bench/fio by libaio and O_DIRECT on four disks, one of each contender, in turns.
#
#	HVKIT_BENCH_GUEST=1G		size of each disk
#	HVKIT_BENCH_GUEST_SECONDS=2	of each job
#	HVKIT_BENCH_RUNS=3		rounds
#	HVKIT_BENCH_OUT=build/bench	where vsp-guest.json and vsp-guest.svg go
export HVKIT_BENCH_RUNS=${HVKIT_BENCH_RUNS:-3}
. "${BASH_SOURCE[0]%/*}/lib.sh"
. "$root/tests/bench/vsp-lib.sh"
size=$(fit "$(numfmt --from=iec "${HVKIT_BENCH_GUEST:-1G}")")
duration=${HVKIT_BENCH_GUEST_SECONDS:-2}
jobs=(randread-4k-d32 randwrite-4k-d32 read-1m-d8 write-1m-d8 randread-4k-d1)
contenders=(vspd-dynamic qemu-dynamic vspd-raw qemu-raw)
have_tools fio jq qemu-storage-daemon

HVKIT_ROOT=$root HVKIT_STATE=$dir
skip() {
	echo "bench: SKIPPED: $*" >&2
	exit 0
}
need_tool() {
	have_tools "$@"
}
. "$root/tests/guest.sh"
need_guest

# ---- The disks ----

serve() { # CONTENDER FILE
	local driver=raw
	case $1 in
	vspd-*) start "$1.sock" "$VSPD" --disk "$2,format=${2##*.}" --vhost-user "$1.sock" ;;
	qemu-*)
		[ "${2##*.}" = raw ] || driver=vpc
		start "$1.sock" qemu-storage-daemon \
			--blockdev driver=file,filename="$2",node-name=f,cache.direct=on,aio=native \
			--blockdev driver=$driver,file=f,node-name=v,cache.direct=on \
			--export vhost-user-blk,id=e,node-name=v,writable=on,addr.type=unix,addr.path="$1.sock"
		;;
	esac
	pids[$1]=$server
	devices+=(-chardev "socket,id=$1,path=$1.sock"
		-device "vhost-user-blk-pci,chardev=$1,num-queues=1,disable-legacy=on")
}

declare -A pids
devices=()
make_dynamic vspd.vhd "$size"
make_raw vspd.raw "$size"
cp --sparse=never vspd.vhd qemu.vhd
cp --sparse=never vspd.raw qemu.raw
sync
for contender in "${contenders[@]}"; do
	case $contender in
	*-dynamic) serve "$contender" "${contender%-*}.vhd" ;;
	*) serve "$contender" "${contender%-*}.raw" ;;
	esac
done

# ---- The guest ----

# One fio does everything, for it takes seconds to start there; marks on the console say which job
# runs, so that the processor time of each can be told.
make_jobs() {
	local run i who disk job
	printf '[global]\nioengine=libaio\ndirect=1\ntime_based\nruntime=%s\nnorandommap\n' "$duration"
	printf 'randrepeat=0\nrefill_buffers=0\nstonewall\n'
	for ((run = 0; run < runs; run++)); do
		for job in "${jobs[@]}"; do
			for ((i = 0; i < 4; i++)); do
				disk=$(((run + i) % 4))
				who=${contenders[disk]}/$job
				printf '[%s]\nfilename=/dev/vd%s\n' "${who/\//:}" "$(printf '%b' "\\x6$((disk + 1))")"
				printf 'exec_prerun=echo begin %s | tee /dev/console\n' "$who"
				printf 'exec_postrun=echo end %s | tee /dev/console\n' "$who"
				grep -E '^(rw|bs|iodepth)=' "$root/tests/bench/fio/$job.fio"
			done
		done
	done
}

run_fio() {
	/usr/bin/fio --minimal /jobs.fio >/out
	sed -n 's/^[0-9]*;fio/result;fio/p' /out
}

# What the console says: marks, and in the end a line for each job (fio's terse format, version 3).
hear() {
	local word rest before=0
	local -A spent
	local -a results_in_order=()
	while read -r word rest; do
		rest=${rest%$'\r'}
		case $word in
		begin) before=$(cpu_ns "${pids[${rest%%/*}]}") ;;
		end) spent[$rest]+=" $(($(cpu_ns "${pids[${rest%%/*}]}") - before))" ;;
		result*) results_in_order+=("$word $rest") ;;
		esac
	done
	if [ ${#results_in_order[@]} != $((runs * ${#jobs[@]} * 4)) ]; then
		tail -n 20 console qemu.log >&2
		echo "bench: the guest failed" >&2
		exit 1
	fi
	for word in "${results_in_order[@]}"; do
		count "$word"
	done
}

# Of one direction all fields are zero. `spent` is hear's.
count() { # LINE
	local -a field
	local who ios ns
	IFS=';' read -ra field <<<"$1"
	who=${field[2]/:/\/}
	note "$who" "$(awk "BEGIN { print ${field[7]} + ${field[48]} }")"
	note "$who mean" "$(awk "BEGIN { print ${field[15]} + ${field[56]} }")"
	ios=$(awk "BEGIN { print (${field[7]} * ${field[8]} + ${field[48]} * ${field[49]}) / 1000 }")
	read -r ns spent[$who] <<<"${spent[$who]}"
	note "$who cpu" "$(awk "BEGIN { print $ns / 1e3 / $ios }")"
}

GUEST_TIMEOUT=$((120 + runs * 20 * (duration + 2)))
make_initramfs ird.gz run_fio fio
make_jobs >jobs.fio
echo jobs.fio | cpio -o -H newc --quiet | gzip -1 >>ird.gz
hear < <(run_guest ird.gz -m 512 -object memory-backend-memfd,id=more,size=512M,share=on \
	-machine memory-backend=more "${devices[@]}" 2>qemu.log | tee console)

# ---- The table ----

show() { # JOB TARGET
	local what="" format="%.0f/s" key=$1
	[ "$1" != randread-4k-d1 ] || what=", mean latency" format="%.0f us" key="$1 mean"
	printf "| %s | $format | $format | %.2f | %s | $format | $format | %.2f |\n" "$1$what" \
		"$(median "vspd-dynamic/$key")" "$(median "qemu-dynamic/$key")" \
		"$(paired "vspd-dynamic/$key" "qemu-dynamic/$key")" "$2" \
		"$(median "vspd-raw/$key")" "$(median "qemu-raw/$key")" \
		"$(paired "vspd-raw/$key" "qemu-raw/$key")"
}

show_cpu() { # JOB
	printf '| %s, CPU seconds per million | %.1f | %.1f | %.2f | %s | %.1f | %.1f | %.2f |\n' "$1" \
		"$(median "vspd-dynamic/$1 cpu")" "$(median "qemu-dynamic/$1 cpu")" \
		"$(paired "vspd-dynamic/$1 cpu" "qemu-dynamic/$1 cpu")" "<= 0.6" \
		"$(median "vspd-raw/$1 cpu")" "$(median "qemu-raw/$1 cpu")" \
		"$(paired "vspd-raw/$1 cpu" "qemu-raw/$1 cpu")"
}

printf '\nvspd over vhost-user in a guest under TCG, %s, on %s, medians of %s\n\n' \
	"$(numfmt --to=iec "$size")" "$(df --output=fstype . | tail -n 1)" "$runs"
echo "| work | vspd, dynamic VHD | qemu-storage-daemon | ratio | target | vspd, raw | qemu-storage-daemon | ratio |"
echo "|---|---|---|---|---|---|---|---|"
for job in "${jobs[@]:0:4}"; do
	show "$job" ">= 1.1"
done
show randread-4k-d1 "<= 0.9"
for job in "${jobs[@]:0:2}"; do
	show_cpu "$job"
done
save vsp-guest
for job in "${jobs[@]:0:2}"; do
	echo "$job $(median "vspd-dynamic/$job") $(median "qemu-dynamic/$job") $(median "vspd-raw/$job") $(median "qemu-raw/$job")"
done | chart vsp-guest "requests per second in a guest" "vspd, dynamic VHD" \
	"qemu-storage-daemon, the same" "vspd, raw file" "qemu-storage-daemon, raw file"
