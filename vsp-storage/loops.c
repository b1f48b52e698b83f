/*
 * I/O loops and their threads.
 */
#include "vsp-storage/loops.h"

#include <errno.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>

#include "hvcore/thread.h"

/* How many. */

static unsigned usable_processors(void)
{
	cpu_set_t set;
	int count = sched_getaffinity(0, sizeof(set), &set) ? 1 : CPU_COUNT(&set);

	return count < VSP_MAX_LOOPS ? (unsigned)count : VSP_MAX_LOOPS;
}

int vsp_loops_parse(const char *text, unsigned *ret, struct hv_err *err)
{
	unsigned long count;
	char *end;

	if (!text) {
		*ret = usable_processors();
		return 0;
	}
	count = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || count < 1 || count > VSP_MAX_LOOPS)
		return hv_fail(err, -EINVAL, "\"%s\" is no number of loops: give 1 to %d", text,
			       VSP_MAX_LOOPS);
	*ret = (unsigned)count;
	return 0;
}

/* Running. */

struct call {
	struct hv_work work; /* the first member */
	void (*run)(void *arg);
	void *arg;
	sem_t done;
};

static void call_arrived(struct hv_work *work, int result)
{
	struct call *call = (struct call *)work;

	(void)result;
	call->run(call->arg);
	sem_post(&call->done);
}

void vsp_loop_run(struct vsp_loop *loop, void (*run)(void *arg), void *arg)
{
	struct call call = { .work = { .done = call_arrived }, .run = run, .arg = arg };

	sem_init(&call.done, 0, 0);
	hv_loop_post(loop->loop, &call.work);
	while (sem_wait(&call.done))
		; /* a signal */
	sem_destroy(&call.done);
}

/* Threads. */

static void *serve(void *arg)
{
	struct vsp_loop *loop = arg;

	while (!loop->ends)
		hv_loop_serve(loop->loop, -1);
	return NULL;
}

static int start(struct vsp_loop *loop, struct hv_err *err)
{
	char name[16];
	int rc = hv_thread_start(&loop->thread, 0, serve, loop);

	if (rc)
		return hv_fail_errno(err, rc, "cannot start the thread of a loop");
	loop->runs = true;
	snprintf(name, sizeof(name), "vspd-io-%u", loop->number);
	pthread_setname_np(loop->thread, name);
	return 0;
}

static int begin(struct vsp_loop *loop, unsigned poll_percent, struct hv_err *err)
{
	int rc = hv_loop_new(&loop->loop, err);

	if (rc)
		return rc;
	hv_loop_set_polling(loop->loop, poll_percent);
	rc = hv_loop_listen(loop->loop, err);
	if (rc == 0)
		rc = vsp_qos_new(loop->loop, &loop->qos, err);
	return rc ? rc : start(loop, err);
}

int vsp_loops_new(unsigned count, unsigned poll_percent, struct vsp_loops **ret, struct hv_err *err)
{
	HV_AUTO(vsp_loops_free)
	struct vsp_loops *loops = calloc(1, sizeof(*loops) + count * sizeof(loops->loop[0]));
	int rc = 0;

	if (!loops)
		return hv_fail(err, -ENOMEM, "not enough memory for loops");
	while (loops->count < count && rc == 0) {
		struct vsp_loop *loop = &loops->loop[loops->count];

		loop->number = loops->count++;
		rc = begin(loop, poll_percent, err);
	}
	if (rc)
		return rc;
	*ret = hv_steal(loops);
	return 0;
}

static void end(void *arg)
{
	struct vsp_loop *loop = arg;

	loop->ends = true;
}

void vsp_loops_free(struct vsp_loops *loops)
{
	for (unsigned i = 0; loops && i < loops->count; i++) {
		struct vsp_loop *loop = &loops->loop[i];

		if (loop->runs) {
			vsp_loop_run(loop, end, loop);
			pthread_join(loop->thread, NULL);
		}
		vsp_qos_free(loop->qos);
		hv_loop_free(loop->loop);
	}
	free(loops);
}

struct vsp_loop *vsp_loops_least(struct vsp_loops *loops)
{
	struct vsp_loop *least = &loops->loop[0];

	for (unsigned i = 1; i < loops->count; i++)
		if (loops->loop[i].disks < least->disks)
			least = &loops->loop[i];
	return least;
}
