/*
 * Turns.
 */
#include "vsp-storage/qos.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include "hvcore/container.h"
#include "hvcore/timer.h"
#include "vsp-storage/qos_group.h"

#define COST_BYTES (32.0 * 1024) /* that cost as much as being a request */

struct line {
	struct vsp_qos_member *first, *last;
};

struct vsp_qos {
	struct hv_loop *loop;
	struct hv_timer timer;
	struct line line; /* those that hold requests, by whose turn it is */
	struct vsp_qos_group *groups;
	uint64_t look_ns; /* when guarantees are to be looked at; 0: there is no need */
};

/* Members. */

static bool is_limited(const struct vsp_qos_member *member)
{
	bool limited = vsp_meter_is_limited(&member->own);
	struct vsp_meter *vm = vsp_vm_meter_enter(member->shared);

	if (vm) {
		limited = limited || vsp_meter_is_limited(vm);
		vsp_vm_meter_leave(member->shared);
	}
	return limited;
}

static double limits_wait(struct vsp_qos_member *member, const struct vsp_request *request,
			  uint64_t now)
{
	double own = vsp_meter_wait(&member->own, request, now), shared = 0;
	struct vsp_meter *vm = vsp_vm_meter_enter(member->shared);

	if (vm) {
		shared = vsp_meter_wait(vm, request, now);
		vsp_vm_meter_leave(member->shared);
	}
	return own > shared ? own : shared;
}

/*
 * Takes what the first that waits needs of its VM's limits, for when it will be there, so that
 * loops have it in the order in which they asked.
 */
static void reserve(struct vsp_qos_member *member, uint64_t now)
{
	const struct vsp_request *request = member->held.head;
	struct vsp_meter *vm = vsp_vm_meter_enter(member->shared);

	member->reserved = request;
	member->reserved_ns = now;
	if (vm) {
		member->reserved_ns += (uint64_t)vsp_meter_wait(vm, request, now);
		vsp_meter_take(vm, request);
		vsp_vm_meter_leave(member->shared);
	}
}

static void drop_reservation(struct vsp_qos_member *member)
{
	struct vsp_meter *vm = member->reserved ? vsp_vm_meter_enter(member->shared) : NULL;

	if (vm) {
		vsp_meter_give_back(vm, member->reserved);
		vsp_vm_meter_leave(member->shared);
	}
	member->reserved = NULL;
}

static double first_waits(struct vsp_qos_member *member, uint64_t now)
{
	double own = vsp_meter_wait(&member->own, member->held.head, now);

	if (own > 0)
		return own;
	if (member->reserved != member->held.head)
		reserve(member, now);
	return member->reserved_ns > now ? (double)(member->reserved_ns - now) : 0;
}

