/*
 * I/O loops: each is a thread, with its hv_loop and the turns of those whose rate is limited there.
 * Private to vsp-storage/.
 *
 * A disk belongs to one loop with everything that serves it, so that a request takes no lock. The
 * control plane has a thread of its own and serves nothing. What it wants done to a disk, or wants
 * to know of one, the disk's loop does, between requests, while the control plane waits:
 * vsp_loop_run. So the function that is run may use all that is the control plane's, too. Only that
 * one thread calls vsp_loop_run, and no function that is run does: nobody waits in a circle.
 */
#ifndef VSP_STORAGE_LOOPS_H
#define VSP_STORAGE_LOOPS_H

#include <pthread.h>

#include "vsp-storage/qos.h"

#define VSP_MAX_LOOPS 64

struct vsp_loop {
	struct hv_loop *loop;
	struct vsp_qos *qos;
	unsigned disks; /* that it serves: the control plane counts them, for vsp_loops_least */

	/* The rest is loops.c's. */
	unsigned number; /* from 0 */
	pthread_t thread;
	bool runs, ends;
};

struct vsp_loops {
	unsigned count;
	struct vsp_loop loop[];
};

/* "4": 1 to VSP_MAX_LOOPS; NULL: one for each processor that we may use. -EINVAL. */
int vsp_loops_parse(const char *text, unsigned *ret, struct hv_err *err);

/*
 * Starts the threads, with the privileges of the one that calls. Each may look for work, before it
 * sleeps, for so much of its time (hv_loop_set_polling).
 */
int vsp_loops_new(unsigned count, unsigned poll_percent, struct vsp_loops **ret,
		  struct hv_err *err);

/* Ends the threads. Nothing is served any more, nor in flight. */
void vsp_loops_free(struct vsp_loops *loops);
HV_DEFINE_CLEANUP(struct vsp_loops, vsp_loops_free)

/* Where the next disk goes: the loop with the fewest. */
struct vsp_loop *vsp_loops_least(struct vsp_loops *loops);

/* Has the loop's thread call run(arg), and waits until it has. */
void vsp_loop_run(struct vsp_loop *loop, void (*run)(void *arg), void *arg);

#endif
