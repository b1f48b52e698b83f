#!/bin/bash
# Damaged, hostile and rare images: one clear sentence and the right exit code, or the right
# contents. The images and what each must give come from fixtures/gen/make_images.py.
. "${BASH_SOURCE[0]%/*}/../lib.sh"

verdict() {
	[ "$1" = pass ] || fail "$2"
}

judge_family() {
	local word name why
	need_tool python3
	python3 -B "$HVKIT_ROOT/fixtures/gen/make_images.py" images || fail "make_images.py failed"
	HVKIT_ASAN=${HVKIT_ASAN:-$SANITIZED} python3 -B "$HVKIT_ROOT/tests/cli/hostile.py" \
		images/manifest.json "$1" "$VHDTOOL" >verdicts || fail "hostile.py failed"
	while IFS=$'\t' read -r word name why; do
		subtest "$name" verdict "$word" "$why"
	done <verdicts
	[ -s verdicts ] || fail "no image was judged"
}

test_hostile_images_give_one_sentence() {
	judge_family hostile
}

test_rare_images_are_read() {
	judge_family valid
}

test_the_images_are_the_same_every_time() {
	need_tool python3
	local n
	for n in 1 2; do
		python3 -B "$HVKIT_ROOT/fixtures/gen/make_images.py" $n
		(cd $n && find . -type f -size -100M -print0 | sort -z | xargs -0 sha256sum) >$n.sums
	done
	expect_same_file 1.sums 2.sums
}
