#!/bin/bash
# What vspd tells about the work of its disks: vspctl stats and requests, slow requests, and text for
# Prometheus. Where qemu-io is not installed, there is nobody to do work.
. "${BASH_SOURCE[0]%/*}/../lib.sh"
. "$HVKIT_ROOT/tests/vspd.sh"

# serve DISK-OPTIONS...: a VM "web" with the disk "data", 64 MiB.
serve() {
	vhdtool create -q --dynamic 64M d.vhd
	start_daemon
	vspctl vm add web --disk "data=$PWD/d.vhd${1+$(printf ',%s' "$@")}" >/dev/null
}

work() {
	qemu-io -t writeback -f raw "${@/#/-c}" "nbd:unix:$PWD/run/vsp/web/data.nbd" >"$HVKIT_STATE/work"
	! grep -i 'failed\|error' "$HVKIT_STATE/work" || fail "qemu-io is not content"
}

test_work_is_counted_by_operation_and_size() {
	need_tool qemu-io jq
	serve
	work 'write -P 1 0 4k' 'write -P 1 64k 64k' 'write -P 1 1M 1M' 'write -P 1 4M 1M' 'read 0 8k' flush
	expect_exit 0 vspctl stats web --json
	expect_json '.disks[0] | .vm == "web" and .disk == "data" and .in_flight == 0 and .slow == 0 and
		.busy_ns > 0 and ([.queue_depths[].operations] | add) >= 6'
	expect_json '.disks[0].write | .operations == 4 and .bytes == 2166784 and .errors == 0 and
		.latency_ns.max >= .latency_ns.p50 and
		[.sizes[] | [.up_to_bytes, .operations, .bytes]] ==
			[[4096, 1, 4096], [65536, 1, 65536], [1048576, 2, 2097152]]'
	expect_json '.disks[0].read | .operations == 1 and .sizes[0].up_to_bytes == 16384'
	expect_json '.disks[0].flush.operations >= 1'
	expect_exit 0 vspctl stats
	expect_out "OPERATIONS" "write"
	stop_vspd
	expect_quiet_vspd
}

# Each line is a comment or a sample; buckets do not fall and end in the count.
test_text_for_prometheus() {
	need_tool qemu-io
	serve
	work 'write -P 1 0 4k' 'write -P 1 64k 64k' 'read 0 8k' flush
	expect_exit 0 vspctl stats --prometheus
	cp "$out" metrics
	expect_out '# TYPE hvkit_disk_operations_total counter' \
		'hvkit_disk_operations_total{vm="web",disk="data",op="write"} 2' \
		'hvkit_disk_bytes_total{vm="web",disk="data",op="write"} 69632' \
		'hvkit_disk_latency_seconds_count{vm="web",disk="data",op="write",up_to_bytes="4096"} 1' \
		'hvkit_disk_latency_seconds_bucket{vm="web",disk="data",op="write",up_to_bytes="65536",le="+Inf"} 1' \
		'hvkit_disk_queue_depth_bucket{vm="web",disk="data",le="1"}' \
		'hvkit_disk_size_bytes{vm="web",disk="data"} 67108864' \
		'hvkit_disk_oldest_request_seconds{vm="web",disk="data"} 0.000000000'
	python3 - metrics <<-'END'
	import re, sys
	types, seen, samples = {}, {}, set()
	for line in open(sys.argv[1]):
	    m = re.fullmatch(r'# (HELP|TYPE) ([a-z_]+) (.+)\n', line)
	    if m:
	        if m[1] == "TYPE":
	            assert m[2] not in types, line
	            types[m[2]] = m[3]
	        continue
	    m = re.fullmatch(r'([a-z_]+)\{((?:[a-z_]+="[^"\\]*",?)+)\} ([0-9.e+-]+)\n', line)
	    assert m, line
	    assert (m[1], m[2]) not in samples, line
	    samples.add((m[1], m[2]))
	    family = re.sub("_(bucket|sum|count)$", "", m[1])
	    kind = types.get(m[1]) or types[family]
	    assert (kind == "counter") == m[1].endswith("_total"), line
	    if m[1].endswith("_bucket"):
	        key = family, re.sub(',le="[^"]*"', "", m[2])
	        assert float(m[3]) >= seen.get(key, 0), line
	        seen[key] = float(m[3])
	    elif m[1].endswith("_count"):
	        assert seen[family, m[2]] == float(m[3]), line
	assert len(samples) > 50
	END
	stop_vspd
}

test_the_last_requests_are_known() {
	need_tool qemu-io jq
	serve
	work 'write -P 1 8k 4k' 'write -P 1 -f 64k 64k' 'read 8k 512'
	expect_exit 0 vspctl requests web data --json
	expect_json '.slow == [] and .in_flight == [] and
		[.last[] | select(.operation != "flush") | [.operation, .offset, .length, .fua]] ==
			[["write", 8192, 4096, false], ["write", 65536, 65536, true], ["read", 8192, 512, false]] and
		([.last[] | .error == null and .took_ns > 0 and .held_ns == 0 and .depth == 1] | all)'
	expect_exit 0 vspctl requests web data
	expect_out DEPTH "done"
	expect_exit 1 vspctl requests web nothing
	expect_sentence nothing
	stop_vspd
}

# What waits for its limit is in flight, and not slow: it is meant to wait.
test_what_limits_hold_is_in_flight_and_not_slow() {
	need_tool qemu-io jq
	serve slow-ms=50 iops=4 iops-burst=1
	work 'write -P 1 0 4k' &
	wait $!
	work 'aio_write -P 1 4k 4k' 'aio_write -P 2 8k 4k' aio_flush &
	worker=$!
	for _ in $(seq 200); do
		vspctl requests web data --json >requests
		! jq -e '.in_flight | length > 0' requests >/dev/null || break
		sleep 0.01
	done
	jq -e '.in_flight[0].operation == "write"' requests >/dev/null || fail "$(cat requests)"
	wait $worker
	expect_exit 0 vspctl requests web data --json
	expect_json '.slow == [] and ([.last[].held_ns] | max) > 50000000'
	expect_exit 0 vspctl disk set web data slow-ms=0 iops=0
	stop_vspd
	expect_quiet_vspd
}

# Every disk takes a millisecond for many megabytes.
test_slow_requests_are_told_and_kept() {
	need_tool qemu-io jq
	serve slow-ms=1 cache=writeback
	for _ in $(seq 50); do
		work 'write -P 1 0 32M' 'write -P 2 32M 32M' flush
		vspctl requests web data --json >requests
		! jq -e '.slow | length > 0' requests >/dev/null || break
	done
	jq -e '.slow | length > 0 and ([.[].took_ns] | min) >= 1000000' requests >/dev/null ||
		fail "$(cat requests)"
	stop_vspd
	grep -q "d.vhd: slow: .* took [0-9]* ms, [0-9]* were in flight" "$vspd_err" ||
		fail "it says: $(cat "$vspd_err")"
}
