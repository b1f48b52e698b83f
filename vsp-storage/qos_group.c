/*
 * Groups, and the control of turns and windows by what is guaranteed.
 *
 * Loops share a device of the host by two numbers, for which nobody waits and which need not be
 * exact: how many disks are busy, of which each loop has its part of a window; and the window of
 * those without a guarantee. Any loop makes that smaller for the sake of its own disks, and it
 * grows when no loop has wanted it to stay for a period.
 */
#include "vsp-storage/qos_group.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>

#define QUANTUM_MAX 64

/* Devices of the host. */

static struct vsp_qos_host *hosts;
static pthread_mutex_t hosts_lock = PTHREAD_MUTEX_INITIALIZER; /* of the list */

static struct vsp_qos_host *host_get(dev_t device)
{
	struct vsp_qos_host *host;

	pthread_mutex_lock(&hosts_lock);
	host = hosts;
	while (host && host->device != device)
		host = host->next;
	if (!host && (host = calloc(1, sizeof(*host)))) {
		host->device = device;
		atomic_init(&host->window, VSP_QOS_WINDOW);
		host->next = hosts;
		hosts = host;
	}
	if (host)
		atomic_fetch_add(&host->group_count, 1);
	pthread_mutex_unlock(&hosts_lock);
	return host;
}

static void host_put(struct vsp_qos_host *host)
{
	struct vsp_qos_host **link = &hosts;

	pthread_mutex_lock(&hosts_lock);
	if (atomic_fetch_sub(&host->group_count, 1) == 1) {
		while (*link != host)
			link = &(*link)->next;
		*link = host->next;
		free(host);
	}
	pthread_mutex_unlock(&hosts_lock);
}

static unsigned busy_in_all(const struct vsp_qos_host *host)
{
	return atomic_load_explicit(&host->busy_count, memory_order_relaxed);
}

/* Coming and going. */

static dev_t device_of(const char *path)
{
	struct stat st;

	if (stat(path, &st))
		return 0;
	return S_ISBLK(st.st_mode) ? st.st_rdev : st.st_dev;
}

struct vsp_qos_group *vsp_qos_group_get(struct vsp_qos_group **groups, const char *path)
{
	dev_t device = device_of(path);
	struct vsp_qos_group *group = *groups;

	while (group && group->host->device != device)
		group = group->next;
	if (group)
		return group;
	group = calloc(1, sizeof(*group));
	if (!group || !(group->host = host_get(device))) {
		free(group);
		return NULL;
	}
	group->next = *groups;
	*groups = group;
	return group;
}

void vsp_qos_group_add(struct vsp_qos_group *group, struct vsp_qos_member *member)
{
	member->group = group;
	member->group_next = group->members;
	group->members = member;
}

static void set_busy(struct vsp_qos_member *member, bool busy)
{
	struct vsp_qos_group *group = member->group;

	member->busy = busy;
	if (busy) {
		group->busy_count++;
		atomic_fetch_add(&group->host->busy_count, 1);
	} else {
		group->busy_count--;
		atomic_fetch_sub(&group->host->busy_count, 1);
	}
}

void vsp_qos_group_remove(struct vsp_qos_group **groups, struct vsp_qos_member *member)
{
	struct vsp_qos_group *group = member->group, **group_link = groups;
	struct vsp_qos_member **link = &group->members;

	while (*link != member)
		link = &(*link)->group_next;
	*link = member->group_next;
	group->sent_count -= member->sent_count;
	if (member->busy)
		set_busy(member, false);
	if (group->members)
		return;
	host_put(group->host);
	while (*group_link != group)
		group_link = &(*group_link)->next;
	*group_link = group->next;
	free(group);
}

/* Sharing. */

/* Is anything guaranteed to the member or its VM? */
static bool is_guaranteed(const struct vsp_qos_member *member)
{
	bool guaranteed = vsp_meter_is_guaranteed(&member->own);
	struct vsp_meter *vm = vsp_vm_meter_enter(member->shared);

	if (vm) {
		guaranteed = guaranteed || vsp_meter_is_guaranteed(vm);
		vsp_vm_meter_leave(member->shared);
	}
	return guaranteed;
}

void vsp_qos_group_note(struct vsp_qos_member *member, uint64_t now)
{
	member->last_ns = now;
	if (!member->busy)
		set_busy(member, true);
}

