/*
 * A guest's memory as its front end has shared it: regions, each at a guest-physical address, at an
 * address of the front end's own process ("user", by which rings are named), and here.
 *
 * Regions never overlap in either numbering, nothing wraps. Guest-physical ranges may run over
 * several regions that adjoin; they come in pieces then.
 */
#ifndef VSP_STORAGE_GUEST_MEMORY_H
#define VSP_STORAGE_GUEST_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hvcore/checked.h"
#include "hvcore/err.h"
#include "vsp-storage/mapping.h"

#define VSP_GUEST_REGIONS_MAX 64

struct vsp_guest_region {
	uint64_t guest, user, size;
	uint8_t *host;
	struct vsp_mapping mapping;
};

/* All zero: no memory. */
struct vsp_guest_memory {
	unsigned count, last; /* last: where the previous address was found */
	struct vsp_guest_region regions[VSP_GUEST_REGIONS_MAX];
};

/*
 * Maps another region: size bytes at fd_offset of a file. The descriptor remains the caller's.
 * -EINVAL for a range that wraps, is empty, overlaps another or is not inside the file.
 */
int vsp_guest_memory_add(struct vsp_guest_memory *memory, uint64_t guest, uint64_t user,
			 uint64_t size, int fd, uint64_t fd_offset, struct hv_err *err);

/* Unmaps exactly this region; nothing may use it. -ENOENT when there is none. */
int vsp_guest_memory_remove(struct vsp_guest_memory *memory, uint64_t guest, uint64_t user,
			    uint64_t size, struct hv_err *err);
void vsp_guest_memory_done(struct vsp_guest_memory *memory);

/* Has the front end taken any of it away? */
bool vsp_guest_memory_lost(const struct vsp_guest_memory *memory);

/* [user, user + length) inside one region, or NULL. */
void *vsp_guest_memory_at_user(const struct vsp_guest_memory *memory, uint64_t user,
			       uint64_t length);

/* The same by guest-physical address; found somewhere else than last time. */
struct vsp_guest_region *vsp_guest_memory_find(struct vsp_guest_memory *memory, uint64_t guest);

/*
 * The first piece of [guest, guest + length): its address, and its length in *piece; NULL when
 * guest is not memory at all. The rest, if any, is for another call.
 */
static inline void *vsp_guest_memory_at(struct vsp_guest_memory *memory, uint64_t guest,
					uint64_t length, uint64_t *piece)
{
	struct vsp_guest_region *region = &memory->regions[memory->last];
	uint64_t offset;

	if (guest - region->guest >= region->size) {
		region = vsp_guest_memory_find(memory, guest);
		if (!region)
			return NULL;
	}
	offset = guest - region->guest;
	*piece = hv_min_u64(length, region->size - offset);
	return region->host + offset;
}

#endif
