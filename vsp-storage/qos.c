/*
 * Token buckets, and turns.
 */
#include "vsp-storage/qos.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

#include "hvcore/clock.h"

#define SECOND_NS 1e9
#define BURST_SECONDS 0.1

struct line {
	struct vsp_qos_member *first, *last;
};

struct vsp_qos {
	struct hv_loop *loop;
	struct hv_watch timer;
	struct line line; /* those that hold requests, by whose turn it is */
};

/* Buckets. */

static void fill(struct vsp_bucket *bucket, uint64_t now)
{
	if (now > bucket->filled_ns)
		bucket->level += bucket->rate * (double)(now - bucket->filled_ns) / SECOND_NS;
	if (bucket->level > bucket->size)
		bucket->level = bucket->size;
	bucket->filled_ns = now;
}

/* Nanoseconds until that much may be taken; 0: now. */
static double wait_for(struct vsp_bucket *bucket, double amount, uint64_t now)
{
	double missing;

	if (!bucket->rate)
		return 0;
	fill(bucket, now);
	missing = (amount < bucket->size ? amount : bucket->size) - bucket->level;
	return missing > 0 ? missing / bucket->rate * SECOND_NS : 0;
}

static void bucket_set(struct vsp_bucket *bucket, uint64_t rate, uint64_t burst, uint64_t now)
{
	bool limited = bucket->rate != 0;

	fill(bucket, now);
	bucket->rate = (double)rate;
	bucket->size = burst ? (double)burst : bucket->rate * BURST_SECONDS;
	if (bucket->size < 1)
		bucket->size = 1;
	if (!limited || bucket->level > bucket->size)
		bucket->level = bucket->size;
}

void vsp_meter_set(struct vsp_meter *meter, const struct vsp_limits *limits)
{
	uint64_t now = hv_now_ns();

	bucket_set(&meter->operations, limits->iops, limits->iops_burst, now);
	bucket_set(&meter->bytes, limits->bandwidth, limits->bandwidth_burst, now);
}

static double bytes_of(const struct vsp_request *request)
{
	bool counts = request->op == HV_READ || request->op == HV_WRITE;

	return counts ? (double)request->length : 0;
}

static double meter_wait(struct vsp_meter *meter, const struct vsp_request *request, uint64_t now)
{
	double operations = wait_for(&meter->operations, 1, now);
	double bytes = wait_for(&meter->bytes, bytes_of(request), now);

	return operations > bytes ? operations : bytes;
}

static void meter_take(struct vsp_meter *meter, const struct vsp_request *request)
{
	meter->operations.level -= 1;
	meter->bytes.level -= bytes_of(request);
}

/* Members. */

static bool is_limited(const struct vsp_meter *meter)
{
	return meter && (meter->operations.rate || meter->bytes.rate);
}

static double member_wait(struct vsp_qos_member *member, const struct vsp_request *request,
			  uint64_t now)
{
	double own = meter_wait(&member->own, request, now), shared = 0;

	if (member->shared)
		shared = meter_wait(member->shared, request, now);
	return own > shared ? own : shared;
}

static void member_take(struct vsp_qos_member *member, const struct vsp_request *request)
{
	meter_take(&member->own, request);
	if (member->shared)
		meter_take(member->shared, request);
}

static void line_up(struct line *line, struct vsp_qos_member *member)
{
	member->next = NULL;
	if (line->last)
		line->last->next = member;
	else
		line->first = member;
	line->last = member;
}

static void hold(struct vsp_qos_member *member, struct vsp_request *request)
{
	request->next = NULL;
	if (member->held.tail)
		member->held.tail->next = request;
	else
		member->held.head = request;
	member->held.tail = request;
	if (!member->held_count++)
		line_up(&member->qos->line, member);
}

static struct vsp_request *take_held(struct vsp_qos_member *member)
{
	struct vsp_request *request = member->held.head;

	member->held.head = request->next;
	if (!member->held.head)
		member->held.tail = NULL;
	member->held_count--;
	return request;
}

/* Turns. */

static void set_timer(struct vsp_qos *qos, double wait_ns)
{
	uint64_t ns = (uint64_t)wait_ns + 1;
	struct itimerspec once = { .it_value = { (time_t)(ns / 1000000000u),
						 (long)(ns % 1000000000u) } };

	timerfd_settime(qos->timer.fd, 0, &once, NULL);
}

