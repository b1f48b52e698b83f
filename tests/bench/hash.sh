#!/bin/bash
# vhdtool hash of a disk half of which is data: reading and SHA-256 overlap, so that it should run
# at the rate of the slower of the two alone. The peers are SHA-256 over memory (openssl speed) for
# all bytes, and reading the data past the page cache.
#
#	HVKIT_BENCH_HASH=8G		size of the disk
. "${BASH_SOURCE[0]%/*}/lib.sh"
size=$(fit "$(numfmt --from=iec "${HVKIT_BENCH_HASH:-8G}")")

one() {
	case $1 in
	hash) timed hash "$VHDTOOL" hash -q --direct source.vhd ;;
	read) timed read dd if=source.vhd of=/dev/null bs=2M iflag=direct ;;
	sha)
		rate=$(openssl speed -mr -seconds 2 -bytes 1048576 -evp sha256 2>/dev/null |
			awk -F: '/^\+F:/ { print $NF }')
		note sha "$(awk "BEGIN { print $size / $rate }")"
		;;
	esac
}

python3 - "$size" <<-'PY'
	import os, sys
	size = int(sys.argv[1])
	with open("source.raw", "wb") as f:
	    f.truncate(size)
	    for at in range(0, size, 128 << 20):
	        f.seek(at)
	        for _ in range(64):
	            f.write(os.urandom(1 << 20))
PY
"$VHDTOOL" convert -q --to dynamic source.raw source.vhd
rm source.raw
interleaved hash read sha

head_row "hash, $(numfmt --to=iec "$size") half empty, dynamic, --direct"
hash=$(median hash) read=$(median read) sha=$(median sha)
slower=$(awk "BEGIN { print ($read > $sha) ? $read : $sha }")
row "hash" "$hash" "SHA-256 alone (openssl speed)" "$sha" "$(over "$sha" "$hash")" "-"
row "hash" "$hash" "reading alone (dd, O_DIRECT)" "$read" "$(over "$read" "$hash")" "-"
row "hash" "$hash" "the slower of the two" "$slower" "$(over "$slower" "$hash")" "rate >= 0.9 x"