/* The request goes to the disk. */
static void let_go(struct vsp_qos_member *member, struct vsp_request *request)
{
	bool has_it = member->reserved == request;
	struct vsp_meter *vm = has_it ? NULL : vsp_vm_meter_enter(member->shared);

	vsp_meter_take(&member->own, request);
	if (vm) {
		vsp_meter_take(vm, request);
		vsp_vm_meter_leave(member->shared);
	}
	member->reserved = NULL;
	member->sent_count++;
	member->group->sent_count++;
	vsp_device_admit(member->device, request);
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

static double cost_of(const struct vsp_request *request)
{
	return 1 + vsp_meter_bytes(request) / COST_BYTES;
}

/* May its first one go? Otherwise *soonest, unless 0, is when one may whom a limit makes wait. */
static bool may_go(struct vsp_qos_member *member, uint64_t now, double *soonest)
{
	double wait;

	if (member->paused || !vsp_qos_group_has_room(member))
		return false;
	wait = first_waits(member, now);
	if (wait <= 0)
		return true;
	member->limited = true;
	if (!*soonest || wait < *soonest)
		*soonest = wait;
	return false;
}

static void send_held(struct vsp_qos_member *member, uint64_t now)
{
	struct vsp_request *request = take_held(member);

	request->held_ns = now - request->start_ns;
	let_go(member, request);
}

/*
 * What it has credit for goes. Is the turn over? Otherwise it has to wait, or has nothing left.
 * A first request costs no credit, and ends the turn.
 */
static bool take_turn(struct vsp_qos_member *member, uint64_t now, double *soonest)
{
	while (member->held_count && may_go(member, now, soonest)) {
		double cost = cost_of(member->held.head);

		if (!member->sent_count) {
			send_held(member, now);
			return member->held_count;
		}
		if (member->credit >= cost) {
			member->credit -= cost;
			send_held(member, now);
		} else if (!member->granted) {
			member->granted = true;
			member->credit += member->quantum;
		} else {
			member->granted = false;
			return true;
		}
	}
	if (!member->held_count) {
		member->credit = 0;
		member->granted = false;
	}
	return false;
}

/* Whose turn is over goes behind those who wait for theirs. Is there anybody for another round? */
static bool one_round(struct vsp_qos *qos, uint64_t now, double *soonest)
{
	struct vsp_qos_member *member = qos->line.first, *next;
	struct line served = { 0 };

	qos->line = (struct line){ 0 };
	for (; member; member = next) {
		bool over = take_turn(member, now, soonest);

		next = member->next;
		if (member->held_count)
			line_up(over ? &served : &qos->line, member);
	}
	for (member = served.first; member; member = next) {
		next = member->next;
		line_up(&qos->line, member);
	}
	return served.first;
}

static void dispatch(struct vsp_qos *qos)
{
	uint64_t now = hv_loop_now(qos->loop);
	double soonest;

	do
		soonest = 0;
	while (one_round(qos, now, &soonest));
	if (qos->look_ns && (!soonest || (double)qos->look_ns < (double)now + soonest))
		soonest = qos->look_ns > now ? (double)(qos->look_ns - now) : 1;
	if (soonest)
		hv_timer_set(&qos->timer, (uint64_t)soonest + 1);
}

/* There is nothing to look at where nobody shares a device. Is the next look sooner now? */
static bool plan_look(struct vsp_qos *qos, const struct vsp_qos_group *group, uint64_t now)
{
	uint64_t next = vsp_qos_group_next_look(group);

	if (!next || (qos->look_ns && qos->look_ns <= now + next))
		return false;
	qos->look_ns = now + next;
	return true;
}

static void look(struct vsp_qos *qos, uint64_t now)
{
	qos->look_ns = 0;
	for (struct vsp_qos_group *group = qos->groups; group; group = group->next) {
		vsp_qos_group_look(group, now);
		plan_look(qos, group, now);
	}
}

void vsp_qos_turn(struct vsp_qos *qos)
{
	uint64_t now = hv_loop_now(qos->loop);

	if (qos->look_ns && now >= qos->look_ns)
		look(qos, now);
	dispatch(qos);
}

static void elapsed(struct hv_timer *timer)
{
	vsp_qos_turn(hv_container_of(timer, struct vsp_qos, timer));
}

/* Requests come and end. */

static void begin(struct vsp_qos_member *member, uint64_t now)
{
	struct vsp_qos *qos = member->qos;
	struct vsp_meter *vm = vsp_vm_meter_enter(member->shared);

	if (vm) {
		vsp_meter_begin(vm, now);
		vsp_vm_meter_leave(member->shared);
	}
	vsp_meter_begin(&member->own, now);
	vsp_qos_group_note(member, now);
	if (plan_look(qos, member->group, now))
		dispatch(qos);
}

void vsp_qos_submit(struct vsp_qos_member *member, struct vsp_request *request)
{
	bool limited = is_limited(member), goes = !member->paused && !member->held_count;

	begin(member, request->start_ns);
	request->governed = true;
	goes = goes && vsp_qos_group_has_room(member) &&
	       (!limited ||
		(!member->qos->line.first && limits_wait(member, request, request->start_ns) <= 0));
	if (goes) {
		let_go(member, request);
		return;
	}
	member->delayed++;
	hold(member, request);
	if (member->held_count == 1)
		dispatch(member->qos);
}

void vsp_qos_done(struct vsp_qos_member *member, const struct vsp_request *request, uint64_t now)
{
	struct vsp_meter *vm = vsp_vm_meter_enter(member->shared);

	if (vm) {
		vsp_meter_end(vm, request, now);
		vsp_vm_meter_leave(member->shared);
	}
	vsp_meter_end(&member->own, request, now);
	member->sent_count--;
	member->group->sent_count--;
	if (member->qos->line.first)
		dispatch(member->qos);
}

static void forget_shared(struct vsp_qos_member *member, unsigned count, uint64_t now)
{
	struct vsp_meter *vm = vsp_vm_meter_enter(member->shared);

	if (vm) {
		vsp_meter_forget(vm, count, now);
		vsp_vm_meter_leave(member->shared);
	}
}

void vsp_qos_forget(struct vsp_qos_member *member, uint64_t now)
{
	vsp_meter_forget(&member->own, 1, now);
	forget_shared(member, 1, now);
	member->sent_count--;
	member->group->sent_count--;
}

/* Members come, pause and go. */

int vsp_qos_join(struct vsp_qos *qos, struct vsp_qos_member *member, struct vsp_device *device,
		 const struct vsp_limits *own, struct vsp_vm_meter *shared, struct hv_err *err)
{
	struct vsp_qos_group *group = vsp_qos_group_get(&qos->groups, device->disk->path);

	if (!group)
		return hv_fail(err, -ENOMEM, "not enough memory for limits");
	*member = (struct vsp_qos_member){
		.device = device, .qos = qos, .shared = shared, .quantum = 1
	};
	vsp_qos_group_add(group, member);
	vsp_meter_set(&member->own, own);
	device->limits = member;
	return 0;
}

void vsp_qos_changed(struct vsp_qos *qos)
{
	for (struct vsp_qos_member *member = qos->line.first; member; member = member->next)
		drop_reservation(member);
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
	const struct vsp_device *device = member->device;

	return device->telemetry.in_flight == member->held_count + device->on_error.kept_count;
}

static void leave_line(struct line *line, const struct vsp_qos_member *leaver)
{
	struct vsp_qos_member *member = line->first, *next;

	*line = (struct line){ 0 };
	for (; member; member = next) {
		next = member->next;
		if (member != leaver)
			line_up(line, member);
	}
}

/* What is with the disk then ends without vsp_qos_done. */
void vsp_qos_leave(struct vsp_qos_member *member)
{
	struct vsp_qos *qos = member->qos;
	uint64_t now;

	if (!qos)
		return;
	now = hv_loop_now(qos->loop);
	leave_line(&qos->line, member);
	while (member->held_count)
		send_held(member, now);
	forget_shared(member, member->sent_count, now);
	vsp_qos_group_remove(&qos->groups, member);
	member->device->limits = NULL;
	member->qos = NULL;
	dispatch(qos);
}

/* Beginning and end. */

int vsp_qos_new(struct hv_loop *loop, struct vsp_qos **ret, struct hv_err *err)
{
	HV_AUTO(vsp_qos_free) struct vsp_qos *qos = calloc(1, sizeof(*qos));
	int rc;

	if (!qos)
		return hv_fail(err, -ENOMEM, "not enough memory for limits");
	rc = hv_timer_open(&qos->timer, loop, elapsed, err);
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
	hv_timer_close(&qos->timer);
	free(qos);
}
