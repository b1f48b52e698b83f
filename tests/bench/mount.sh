#!/bin/bash
# vhdmount beside the FUSE export of qemu-storage-daemon, vhdimount, and the plain file. The same
# image for everybody, 40 % data, and the page cache dropped before each run (by root; otherwise the
# files are read past it). What is warm has been read once before, the same way.
#
#	HVKIT_BENCH_MOUNT=4G		size of the disk
#	HVKIT_BENCH_SECONDS=4		of each run of random reads
export HVKIT_BENCH_RUNS=${HVKIT_BENCH_RUNS:-5}
. "${BASH_SOURCE[0]%/*}/lib.sh"
VHDMOUNT=${VHDTOOL%/*}/vhdmount
size=$(fit "$(numfmt --from=iec "${HVKIT_BENCH_MOUNT:-4G}")")
duration=${HVKIT_BENCH_SECONDS:-4}
export_pid=
trap 'leave; rm -rf "$dir"' EXIT

have() {
	command -v "$1" >/dev/null
}

# ---- Contenders: enter NAME sets $file ----

leave() {
	local i
	[ ! -e ours ] || ! mountpoint -q ours || fusermount3 -u ours
	[ ! -e vhdi ] || ! mountpoint -q vhdi || fusermount -u vhdi
	if [ "$export_pid" ]; then
		kill "$export_pid" && wait "$export_pid" || :
		export_pid=
	fi
	for ((i = 0; i < 100; i++)); do
		findmnt -rno TARGET | grep -q "^$dir/" || return 0
		sleep 0.05
	done
}

enter() { # CONTENDER DISK
	local i
	case $1 in
	ours)
		mkdir -p ours
		"$VHDMOUNT" "$2" ours
		file=ours/disk.raw
		;;
	kept)
		mkdir -p ours
		"$VHDMOUNT" --kernel-cache "$2" ours
		file=ours/disk.raw
		;;
	qemu)
		touch qemu
		qemu-storage-daemon --blockdev driver=file,filename="$2",node-name=f \
			--blockdev driver=vpc,file=f,node-name=v \
			--export fuse,id=e,node-name=v,mountpoint="$dir/qemu",writable=off &
		export_pid=$!
		file=qemu
		for ((i = 0; i < 100; i++)); do
			! mountpoint -q qemu || break
			sleep 0.05
		done
		;;
	vhdimount)
		mkdir -p vhdi
		vhdimount "$2" vhdi >/dev/null
		file=vhdi/vhdi1
		;;
	raw) file=source.raw ;;
	plain) file=$2 ;;
	esac
}

cold() {
	sync
	if [ -w /proc/sys/vm/drop_caches ]; then
		echo 3 >/proc/sys/vm/drop_caches
	else
		for i in ./*.vhd source.raw; do
			dd if="$i" iflag=nocache count=0 status=none
		done
	fi
}

# ---- Work: MB/s or requests/s ----

read_all() { # NAME
	local start=$EPOCHREALTIME
	dd if="$file" of=/dev/null bs=1M count=$((size >> 20)) status=none
	note "$1" "$(awk "BEGIN { print $size / 1e6 / ($EPOCHREALTIME - $start) }")"
}

random() { # NAME
	local json
	json=$(fio --name=random --filename="$file" --rw=randread --bs=4k --ioengine=psync --thread \
		--numjobs=4 --group_reporting --time_based --runtime="$duration" --size="$size" \
		--output-format=json --invalidate=0)
	note "$1" "$(jq '.jobs[0].read.iops' <<<"$json")"
}

one() { # WORK-CONTENDER
	local work=${1%%-*} who=${1#*-}
	local disk=dynamic.vhd
	[ "$work" != warm ] || disk=fixed.vhd
	enter "$who" "$disk"
	case $work in
	all)
		cold
		read_all "$1"
		;;
	random)
		cold
		random "$1"
		;;
	warm)
		dd if="$file" of=/dev/null bs=1M count=$((size >> 20)) status=none
		read_all "$1"
		;;
	esac
	leave
}

figure() { # FORMAT NAME
	[ "${seconds[$2]-}" ] && printf "$1" "$(median "$2")" || printf -- -
}

ratio() { # NAME PEER
	[ "${seconds[$2]-}" ] && printf '%.2f' "$(paired "$1" "$2")" || printf -- -
}

table_row() { # WORK UNIT KEY PEER TARGET
	printf '| %s | %s %s | %s | %s | %s | %s |\n' "$1" "$(figure %.0f "$3")" "$2" "$4" \
		"$(figure %.0f "${3%%-*}-$5")" "$(ratio "$3" "${3%%-*}-$5")" "$6"
}

python3 - "$size" <<-'PY'
	import os, random, sys
	size, r = int(sys.argv[1]), random.Random(4)
	with open("source.raw", "wb") as f:
	    f.truncate(size)
	    at = 0
	    while at < size:
	        n = min(r.randrange(1, 64) << 16, size - at)
	        if r.random() < 0.4:
	            f.seek(at)
	            f.write(os.urandom(n))
	        at += n
PY
"$VHDTOOL" convert -q --to dynamic source.raw dynamic.vhd
"$VHDTOOL" convert -q --to fixed source.raw fixed.vhd
"$VHDTOOL" create -q --dynamic 2040G huge.vhd

peers=()
! have qemu-storage-daemon || peers+=(qemu)
! have vhdimount || peers+=(vhdimount)
interleaved all-ours all-raw "${peers[@]/#/all-}"
have fio && have jq && interleaved random-ours random-raw "${peers[@]/#/random-}"
interleaved warm-ours warm-kept warm-plain

# ---- A huge disk ----

mkdir -p ours
for ((i = 0; i < runs; i++)); do
	start=$EPOCHREALTIME
	"$VHDMOUNT" huge.vhd ours
	ls ours >/dev/null
	note first "$(awk "BEGIN { print ($EPOCHREALTIME - $start) * 1000 }")"
	dd if=ours/disk.raw of=/dev/null bs=1M count=4096 status=none
	pid=$(getfattr --only-values -n user.vhdmount.pid ours 2>/dev/null)
	note memory "$(awk '/VmHWM/ { print $2 / 1024 }' "/proc/$pid/status")"
	leave
done

printf '\nvhdmount, %s of which 40 %% is data, on %s, medians of %s\n\n' "$(numfmt --to=iec "$size")" \
	"$(df --output=fstype . | tail -n 1)" "$runs"
echo "| work | vhdmount | peer | peer's | ratio | target |"
echo "|---|---|---|---|---|---|"
table_row "read all, dynamic, cold" MB/s all-ours qemu-storage-daemon qemu ">= 2.5"
table_row "" MB/s all-ours vhdimount vhdimount ">= 6"
table_row "" MB/s all-ours "the raw file" raw ">= 0.8"
table_row "random 4 KiB, 4 readers, cold" /s random-ours qemu-storage-daemon qemu ">= 2"
table_row "" /s random-ours vhdimount vhdimount ">= 6"
table_row "" /s random-ours "the raw file" raw -
table_row "read all, fixed, warm" MB/s warm-ours "the plain file" plain ">= 0.9 with passthrough, else 0.6"
table_row "the same, --kernel-cache" MB/s warm-kept "the plain file" plain ">= 0.6"
printf '| from command to listing, 2040 GiB | %.0f ms | - | - | - | <= 50 ms |\n' "$(median first)"
printf '| memory, 2040 GiB | %.1f MiB | - | - | - | <= 32 MiB |\n' "$(median memory)"
