/*
 * The in-flight region: made, mapped, and what it tells after a restart.
 */
#include "vsp-storage/inflight.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "hvcore/checked.h"
#include "vsp-storage/virtqueue.h"

#define VERSION 1
#define ALIGNMENT 64

static uint64_t ring_bytes(unsigned ring_size)
{
	return hv_round_up(sizeof(struct vsp_inflight_ring) +
				   ring_size * sizeof(struct vsp_inflight_entry),
			   ALIGNMENT);
}

uint64_t vsp_inflight_bytes(unsigned ring_count, unsigned ring_size)
{
	return ring_count * ring_bytes(ring_size);
}

int vsp_inflight_create(unsigned ring_count, unsigned ring_size, struct hv_err *err)
{
	uint64_t bytes = vsp_inflight_bytes(ring_count, ring_size);
	int fd = memfd_create("vspd-inflight", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return hv_fail_errno(err, -errno, "cannot make an in-flight region");
	if (ftruncate(fd, (off_t)bytes) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
		int code = -errno;

		close(fd);
		return hv_fail_errno(err, code, "cannot make an in-flight region of %llu bytes",
				     (unsigned long long)bytes);
	}
	return fd;
}

int vsp_inflight_open(int fd, uint64_t offset, uint64_t length, unsigned ring_count,
		      unsigned ring_size, struct vsp_inflight *ret, struct hv_err *err)
{
	struct vsp_inflight inflight = { .ring_count = ring_count, .ring_size = ring_size };
	int rc;

	if (ring_count == 0 || ring_size == 0 || ring_size > VSP_RING_SIZE_MAX ||
	    length < vsp_inflight_bytes(ring_count, ring_size) || offset % ALIGNMENT)
		return hv_fail(
			err, -EINVAL,
			"an in-flight region of %llu bytes at %llu is not one of %u rings of %u",
			(unsigned long long)length, (unsigned long long)offset, ring_count,
			ring_size);
	rc = vsp_mapping_new(fd, offset, length, &inflight.mapping, err);
	if (rc == 0)
		*ret = inflight;
	return rc;
}

void vsp_inflight_close(struct vsp_inflight *inflight)
{
	vsp_mapping_done(&inflight->mapping);
	*inflight = (struct vsp_inflight){ 0 };
}

struct vsp_inflight_ring *vsp_inflight_ring(const struct vsp_inflight *inflight, unsigned index,
					    unsigned ring_size)
{
	uint8_t *start = inflight->mapping.start;

	if (!start || index >= inflight->ring_count || ring_size > inflight->ring_size)
		return NULL;
	return (struct vsp_inflight_ring *)(start + index * ring_bytes(inflight->ring_size));
}

/* As it was before its first request. */
static void begin(struct vsp_inflight_ring *ring, unsigned ring_size, uint16_t used_idx)
{
	for (unsigned i = 0; i < ring_size; i++)
		ring->entries[i] = (struct vsp_inflight_entry){ 0 };
	ring->last_batch_head = 0;
	ring->used_idx = used_idx;
	ring->entry_count = (uint16_t)ring_size;
	__atomic_store_n(&ring->version, VERSION, __ATOMIC_RELEASE);
}

static void clear_last_batch(struct vsp_inflight_ring *ring, unsigned ring_size, uint16_t used_idx)
{
	uint16_t count = (uint16_t)(used_idx - __atomic_load_n(&ring->used_idx, __ATOMIC_RELAXED));
	unsigned head = __atomic_load_n(&ring->last_batch_head, __ATOMIC_RELAXED);

	for (unsigned i = 0; i < count && i < ring_size && head < ring_size; i++) {
		__atomic_store_n(&ring->entries[head].inflight, 0, __ATOMIC_RELAXED);
		head = __atomic_load_n(&ring->entries[head].next, __ATOMIC_RELAXED);
	}
	__atomic_store_n(&ring->used_idx, used_idx, __ATOMIC_RELEASE);
}

struct fetched {
	uint64_t counter;
	uint16_t head;
};

static int by_counter(const void *a, const void *b)
{
	uint64_t x = ((const struct fetched *)a)->counter, y = ((const struct fetched *)b)->counter;

	return x < y ? -1 : x > y;
}

unsigned vsp_inflight_recover(struct vsp_inflight_ring *ring, unsigned ring_size, uint16_t used_idx,
			      uint16_t *heads, uint64_t *counter)
{
	struct fetched fetched[VSP_RING_SIZE_MAX] = { 0 };
	unsigned count = 0;

	if (__atomic_load_n(&ring->version, __ATOMIC_ACQUIRE) != VERSION ||
	    __atomic_load_n(&ring->entry_count, __ATOMIC_RELAXED) != ring_size)
		begin(ring, ring_size, used_idx);
	clear_last_batch(ring, ring_size, used_idx);
	for (unsigned i = 0; i < ring_size; i++) {
		struct vsp_inflight_entry *entry = &ring->entries[i];

		if (__atomic_load_n(&entry->inflight, __ATOMIC_RELAXED))
			fetched[count++] = (struct fetched){
				.counter = __atomic_load_n(&entry->counter, __ATOMIC_RELAXED),
				.head = (uint16_t)i,
			};
	}
	qsort(fetched, count, sizeof(fetched[0]), by_counter);
	for (unsigned i = 0; i < count; i++)
		heads[i] = fetched[i].head;
	*counter = count ? fetched[count - 1].counter + 1 : 0;
	return count;
}
