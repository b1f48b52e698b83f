#!/bin/bash
# All benchmarks, one after the other; `tests/bench/NAME.sh` runs one of them. BENCH="convert hash"
# chooses some.
set -eu
here=$(cd "${BASH_SOURCE[0]%/*}" && pwd)
for name in ${BENCH:-create convert hash large}; do
	"$here/bench/$name.sh"
	echo
done
