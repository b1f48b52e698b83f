/*
 * Groups, and the control of turns and windows by what is guaranteed.
 */
#include "vsp-storage/qos_group.h"

#include <stdlib.h>
#include <sys/stat.h>

#define QUANTUM_MAX 64

/* Coming and going. */

static dev_t host_of(const char *path)
{
	struct stat st;

	if (stat(path, &st))
		return 0;
	return S_ISBLK(st.st_mode) ? st.st_rdev : st.st_dev;
}

struct vsp_qos_group *vsp_qos_group_get(struct vsp_qos_group **groups, const char *path)
{
	dev_t host = host_of(path);
	struct vsp_qos_group *group = *groups;

	while (group && group->host != host)
		group = group->next;
	if (group)
		return group;
	group = calloc(1, sizeof(*group));
	if (!group)
		return NULL;
	group->host = host;
	group->window = VSP_QOS_WINDOW;
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

void vsp_qos_group_remove(struct vsp_qos_group **groups, struct vsp_qos_member *member)
{
	struct vsp_qos_group *group = member->group, **group_link = groups;
	struct vsp_qos_member **link = &group->members;

	while (*link != member)
		link = &(*link)->group_next;
	*link = member->group_next;
	group->sent_count -= member->sent_count;
	group->busy_count -= member->busy;
	if (group->members)
		return;
	while (*group_link != group)
		group_link = &(*group_link)->next;
	*group_link = group->next;
	free(group);
}

/* Sharing. */

static bool is_given(const struct vsp_meter *meter)
{
	return meter && (meter->guarantee.iops || meter->guarantee.bandwidth);
}

/* Is anything guaranteed to the member or its VM? */
static bool is_guaranteed(const struct vsp_qos_member *member)
{
	return is_given(&member->own) || is_given(member->shared);
}

void vsp_qos_group_note(struct vsp_qos_member *member, uint64_t now)
{
	member->last_ns = now;
	if (member->busy)
		return;
	member->busy = true;
	member->group->busy_count++;
}

bool vsp_qos_group_is_shared(const struct vsp_qos_group *group)
{
	return group->busy_count > 1;
}

/* Requests at the disk of those without a guarantee. */
static unsigned plain_count(const struct vsp_qos_group *group)
{
	unsigned count = 0;

	for (const struct vsp_qos_member *member = group->members; member;
	     member = member->group_next)
		if (!is_guaranteed(member))
			count += member->sent_count;
	return count;
}

bool vsp_qos_group_has_room(const struct vsp_qos_member *member)
{
	const struct vsp_qos_group *group = member->group;
	unsigned window = group->busy_count * VSP_QOS_WINDOW_EACH;

	if (!vsp_qos_group_is_shared(group))
		return true;
	if (group->window < VSP_QOS_WINDOW && !is_guaranteed(member) &&
	    plain_count(group) >= (unsigned)group->window)
		return false;
	return !member->sent_count ||
	       group->sent_count < (window < VSP_QOS_WINDOW ? window : VSP_QOS_WINDOW);
}

/* Guarantees. */

/* The worse of what the disk and its VM are guaranteed. Who waits for a limit is not short. */
static enum vsp_verdict judge(struct vsp_qos_member *member, uint64_t now)
{
	enum vsp_verdict own = vsp_meter_judge(&member->own, now), shared = VSP_UNKNOWN;
	bool limited = member->limited;

	if (member->shared)
		shared = vsp_meter_judge(member->shared, now);
	member->limited = false;
	if (!own || (shared && shared < own))
		own = shared;
	return limited && own == VSP_SHORT ? VSP_ENOUGH : own;
}

/* What the window has to become because of this member: smaller (-1), as it is, or larger. */
static int look_at(struct vsp_qos_member *member, uint64_t now)
{
	switch (judge(member, now)) {
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

static void set_window(struct vsp_qos_group *group, int change)
{
	if (change < 0)
		group->window *= 0.7;
	else if (change > 0)
		group->window += 0.5 + group->window / 16;
	if (group->window < 1)
		group->window = 1;
	if (group->window > VSP_QOS_WINDOW)
		group->window = VSP_QOS_WINDOW;
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
		    now - member->last_ns >= VSP_QOS_BUSY_NS) {
			member->busy = false;
			group->busy_count--;
		}
	}
	set_window(group, change);
}
