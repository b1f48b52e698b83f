#!/bin/bash
# Shows the main job on real input, in a temporary directory that is gone afterwards. Started by
# `make quickstart`; the size of the fixed disk may be given ("quickstart.sh 2G").
set -eu -o pipefail
export LC_ALL=C.UTF-8 PATH="$PATH:/usr/sbin:/sbin"
root=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
VHDTOOL=${VHDTOOL:-$root/build/bin/vhdtool}
want=$(numfmt --from=iec "${1:-50G}")
reserve=$((3 << 30)) # for everything but the fixed disk

if [ -t 1 ]; then bold=$'\e[1m' plain=$'\e[0m'; else bold='' plain=''; fi

vhdtool() {
	"$VHDTOOL" "$@"
}

say() {
	echo
	printf '%s\n' "$@"
}

show() {
	printf '%s$ %s%s\n' "$bold" "$*" "$plain"
}

# Shows a command, then runs it.
run() {
	show "$@"
	"$@" || {
		echo "quickstart: that command failed with status $?" >&2
		exit 1
	}
}

# The same, and shows the beginning only.
glimpse() {
	run "$@" | awk 'NR <= 14; NR == 15 { print "..." }'
}

room() {
	df --output=avail -B1 "$1" 2>/dev/null | tail -n 1
}

# The first place with room for all of it, else the one with the most. Memory is no place.
choose_place() {
	local place best= most=0 avail
	for place in "${TMPDIR:-/var/tmp}" /var/tmp "$root" "${HOME:-/}"; do
		[ -d "$place" ] && [ -w "$place" ] || continue
		case $(stat -f -c %T "$place") in tmpfs | ramfs) continue ;; esac
		avail=$(room "$place")
		if [ "$avail" -ge $((want + reserve)) ]; then
			echo "$place"
			return
		fi
		if [ "$avail" -gt $most ]; then
			best=$place most=$avail
		fi
	done
	echo "${best:-${TMPDIR:-/var/tmp}}"
}

# A tree of real files, large enough to be worth it and small enough to be quick.
choose_files() {
	local tree size
	for tree in /usr/share/doc /usr/include /usr/share; do
		size=$(du -sm "$tree" 2>/dev/null | cut -f 1)
		if [ "${size:-0}" -ge 1 ] && [ "$size" -le 600 ]; then
			echo "$tree"
			return
		fi
	done
	echo "$root"
}

clean() {
	rm -rf "$dir"
}

place=$(choose_place)
dir=$(mktemp -d "$place/hvkit-quickstart.XXXXXX")
trap clean EXIT
trap 'exit 130' INT TERM HUP PIPE
cd "$dir"

size=${1:-50G}
avail=$(room .)
if [ "$avail" -lt $((want + reserve)) ]; then
	fits=$(((avail - reserve) / (1 << 30)))
	if [ $fits -lt 1 ]; then
		echo "quickstart: $place has $(numfmt --to=iec "$avail") of room, 4G are needed; set TMPDIR to a place with more" >&2
		exit 1
	fi
	size=${fits}G
	say "$place has room for $(numfmt --to=iec "$avail") only: the fixed disk gets $size instead of ${1:-50G}."
fi

say "Working in $dir ($(df --output=fstype . | tail -n 1)), $(numfmt --to=iec "$avail") free."
say "A fixed disk of $size, all of its space reserved, and proven to hold nothing old:"
run vhdtool create --fixed "$size" --secure-zero
run vhdtool info disk.vhd
run vhdtool check disk.vhd
run vhdtool map disk.vhd
run vhdtool hash disk.vhd

files=$(choose_files)
count=$(find "$files" 2>/dev/null | wc -l)
megabytes=$(($(du -sm "$files" 2>/dev/null | cut -f 1) * 3 / 2 + 64))
say "A dynamic disk that holds an ext4 filesystem with the $count files of $files:"
printf 'the parent wrote this\n' >note
truncate -s 4096 note
run mke2fs -q -t ext4 -b 4096 -N $((count + 1000)) -d "$files" base.raw ${megabytes}M
debugfs -w -R "write note NOTE" base.raw >/dev/null 2>&1
run vhdtool convert --to dynamic base.raw base.vhd
run vhdtool info base.vhd
run vhdtool check base.vhd
run vhdtool compare base.raw base.vhd
glimpse vhdtool map base.vhd
run vhdtool hash base.vhd
run sha256sum base.raw

say "A differencing child of it, and a write into the child, in the middle of the file NOTE:"
block=$(debugfs -R "bmap NOTE 0" base.raw 2>/dev/null)
printf 'the child wrote this!\n' >change
truncate -s 512 change
run vhdtool create --diff base.vhd child.vhd
run vhdtool write child.vhd --offset $((block * 4096)) --from-file change
run vhdtool info --chain child.vhd
run vhdtool check child.vhd
glimpse vhdtool map child.vhd
run vhdtool hash child.vhd

say "The chain as one raw file and as one fixed disk; both equal the chain, and the parent is unchanged:"
run vhdtool convert --to raw child.vhd flat.raw
run vhdtool convert --to fixed child.vhd flat.vhd
run vhdtool compare child.vhd flat.raw
run vhdtool compare child.vhd flat.vhd
run vhdtool hash child.vhd flat.vhd base.vhd
run sha256sum flat.raw
run e2fsck -fn flat.raw
show "debugfs -R 'cat NOTE' base.raw; debugfs -R 'cat NOTE' flat.raw"
debugfs -R "cat NOTE" base.raw 2>/dev/null | tr -d '\0'
debugfs -R "cat NOTE" flat.raw 2>/dev/null | tr -d '\0'

say "Done in $SECONDS s; $dir is gone again. What to type next:" "" \
	"  build/bin/vhdtool --help                   the commands" \
	"  build/bin/vhdtool create --fixed 50G --secure-zero" \
	"  man ./vhdtool/vhdtool.1                    the manual, with examples" \
	"  make check                                 everything tested" \
	"  sudo make install                          vhdtool, its manual, the library"
