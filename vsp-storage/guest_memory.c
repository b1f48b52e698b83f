/*
 * The regions of a guest's memory.
 */
#include "vsp-storage/guest_memory.h"

#include <errno.h>

static bool overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
	return a < b + b_size && b < a + a_size;
}

static bool wraps(uint64_t start, uint64_t size)
{
	uint64_t end;

	return __builtin_add_overflow(start, size, &end);
}

static int check_region(const struct vsp_guest_memory *memory, uint64_t guest, uint64_t user,
			uint64_t size, struct hv_err *err)
{
	if (size == 0 || wraps(guest, size) || wraps(user, size))
		return hv_fail(err, -EINVAL, "memory region of %#llx bytes at %#llx wraps",
			       (unsigned long long)size, (unsigned long long)guest);
	for (unsigned i = 0; i < memory->count; i++) {
		const struct vsp_guest_region *other = &memory->regions[i];

		if (overlap(guest, size, other->guest, other->size) ||
		    overlap(user, size, other->user, other->size))
			return hv_fail(err, -EINVAL,
				       "memory region of %#llx bytes at %#llx overlaps another",
				       (unsigned long long)size, (unsigned long long)guest);
	}
	return 0;
}

int vsp_guest_memory_add(struct vsp_guest_memory *memory, uint64_t guest, uint64_t user,
			 uint64_t size, int fd, uint64_t fd_offset, struct hv_err *err)
{
	struct vsp_guest_region region = { .guest = guest, .user = user, .size = size };
	int rc = check_region(memory, guest, user, size, err);

	if (rc)
		return rc;
	if (memory->count == VSP_GUEST_REGIONS_MAX)
		return hv_fail(err, -EINVAL, "more than %u memory regions", VSP_GUEST_REGIONS_MAX);
	rc = vsp_mapping_new(fd, fd_offset, size, &region.mapping, err);
	if (rc)
		return rc;
	region.host = region.mapping.start;
	memory->regions[memory->count++] = region;
	return 0;
}

int vsp_guest_memory_remove(struct vsp_guest_memory *memory, uint64_t guest, uint64_t user,
			    uint64_t size, struct hv_err *err)
{
	for (unsigned i = 0; i < memory->count; i++) {
		struct vsp_guest_region *region = &memory->regions[i];

		if (region->guest != guest || region->user != user || region->size != size)
			continue;
		vsp_mapping_done(&region->mapping);
		*region = memory->regions[--memory->count];
		memory->regions[memory->count] = (struct vsp_guest_region){ 0 };
		memory->last = 0;
		return 0;
	}
	return hv_fail(err, -ENOENT, "there is no memory region of %#llx bytes at %#llx",
		       (unsigned long long)size, (unsigned long long)guest);
}

void vsp_guest_memory_done(struct vsp_guest_memory *memory)
{
	for (unsigned i = 0; i < memory->count; i++)
		vsp_mapping_done(&memory->regions[i].mapping);
	*memory = (struct vsp_guest_memory){ 0 };
}

bool vsp_guest_memory_lost(const struct vsp_guest_memory *memory)
{
	for (unsigned i = 0; i < memory->count; i++)
		if (vsp_mapping_lost(&memory->regions[i].mapping))
			return true;
	return false;
}

void *vsp_guest_memory_at_user(const struct vsp_guest_memory *memory, uint64_t user,
			       uint64_t length)
{
	for (unsigned i = 0; i < memory->count; i++) {
		const struct vsp_guest_region *region = &memory->regions[i];

		if (user >= region->user &&
		    hv_range_inside(user - region->user, length, region->size))
			return region->host + (user - region->user);
	}
	return NULL;
}

struct vsp_guest_region *vsp_guest_memory_find(struct vsp_guest_memory *memory, uint64_t guest)
{
	for (unsigned i = 0; i < memory->count; i++) {
		if (guest - memory->regions[i].guest < memory->regions[i].size) {
			memory->last = i;
			return &memory->regions[i];
		}
	}
	return NULL;
}
