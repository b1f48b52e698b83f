#!/bin/bash
# vhdtool convert beside qemu-img convert: past the page cache on both sides, and each as it comes.
#
#	HVKIT_BENCH_CONVERT=4G		size of the image, 40 % of which is data
. "${BASH_SOURCE[0]%/*}/lib.sh"
size=$(numfmt --from=iec "${HVKIT_BENCH_CONVERT:-4G}")

make_source() {
	python3 - "$size" <<-'PY'
	import os, random, sys
	size = int(sys.argv[1])
	random.seed(1)
	with open("source.raw", "wb") as f:
	    f.truncate(size)
	    at = 0
	    while at < size:
	        run = min(random.randint(1, 16) << 20, size - at)
	        if random.random() < 0.4:
	            f.seek(at)
	            for _ in range(run >> 20):
	                f.write(os.urandom(1 << 20))
	        at += run
	PY
}

qemu() { # CONTENDER FROM TO ARGUMENT...
	local name=$1 from=$2 to=$3
	shift 3
	timed "$name" qemu-img convert -f "$from" "$@" "source.${from/vpc/vhd}" "$to"
}

# What the device can do: as many bytes as the source has data, read and written at once. By fio's
# own clock, for starting it takes long.
device() {
	local data=$(($(stat -c %b source.vhd) * 512 >> 20))M
	calm
	note device "$(GLIBC_TUNABLES=glibc.malloc.hugetlb=1 fio --output-format=terse --direct=1 --ioengine=libaio --iodepth=8 --bs=1M \
		--size="$data" --name=read --rw=read --filename=source.vhd \
		--name=write --rw=write --filename=f.out --fallocate=posix |
		awk -F';' '{ t = $9 + $50; if (t > most) most = t } END { print most / 1000 }')"
}

fixed=(-O vpc -o subformat=fixed,force_size=on)
bare=(-t none -T none)

one() {
	case $1 in
	raw-dynamic) timed "$1" "$VHDTOOL" convert -q --direct --to dynamic source.raw v.out ;;
	raw-dynamic-q) qemu "$1" raw q.out "${bare[@]}" -O vpc -o force_size=on ;;
	dynamic-raw) timed "$1" "$VHDTOOL" convert -q --direct --to raw source.vhd v.out ;;
	dynamic-raw-q) qemu "$1" vpc q.out "${bare[@]}" -O raw ;;
	raw-fixed) timed "$1" "$VHDTOOL" convert -q --direct --to fixed source.raw v.out ;;
	raw-fixed-q) qemu "$1" raw q.out "${bare[@]}" "${fixed[@]}" ;;
	device) device ;;
	cached-dynamic) timed "$1" "$VHDTOOL" convert -q --to dynamic source.raw v.out ;;
	cached-dynamic-q) qemu "$1" raw q.out -O vpc -o force_size=on ;;
	cached-dynamic-s) timed "$1" sh -c 'qemu-img convert -f raw -O vpc -o force_size=on source.raw q.out && sync q.out' ;;
	cached-raw) timed "$1" "$VHDTOOL" convert -q --to raw source.vhd v.out ;;
	cached-raw-q) qemu "$1" vpc q.out -O raw ;;
	cached-raw-s) timed "$1" sh -c 'qemu-img convert -f vpc -O raw source.vhd q.out && sync q.out' ;;
	esac
}

versus() { # WORK CONTENDER PEER-SUFFIX PEER TARGET
	local ours theirs
	ours=$(median "$2") theirs=$(median "$2-$3")
	row "$1" "$ours" "$4" "$theirs" "$(over "$theirs" "$ours")" "$5"
}

make_source
"$VHDTOOL" convert -q --to dynamic source.raw source.vhd
interleaved raw-dynamic raw-dynamic-q
if command -v fio >/dev/null; then
	interleaved dynamic-raw dynamic-raw-q device
else
	interleaved dynamic-raw dynamic-raw-q
fi
interleaved raw-fixed raw-fixed-q
cat source.raw source.vhd >/dev/null
interleaved cached-dynamic cached-dynamic-q cached-dynamic-s
interleaved cached-raw cached-raw-q cached-raw-s
calm

head_row "convert, $(numfmt --to=iec "$size") with 40 % data"
none="qemu-img -t none -T none"
versus "raw to dynamic, --direct" raw-dynamic q "$none" "rate >= 1.3 x"
versus "dynamic to raw, --direct" dynamic-raw q "$none" "rate >= 1.3 x"
if [ -n "${seconds[device]:-}" ]; then
	row "the same" "$(median dynamic-raw)" "fio, reading and writing as much at once: the device's limit" \
		"$(median device)" "$(over "$(median device)" "$(median dynamic-raw)")" "-"
fi
versus "raw to fixed, --direct" raw-fixed q "$none" "rate >= 1.3 x"
versus "raw to dynamic, source cached, result durable" cached-dynamic q "qemu-img, result not durable" "-"
versus "the same" cached-dynamic s "qemu-img and sync" "-"
versus "dynamic to raw, source cached, result durable" cached-raw q "qemu-img, result not durable" "-"
versus "the same" cached-raw s "qemu-img and sync" "-"
memory=$(/usr/bin/env time -f %M "$VHDTOOL" convert -q --direct --to dynamic source.raw v.out 2>&1 | tail -n 1)
echo
echo "memory of the first, largest resident set: $((memory / 1024)) MiB (at most 64)"
