/*
 * Who may go when, between a device's submission and its disk: limits of rate, fairness between
 * disks that share a device of the host, and guarantees.
 *
 * Limits: a disk has its own, and shares those of its VM with the VM's other disks (meter.h). A
 * request goes when there is enough in all buckets of both (one larger than a bucket: when that is
 * full, into debt). Requests of one disk go in their order.
 *
 * Fairness: disks whose files lie on one device of the host are a group. As long as one of them
 * alone has something to do, it may have as many requests there as it likes. When there are more
 * (within a second), all together have no more than a window, and take turns (deficit round robin,
 * by a cost of one for a request and one for each 32 KiB). Who has nothing at the disk need not
 * wait for its first request: a quiet disk keeps its latency beside a busy one.
 *
 * Guarantees: the group is looked at every 50 ms. For the sake of one that gets less than it is
 * guaranteed, those without a guarantee have a smaller window, down to one request of all of them;
 * and it gets longer turns, if it has requests that wait. Both go back when there is plenty. That
 * needs no knowledge of what the device of the host can do; what it cannot do is not guaranteed.
 *
 * All belongs to one loop and its thread, but for a VM's limits (vm_meter.h), and two numbers by
 * which loops share a device of the host; see qos_group.c. Turns are taken among the disks of a
 * loop, and each loop has its part of the windows. A device without limits that is alone pays for
 * some comparisons.
 */
#ifndef VSP_STORAGE_QOS_H
#define VSP_STORAGE_QOS_H

#include <sys/types.h>

#include "hvcore/loop.h"
#include "vsp-storage/vm_meter.h"

/*
 * Requests of a group at the disk when several are busy, for each of them and in all. More for each
 * would have devices do more at once; less lets those share fairly who ask for less at once.
 */
#define VSP_QOS_WINDOW_EACH 16
#define VSP_QOS_WINDOW 128
#define VSP_QOS_PERIOD_NS UINT64_C(50000000) /* from one look at guarantees to the next */
#define VSP_QOS_BUSY_NS UINT64_C(1000000000) /* as long is a disk busy after a request came */

struct vsp_qos;
struct vsp_qos_group;

int vsp_qos_new(struct hv_loop *loop, struct vsp_qos **ret, struct hv_err *err);

/* Nobody is a member. */
void vsp_qos_free(struct vsp_qos *qos);
HV_DEFINE_CLEANUP(struct vsp_qos, vsp_qos_free)

/* The device's side; the struct is part of its owner's and stays until vsp_qos_leave. */
struct vsp_qos_member {
	struct vsp_device *device;
	struct vsp_qos *qos;
	struct vsp_qos_group *group;
	struct vsp_meter own;
	struct vsp_vm_meter *shared;        /* the VM's; NULL: none */
	const struct vsp_request *reserved; /* the first that waits, if it has its part of that */
	uint64_t reserved_ns;               /* from when on */
	bool paused;
	struct vsp_request_queue held;
	unsigned held_count, sent_count; /* requests that wait, and that are with the disk */
	uint64_t delayed;                /* requests that had to wait, ever */

	uint64_t last_ns; /* when the last one came */
	bool busy;

	/* Turns. */
	double credit, quantum; /* what may still be sent, and what each turn adds */
	bool granted;           /* this turn's has been added */
	bool has_plenty;        /* of what it is guaranteed */
	bool limited;           /* a limit has made it wait since the last look at guarantees */
	struct vsp_qos_member *next;       /* of those that hold requests */
	struct vsp_qos_member *group_next; /* of its group */
};

/* Joins the group of the device that holds the disk's file. -ENOMEM. */
int vsp_qos_join(struct vsp_qos *qos, struct vsp_qos_member *member, struct vsp_device *device,
		 const struct vsp_limits *own, struct vsp_vm_meter *shared, struct hv_err *err);

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

/* For the device: a request has come, and one that came so has ended. */
void vsp_qos_submit(struct vsp_qos_member *member, struct vsp_request *request);
void vsp_qos_done(struct vsp_qos_member *member, const struct vsp_request *request, uint64_t now);

/* For on_error.c: one that came so is not with the disk any more, though it has not ended. */
void vsp_qos_forget(struct vsp_qos_member *member, uint64_t now);

/* What the timer does: looks at guarantees when it is time, and has go what may go now. */
void vsp_qos_turn(struct vsp_qos *qos);

#endif
