#!/bin/bash
# The benchmarks of the tools, one after the other; `tests/bench/NAME.sh` runs one of them.
# BENCH="convert hash" chooses some. That of the engine takes longer: `make bench-engine`.
set -eu
here=$(cd "${BASH_SOURCE[0]%/*}" && pwd)
for name in ${BENCH:-create convert hash large}; do
	"$here/bench/$name.sh"
	echo
done
