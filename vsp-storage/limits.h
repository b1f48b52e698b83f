/*
 * What a disk, or a VM with all its disks, may use: operations and bytes per second, and how many
 * of them at once after a time of rest.
 */
#ifndef VSP_STORAGE_LIMITS_H
#define VSP_STORAGE_LIMITS_H

#include <stdbool.h>
#include <stdint.h>

#include "hvcore/err.h"

/* 0: no limit, no guarantee; of a burst: a tenth of a second's worth. */
struct vsp_limits {
	uint64_t iops, iops_burst;
	uint64_t bandwidth, bandwidth_burst; /* bytes of reads and writes */
	uint64_t iops_min, bandwidth_min; /* guaranteed under contention: one of both is enough */
};

/*
 * "iops", "iops-burst" and "iops-min" take numbers, "bandwidth" and its like sizes; "0" is none.
 * -ENOENT without a sentence when name is none of them, -EINVAL.
 */
int vsp_limits_set(struct vsp_limits *limits, const char *name, const char *value,
		   struct hv_err *err);

#endif
