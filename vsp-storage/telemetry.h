/*
 * What a device has done, and does: counters and latencies by operation and size, queue depth, and
 * a flight recorder that has the last requests and the last slow ones. Always on: about 15 ns per
 * request, no allocation, no lock, and a look at the clock for each batch only (hv_loop_now).
 * Belongs to its device's loop.
 */
#ifndef VSP_STORAGE_TELEMETRY_H
#define VSP_STORAGE_TELEMETRY_H

#include <stdbool.h>
#include <stdint.h>

#include "hvcore/disk.h"
#include "hvcore/histogram.h"

#define VSP_OPS (HV_FLUSH + 1)
#define VSP_SIZES 6        /* classes of length: up to 4, 16, 64, 256 KiB, 1 MiB, and above */
#define VSP_DEPTHS 11      /* classes of queue depth: up to 1, 2, 4, ... 512, and above */
#define VSP_LAST_COUNT 256 /* requests in the flight recorder; a power of two */
#define VSP_SLOW_COUNT 32  /* slow ones; likewise */

struct vsp_request;

struct vsp_op_stats {
	uint64_t bytes, errors;         /* completed; bytes of those without an error */
	struct hv_histogram latency_ns; /* from vsp_device_submit to done; counts operations */
};

/* One request that has ended. */
struct vsp_record {
	uint64_t start_ns;         /* by hv_now_ns */
	uint64_t took_ns, held_ns; /* held by limits is part of took */
	uint64_t offset, length;
	int32_t result;
	uint32_t depth; /* requests in flight when it came, itself included */
	uint8_t op;
	bool fua;
};

struct vsp_telemetry {
	struct vsp_op_stats stats[VSP_OPS][VSP_SIZES]; /* by enum hv_io_op */
	uint64_t depths[VSP_DEPTHS], depth_sum;        /* of requests as they come */
	unsigned in_flight;
	uint64_t busy_ns, busy_since_ns;     /* with anything in flight, up to when that began */
	struct vsp_request *oldest, *newest; /* in flight, as they came */

	uint64_t slow_ns; /* from when on a request, held by no limit, is slow; 0: none is */
	struct vsp_record last[VSP_LAST_COUNT], slow[VSP_SLOW_COUNT];
	uint64_t last_count, slow_count; /* ever; the latest is at (count - 1) % COUNT */
};

/* A request has come at request->start_ns. */
void vsp_telemetry_begin(struct vsp_telemetry *telemetry, struct vsp_request *request);

/* It has ended. Was it slow? */
bool vsp_telemetry_end(struct vsp_telemetry *telemetry, struct vsp_request *request, int result,
		       uint64_t now);

/* As if it had ended now: for what is in flight. */
struct vsp_record vsp_telemetry_record(const struct vsp_request *request, int result, uint64_t now);

/* The longest request of a class, and the greatest depth of one; UINT64_MAX for the last. */
uint64_t vsp_size_limit(unsigned class);
uint64_t vsp_depth_limit(unsigned class);

/* Of all sizes together. */
uint64_t vsp_telemetry_operations(const struct vsp_telemetry *telemetry, enum hv_io_op op);
uint64_t vsp_telemetry_bytes(const struct vsp_telemetry *telemetry, enum hv_io_op op);
uint64_t vsp_telemetry_errors(const struct vsp_telemetry *telemetry, enum hv_io_op op);
uint64_t vsp_telemetry_busy_ns(const struct vsp_telemetry *telemetry, uint64_t now);

/* "read", "write", ...: a constant. */
const char *vsp_op_name(enum hv_io_op op);

#endif
