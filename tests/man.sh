#!/bin/bash
# The manual pages: well-formed for mandoc, and true. Every command of a program and every option in
# its --help occurs in its page, and the page shows no option that no --help knows.
set -u
cd "${HVKIT_ROOT:-${BASH_SOURCE[0]%/*}/..}" || exit 1
bin=$(dirname "${VHDTOOL:-build/bin/vhdtool}")
faults=0

fault() {
	echo "$1"
	faults=$((faults + 1))
}

options() {
	grep -oE -- '--[a-z][a-z0-9-]*' | sort -u
}

commands() { # the first words (one or two) of the indented lines of --help that have a --help of their own
	local word all
	all=$("$1" --help)
	sed -nE 's/^[[:space:]]+([a-z][a-z0-9-]*( [a-z][a-z0-9-]*)?)([[:space:]]{2}.*)?$/\1/p' <<<"$all" |
		sort -u | while read -r word; do
			# shellcheck disable=SC2086 # two words are two arguments
			[ "$("$1" $word --help 2>/dev/null || echo "$all")" = "$all" ] || echo "$word"
		done
}

check_program() { # PROGRAM PAGE
	local name=${2##*/} text known word
	text=$(mandoc -T ascii -O width=1000 "$2" | col -b)
	known=$("$1" --help | options)
	[ -n "$known" ] || fault "$1: --help names no options"
	while read -r word; do
		grep -qE "(^|${name%.*}) *$word( |\$)" <<<"$text" || fault "$name: command '$word' is missing"
		# shellcheck disable=SC2086 # two words are two arguments
		known+=$'\n'$("$1" $word --help | options)
	done < <(commands "$1")
	for word in $(sort -u <<<"$known"); do
		grep -qE -- "(^|[^a-z0-9-])$word([^a-z0-9-]|\$)" <<<"$text" ||
			fault "$name: option '$word' is missing"
	done
	for word in $(grep -oE '(^\.|[[:space:]])Fl -[a-z][a-z0-9-]*' "$2" | sed 's/.*Fl -/--/' | sort -u); do
		grep -qxF -- "$word" <<<"$known" || fault "$name: option '$word' is in no --help"
	done
}

command -v mandoc >/dev/null || {
	echo "needs mandoc, which is not installed"
	exit 77
}
pages=0
for page in */*.[1-8]; do
	[ -e "$page" ] || continue
	pages=$((pages + 1))
	mandoc -T lint -W warning "$page" || fault "$page: mandoc is not content"
	program=$bin/$(basename "${page%.*}")
	[ ! -x "$program" ] || check_program "$program" "$page"
done
for program in "$bin"/*; do
	compgen -G "*/${program##*/}.[1-8]" >/dev/null || fault "${program##*/} has no manual page"
done
[ $faults = 0 ] || exit 1
echo "$pages pages"
