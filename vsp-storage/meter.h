/*
 * How much a disk, or a VM with all its disks (vm_meter.h), does: what it may at most, and whether
 * it gets what it is guaranteed. Private to vsp-storage/.
 *
 * Limits are token buckets, of operations and of bytes: filled at a rate, up to the burst. A
 * guarantee is of the time in which there is something to do: 500 operations per second are
 * honoured when whoever asked for 50 and waited for them had them within 100 ms, however little
 * that was asked for in the second.
 */
#ifndef VSP_STORAGE_METER_H
#define VSP_STORAGE_METER_H

#include <stdbool.h>

#include "vsp-storage/device.h"
#include "vsp-storage/limits.h"

struct vsp_bucket {
	double rate, size, level; /* per second; rate 0: no limit */
	uint64_t filled_ns;
};

enum vsp_verdict {
	VSP_UNKNOWN, /* there is no guarantee, or not enough to judge it by */
	VSP_SHORT,
	VSP_ENOUGH,
	VSP_PLENTY, /* a quarter more than guaranteed */
};

struct vsp_guarantee {
	double iops, bandwidth; /* per second; both 0: none. One of both is enough. */
	unsigned present;       /* requests that have come and not ended */
	uint64_t busy_since_ns, busy_ns;
	double operations, bytes; /* done in busy_ns */
	enum vsp_verdict verdict;
	uint64_t judged_ns;
};

/* All zeros has no limits. */
struct vsp_meter {
	struct vsp_bucket operations, bytes;
	struct vsp_guarantee guarantee;
};

/* What has been used so far stays used: a change gives no burst away. */
void vsp_meter_set(struct vsp_meter *meter, const struct vsp_limits *limits);

bool vsp_meter_is_limited(const struct vsp_meter *meter);
bool vsp_meter_is_guaranteed(const struct vsp_meter *meter);

/* Nanoseconds until the request may go; 0: now. */
double vsp_meter_wait(struct vsp_meter *meter, const struct vsp_request *request, uint64_t now);

/* It goes; or does not, after all. */
void vsp_meter_take(struct vsp_meter *meter, const struct vsp_request *request);
void vsp_meter_give_back(struct vsp_meter *meter, const struct vsp_request *request);

/* A request has come, and ended. */
void vsp_meter_begin(struct vsp_meter *meter, uint64_t now);
void vsp_meter_end(struct vsp_meter *meter, const struct vsp_request *request, uint64_t now);

/* So many of those that have come will end without vsp_meter_end. */
void vsp_meter_forget(struct vsp_meter *meter, unsigned count, uint64_t now);

/*
 * How it was since the last verdict, which holds for a while: several disks ask for the verdict on
 * their VM, on several loops.
 */
enum vsp_verdict vsp_meter_judge(struct vsp_meter *meter, uint64_t now);

/* Bytes of the request's data: flushes, zeroing and discarding have none. */
double vsp_meter_bytes(const struct vsp_request *request);

#endif
