#!/bin/bash
# Which folder may include what. One line for each violation; fails when there is one.
#
# A file includes its own folder and lower floors, by paths from the root; programs never include
# each other; tests may include any public header. A private header says "Inside FOLDER" or "Private
# to" in its opening comment: it is for its own folder (and tests/unit/FOLDER, and tests/fuzz) and is
# not installed.
# Each outside library is spoken to by the files named here only.
#
#	floors.sh		checks
#	floors.sh public FILE...	prints those of the headers that are public
set -u
cd "${HVKIT_ROOT:-${BASH_SOURCE[0]%/*}/..}" || exit 1

declare -A below=(
	[hvcore]=""
	[vhd]="hvcore"
	[snapshot]="hvcore vhd"
	[vhdtool]="hvcore vhd snapshot"
	[backupd]="hvcore vhd snapshot"
	[fuse-mount]="hvcore vhd snapshot"
	[vsp-storage]="hvcore vhd snapshot"
	[fixtures]=""
	[tests]="hvcore vhd snapshot fuse-mount vsp-storage"
)
declare -A library=(
	["blkid/*"]="hvcore/probe.c"
	["jansson.h"]="hvcore/json.c"
	["openssl/evp.h"]="hvcore/digest.c"
	["openssl/ssl.h"]="vsp-storage/tls.c tests/unit/vsp-storage/tls.c"
	["openssl/err.h"]="vsp-storage/tls.c"
	["libaio.h"]="hvcore/loop.c"
	["fuse*.h"]="fuse-mount/session.c fuse-mount/serve.h fuse-mount/forward.[ch]"
	["criterion/*"]="tests/unit/*"
)
files=0
violations=0

violation() {
	echo "$1:$2: $3"
	violations=$((violations + 1))
}

private() {
	head -n 5 "$1" | grep -qE "Inside ${1%%/*}|[Pp]rivate to"
}

own() { # FILE LINE PATH
	local folder=${1%%/*} target=${3%%/*}
	if [[ $3 != */* || ! -e $3 ]]; then
		violation "$1" "$2" "\"$3\" is no path from the root"
	elif [[ $target != "$folder" && " ${below[$folder]} " != *" $target "* ]]; then
		violation "$1" "$2" "$folder/ may not include $target/"
	elif [[ $target != "$folder" && $1 != tests/unit/"$target"/* && $1 != tests/fuzz/* ]] &&
		private "$3"; then
		violation "$1" "$2" "\"$3\" is private to $target/"
	fi
}

outside() { # FILE LINE PATH
	local pattern allowed
	for pattern in "${!library[@]}"; do
		[[ $3 == $pattern ]] || continue
		set -f
		for allowed in ${library[$pattern]}; do
			[[ $1 != $allowed ]] || return
		done
		violation "$1" "$2" "<$3> is for ${library[$pattern]}"
	done
}

if [ "${1-}" = public ]; then
	for file in "${@:2}"; do
		private "$file" || echo "$file"
	done
	exit
fi

while read -r file; do
	files=$((files + 1))
	while IFS=: read -r line text; do
		path=${text#*[\"<]}
		path=${path%%[\">]*}
		case $text in
		*\"*) own "$file" "$line" "$path" ;;
		*\<*) outside "$file" "$line" "$path" ;;
		esac
	done < <(grep -nE '^[[:space:]]*#[[:space:]]*include' "$file")
done < <(find ${!below[@]} -name '*.[ch]' 2>/dev/null | sort)

[ $violations = 0 ] || exit 1
echo "$files files keep to their floors"
