#!/bin/bash
# A 2040 GiB dynamic disk of which 1 % is allocated (spread over all of it): what is proportional
# to the allocated part, not to the size. The blocks hold little, so that the host needs no 20 GiB.
. "${BASH_SOURCE[0]%/*}/lib.sh"
blocks=$((2040 * 512 / 100))

one() {
	case $1 in
	info) timed info "$VHDTOOL" info --json large.vhd ;;
	map) timed map "$VHDTOOL" map --json large.vhd ;;
	check) timed check "$VHDTOOL" check large.vhd ;;
	compare) timed compare "$VHDTOOL" compare large.vhd twin.vhd ;;
	qemu-map) timed qemu-map qemu-img map -f vpc --output=json large.vhd ;;
	esac
}

"$VHDTOOL" create -q --dynamic 2040G large.vhd
python3 "$root/tests/bench/scatter.py" large.vhd "$blocks"
cp --sparse=always large.vhd twin.vhd
interleaved info map check compare qemu-map

printf '\nA dynamic disk of 2040 GiB with %s blocks (1 %%) allocated, on %s, medians of %s\n\n' \
	"$blocks" "$(df --output=fstype . | tail -n 1)" "$runs"
echo "| work | time |"
echo "|---|---|"
for work in info map check compare; do
	printf '| vhdtool %s | %.3f s |\n' "$work" "$(median $work)"
done
printf '| qemu-img map | %.3f s |\n' "$(median qemu-map)"
