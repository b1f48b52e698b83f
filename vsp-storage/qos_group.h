/*
 * Groups of disks that share a device of the host, and guarantees within them. Private to qos.c.
 */
#ifndef VSP_STORAGE_QOS_GROUP_H
#define VSP_STORAGE_QOS_GROUP_H

#include <stdatomic.h>

#include "vsp-storage/qos.h"

/*
 * A device of the host: what the groups of all loops know of each other. It is read for requests,
 * and written when a disk becomes busy or idle, or guarantees are looked at.
 */
struct vsp_qos_host {
	dev_t device;
	struct vsp_qos_host *next;
	atomic_uint group_count;
	atomic_uint busy_count;          /* members of all of them */
	_Atomic double window;           /* for requests of those without a guarantee, in all */
	atomic_uint_fast64_t changed_ns; /* when somebody saw to it last */
};

/* The disks of one loop on one device. */
struct vsp_qos_group {
	struct vsp_qos_host *host;
	struct vsp_qos_group *next;
	struct vsp_qos_member *members;
	unsigned sent_count; /* requests with the disk */
	unsigned busy_count; /* members that had something to do lately */
};

/* The group of the device that holds the file, made where there is none; NULL without memory. */
struct vsp_qos_group *vsp_qos_group_get(struct vsp_qos_group **groups, const char *path);
void vsp_qos_group_add(struct vsp_qos_group *group, struct vsp_qos_member *member);

/* Takes the member out; a group without members goes. */
void vsp_qos_group_remove(struct vsp_qos_group **groups, struct vsp_qos_member *member);

/* May the member send another request, as far as the others are concerned? */
bool vsp_qos_group_has_room(const struct vsp_qos_member *member);

/* The member has something to do. */
void vsp_qos_group_note(struct vsp_qos_member *member, uint64_t now);

/* Looks at guarantees, and at who is still busy. */
void vsp_qos_group_look(struct vsp_qos_group *group, uint64_t now);

/* In how many nanoseconds there is a reason to look; 0: there is none. */
uint64_t vsp_qos_group_next_look(const struct vsp_qos_group *group);

#endif