/* Whoever may be in the way of another loop has to notice when he is idle. */
uint64_t vsp_qos_group_next_look(const struct vsp_qos_group *group)
{
	const struct vsp_qos_host *host = group->host;

	if (busy_in_all(host) > 1)
		return VSP_QOS_PERIOD_NS;
	if (group->busy_count && atomic_load_explicit(&host->group_count, memory_order_relaxed) > 1)
		return VSP_QOS_BUSY_NS;
	return 0;
}

/* Does it give way to those who get less than they are guaranteed? */
static bool gives_way(const struct vsp_qos_member *member)
{
	return member->has_plenty || !is_guaranteed(member);
}

/* Requests at the disk of those who give way. */
static unsigned plain_count(const struct vsp_qos_group *group)
{
	unsigned count = 0;

	for (const struct vsp_qos_member *member = group->members; member;
	     member = member->group_next)
		if (gives_way(member))
			count += member->sent_count;
	return count;
}

/* The group's part of a window for the disks of all loops; one request at least. */
static unsigned part_of(double window, const struct vsp_qos_group *group, unsigned busy)
{
	double part = window * group->busy_count / busy;

	return part > 1 ? (unsigned)part : 1;
}

bool vsp_qos_group_has_room(const struct vsp_qos_member *member)
{
	const struct vsp_qos_group *group = member->group;
	unsigned busy = busy_in_all(group->host), window = busy * VSP_QOS_WINDOW_EACH;
	double plain = atomic_load_explicit(&group->host->window, memory_order_relaxed);

	if (busy < 2)
		return true;
	if (plain < VSP_QOS_WINDOW && gives_way(member) &&
	    plain_count(group) >= part_of(plain, group, busy))
		return false;
	if (window > VSP_QOS_WINDOW)
		window = VSP_QOS_WINDOW;
	return !member->sent_count || group->sent_count < part_of(window, group, busy);
}

/* Guarantees. */

/* The worse of what the disk and its VM are guaranteed. Who waits for a limit is not short. */
static enum vsp_verdict judge(struct vsp_qos_member *member, uint64_t now)
{
	enum vsp_verdict own = vsp_meter_judge(&member->own, now), shared = VSP_UNKNOWN;
	struct vsp_meter *vm = vsp_vm_meter_enter(member->shared);
	bool limited = member->limited;

	if (vm) {
		shared = vsp_meter_judge(vm, now);
		vsp_vm_meter_leave(member->shared);
	}
	member->limited = false;
	if (!own || (shared && shared < own))
		own = shared;
	return limited && own == VSP_SHORT ? VSP_ENOUGH : own;
}

/* What the window has to become because of this member: smaller (-1), as it is, or larger. */
static int look_at(struct vsp_qos_member *member, uint64_t now)
{
	enum vsp_verdict verdict = judge(member, now);

	if (verdict)
		member->has_plenty = verdict == VSP_PLENTY;
	switch (verdict) {
	case VSP_SHORT:
		if (member->held_count && member->quantum < QUANTUM_MAX)
			member->quantum *= 1.5;
		return -1;
	case VSP_ENOUGH:
		return 0;
	case VSP_PLENTY:
		member->quantum = member->quantum > 1.1 ? member->quantum / 1.1 : 1;
		return 1;
	default:
		return 1;
	}
}

/* Two loops at once may have the change of one of them lost, which the next look mends. */
static void set_window(struct vsp_qos_host *host, int change, uint64_t now)
{
	uint64_t changed_ns = atomic_load_explicit(&host->changed_ns, memory_order_relaxed);
	double window = atomic_load_explicit(&host->window, memory_order_relaxed);

	if (change > 0 && now < changed_ns + VSP_QOS_PERIOD_NS)
		return;
	if (change < 0)
		window *= 0.7;
	else if (change > 0)
		window += 0.5 + window / 16;
	if (window < 1)
		window = 1;
	if (window > VSP_QOS_WINDOW)
		window = VSP_QOS_WINDOW;
	atomic_store_explicit(&host->window, window, memory_order_relaxed);
	atomic_store_explicit(&host->changed_ns, now, memory_order_relaxed);
}

void vsp_qos_group_look(struct vsp_qos_group *group, uint64_t now)
{
	int change = 1;

	for (struct vsp_qos_member *member = group->members; member; member = member->group_next) {
		int wanted = 1;

		if (is_guaranteed(member))
			wanted = look_at(member, now);
		else
			member->quantum = 1;
		if (wanted < change)
			change = wanted;
		if (member->busy && !member->sent_count && !member->held_count &&
		    now - member->last_ns >= VSP_QOS_BUSY_NS)
			set_busy(member, false);
	}
	set_window(group->host, change, now);
}
