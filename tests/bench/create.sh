#!/bin/bash
# How long `vhdtool create` takes beside what it is measured by: fallocate, and dd with O_DIRECT.
#
#	HVKIT_BENCH_FIXED=50G		size of the fixed disk
#	HVKIT_BENCH_WRITE=8G		size of the disk that is written
. "${BASH_SOURCE[0]%/*}/lib.sh"
fixed=$(numfmt --from=iec "${HVKIT_BENCH_FIXED:-50G}")
write=$(numfmt --from=iec "${HVKIT_BENCH_WRITE:-8G}")

# vhdtool's own figure of the writing part, without the reading back.
timed_write() {
	calm
	"$VHDTOOL" create --fixed "$write" --secure-zero=write --json w.out >json
	note write "$(jq .zeroing.write_seconds json)"
	note verify "$(jq .zeroing.verify_seconds json)"
}

one() {
	case $1 in
	fallocate) timed fallocate fallocate -l $((fixed + 512)) f.out ;;
	create) timed create "$VHDTOOL" create --fixed "$fixed" c.out ;;
	secure) timed secure "$VHDTOOL" create --fixed "$fixed" --secure-zero s.out ;;
	dd) timed dd dd if=/dev/zero of=d.out bs=4M oflag=direct count=$((write >> 22)) ;;
	write) timed_write ;;
	esac
}

fixed=$(fit "$fixed")
write=$(fit "$write")
# The first allocation reads the filesystem's own maps, which is nobody's merit.
one fallocate
seconds=()
interleaved fallocate create secure
interleaved dd write
calm

peer=$(median fallocate) dd=$(median dd)
size=$(numfmt --to=iec "$fixed") written=$(numfmt --to=iec "$write")
head_row "create"
row "create fixed $size" "$(median create)" "fallocate -l $size" "$peer" \
	"$(over "$(median create)" "$peer")" "time <= 1.3 x"
row "the same with --secure-zero, proof included" "$(median secure)" "fallocate -l $size" "$peer" \
	"$(over "$(median secure)" "$peer")" "time <= 2 x"
row "--secure-zero=write of $written, writing part" "$(median write)" "dd bs=4M oflag=direct" "$dd" \
	"$(over "$dd" "$(median write)")" "rate >= 0.95 x"
row "  reading it back" "$(median verify)" "dd bs=4M oflag=direct" "$dd" \
	"$(over "$dd" "$(median verify)")" "-"
