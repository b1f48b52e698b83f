/*
 * Limits of rate, between a device's submission and its disk.
 *
 * A disk has limits of its own, and shares those of its VM with the VM's other disks. Both are
 * token buckets: filled at a rate, up to the burst; a request goes when there is enough in both of
 * both (a request larger than a bucket: when that is full, into debt). Requests of one disk go in
 * their order; disks that wait take turns, so that a busy one does not starve its neighbours.
 *
 * Flushes, zeroing and discarding count as operations, not as bytes. All belongs to one loop and
 * its thread. A device without limits pays for one comparison.
 */
#ifndef VSP_STORAGE_QOS_H
#define VSP_STORAGE_QOS_H

#include "hvcore/loop.h"
#include "vsp-storage/device.h"
#include "vsp-storage/limits.h"

struct vsp_qos;

struct vsp_bucket {
	double rate, size, level; /* per second; rate 0: no limit */
	uint64_t filled_ns;
};

/* Of a disk, or of a VM. All zeros has no limits. */
struct vsp_meter {
	struct vsp_bucket operations, bytes;
};

/* What has been used so far stays used: a change gives no burst away. */
void vsp_meter_set(struct vsp_meter *meter, const struct vsp_limits *limits);

int vsp_qos_new(struct hv_loop *loop, struct vsp_qos **ret, struct hv_err *err);

/* Nobody is a member. */
void vsp_qos_free(struct vsp_qos *qos);
HV_DEFINE_CLEANUP(struct vsp_qos, vsp_qos_free)

/* The device's side; the struct is part of its owner's and stays until vsp_qos_leave. */
struct vsp_qos_member {
	struct vsp_device *device;
	struct vsp_qos *qos;
	struct vsp_meter own;
	struct vsp_meter *shared; /* the VM's; NULL: none */
	bool paused;
	struct vsp_request_queue held;
	unsigned held_count;
	uint64_t delayed;            /* requests that had to wait, ever */
	struct vsp_qos_member *next; /* of those that hold requests */
};

void vsp_qos_join(struct vsp_qos *qos, struct vsp_qos_member *member, struct vsp_device *device,
		  const struct vsp_limits *own, struct vsp_meter *shared);

/* The limits have changed: those of the member, or of others through a meter that is shared. */
void vsp_qos_changed(struct vsp_qos *qos);

/*
 * Holds everything that is submitted from now on; what the disk has goes on. When
 * vsp_qos_is_quiet, nothing is with the disk.
 */
void vsp_qos_pause(struct vsp_qos_member *member);
void vsp_qos_resume(struct vsp_qos_member *member);
bool vsp_qos_is_quiet(const struct vsp_qos_member *member);

/* No limits any more: what is held goes to the disk at once. */
void vsp_qos_leave(struct vsp_qos_member *member);

/* For the device. */
void vsp_qos_submit(struct vsp_qos_member *member, struct vsp_request *request);

#endif