/* One request of the member, if it may go; otherwise *soonest, unless 0, is when one may. */
static bool one_turn(struct vsp_qos_member *member, uint64_t now, double *soonest)
{
	struct vsp_request *request;
	double wait;

	if (member->paused)
		return false;
	wait = member_wait(member, member->held.head, now);
	if (wait > 0) {
		if (!*soonest || wait < *soonest)
			*soonest = wait;
		return false;
	}
	request = take_held(member);
	member_take(member, request);
	request->held_ns = now - request->start_ns;
	vsp_device_admit(member->device, request);
	return true;
}

/* A turn for each of those that wait; who has had one goes behind who has not. Could any go? */
static bool one_round(struct vsp_qos *qos, uint64_t now, double *soonest)
{
	struct vsp_qos_member *member = qos->line.first, *next;
	struct line served = { 0 };

	qos->line = (struct line){ 0 };
	for (; member; member = next) {
		bool goes = one_turn(member, now, soonest);

		next = member->next;
		if (member->held_count)
			line_up(goes ? &served : &qos->line, member);
	}
	for (member = served.first; member; member = next) {
		next = member->next;
		line_up(&qos->line, member);
	}
	return served.first;
}

static void dispatch(struct vsp_qos *qos)
{
	uint64_t now = hv_now_ns();
	double soonest;

	do
		soonest = 0;
	while (one_round(qos, now, &soonest));
	if (soonest)
		set_timer(qos, soonest);
}

static void elapsed(struct hv_watch *watch, uint32_t events)
{
	struct vsp_qos *qos = (struct vsp_qos *)((char *)watch - offsetof(struct vsp_qos, timer));
	uint64_t times;
	ssize_t n = read(watch->fd, &times, sizeof(times));

	(void)n; /* EAGAIN: it has been set anew meanwhile */
	(void)events;
	dispatch(qos);
}

void vsp_qos_submit(struct vsp_qos_member *member, struct vsp_request *request)
{
	bool limited = is_limited(&member->own) || is_limited(member->shared);

	if (!member->paused && !limited) {
		vsp_device_admit(member->device, request);
	} else if (!member->paused && !member->qos->line.first &&
		   member_wait(member, request, request->start_ns) <= 0) {
		member_take(member, request);
		vsp_device_admit(member->device, request);
	} else {
		member->delayed++;
		hold(member, request);
		if (member->held_count == 1)
			dispatch(member->qos);
	}
}

/* Members come, pause and go. */

void vsp_qos_join(struct vsp_qos *qos, struct vsp_qos_member *member, struct vsp_device *device,
		  const struct vsp_limits *own, struct vsp_meter *shared)
{
	*member = (struct vsp_qos_member){ .device = device, .qos = qos, .shared = shared };
	vsp_meter_set(&member->own, own);
	device->limits = member;
}

void vsp_qos_changed(struct vsp_qos *qos)
{
	dispatch(qos);
}

void vsp_qos_pause(struct vsp_qos_member *member)
{
	member->paused = true;
}

void vsp_qos_resume(struct vsp_qos_member *member)
{
	member->paused = false;
	dispatch(member->qos);
}

bool vsp_qos_is_quiet(const struct vsp_qos_member *member)
{
	return member->device->telemetry.in_flight == member->held_count;
}

void vsp_qos_leave(struct vsp_qos_member *member)
{
	if (!member->qos)
		return;
	member->own = (struct vsp_meter){ 0 };
	member->shared = NULL;
	vsp_qos_resume(member);
	member->device->limits = NULL;
	member->qos = NULL;
}

/* Beginning and end. */

int vsp_qos_new(struct hv_loop *loop, struct vsp_qos **ret, struct hv_err *err)
{
	HV_AUTO(vsp_qos_free) struct vsp_qos *qos = calloc(1, sizeof(*qos));
	int rc;

	if (!qos)
		return hv_fail(err, -ENOMEM, "not enough memory for limits");
	qos->timer.ready = elapsed;
	qos->timer.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (qos->timer.fd < 0)
		return hv_fail_errno(err, -errno, "cannot make a timer");
	rc = hv_loop_watch(loop, &qos->timer, EPOLLIN, err);
	if (rc)
		return rc;
	qos->loop = loop;
	*ret = hv_steal(qos);
	return 0;
}

void vsp_qos_free(struct vsp_qos *qos)
{
	if (!qos)
		return;
	if (qos->loop)
		hv_loop_unwatch(qos->loop, &qos->timer);
	if (qos->timer.fd >= 0)
		close(qos->timer.fd);
	free(qos);
}
