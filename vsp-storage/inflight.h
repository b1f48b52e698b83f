/*
 * The in-flight region of vhost-user ("Inflight I/O tracking" in QEMU's
 *docs/interop/vhost-user.rst, split virtqueue): shared memory that outlives this process and says
 *which requests it had fetched and not yet answered, so that the next one repeats exactly these.
 *
 * The order of stores is what makes it true at every instant at which the process may be killed:
 *
 *	fetch		counter, then inflight = 1
 *	answer		next = last_batch_head, then last_batch_head = head	(each of a batch)
 *			the used ring's index
 *			inflight = 0						(each of the batch)
 *			used_idx = the used ring's index
 *
 * Whoever recovers and finds that used_idx is not the ring's index knows that the last batch has
 *been published, and clears it. Only the process dies, never the memory, so that it is enough to
 *keep the compiler from changing this order.
 *
 * The region comes back to us from the front end: its contents are hostile, and are bounded here.
 */
#ifndef VSP_STORAGE_INFLIGHT_H
#define VSP_STORAGE_INFLIGHT_H

#include <assert.h>
#include <stdatomic.h>
#include <stdint.h>

#include "hvcore/err.h"
#include "vsp-storage/mapping.h"

struct vsp_inflight_entry {
	uint8_t inflight;
	uint8_t padding[5];
	uint16_t next;
	uint64_t counter;
};

struct vsp_inflight_ring {
	uint64_t features;
	uint16_t version; /* 1; 0: never used */
	uint16_t entry_count;
	uint16_t last_batch_head;
	uint16_t used_idx;
	struct vsp_inflight_entry entries[];
};

static_assert(sizeof(struct vsp_inflight_entry) == 16, "as the protocol has it");
static_assert(sizeof(struct vsp_inflight_ring) == 16, "as the protocol has it");

/* All zero: nothing is tracked. */
struct vsp_inflight {
	struct vsp_mapping mapping;
	unsigned ring_count, ring_size;
};

/* What a region for so many rings of that many entries takes. */
uint64_t vsp_inflight_bytes(unsigned ring_count, unsigned ring_size);

/* A new region, zeroed and sealed: a descriptor for the front end, or -errno. */
int vsp_inflight_create(unsigned ring_count, unsigned ring_size, struct hv_err *err);

/* Uses the region at offset of a file, as long as the numbers ask for; replaces none. */
int vsp_inflight_open(int fd, uint64_t offset, uint64_t length, unsigned ring_count,
		      unsigned ring_size, struct vsp_inflight *ret, struct hv_err *err);
void vsp_inflight_close(struct vsp_inflight *inflight);

/* NULL where it is not tracked, or not that long. */
struct vsp_inflight_ring *vsp_inflight_ring(const struct vsp_inflight *inflight, unsigned index,
					    unsigned ring_size);

/*
 * Takes up a ring whose used index is used_idx: clears what has been answered, and writes the heads
 * of what has not to heads (room for ring_size), in the order in which they were fetched. Returns
 * how many, and in *counter the next number of a fetch.
 */
unsigned vsp_inflight_recover(struct vsp_inflight_ring *ring, unsigned ring_size, uint16_t used_idx,
			      uint16_t *heads, uint64_t *counter);

static inline void vsp_inflight_fetch(struct vsp_inflight_ring *ring, uint16_t head,
				      uint64_t counter)
{
	__atomic_store_n(&ring->entries[head].counter, counter, __ATOMIC_RELAXED);
	__atomic_store_n(&ring->entries[head].inflight, 1, __ATOMIC_RELEASE);
}

/* previous: the head given to the previous call. */
static inline void vsp_inflight_answer(struct vsp_inflight_ring *ring, uint16_t head,
				       uint16_t previous)
{
	__atomic_store_n(&ring->entries[head].next, previous, __ATOMIC_RELAXED);
	__atomic_store_n(&ring->last_batch_head, head, __ATOMIC_RELEASE);
}

static inline void vsp_inflight_published(struct vsp_inflight_ring *ring, const uint16_t *heads,
					  unsigned count, uint16_t used_idx)
{
	atomic_signal_fence(memory_order_seq_cst);
	for (unsigned i = 0; i < count; i++)
		__atomic_store_n(&ring->entries[heads[i]].inflight, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&ring->used_idx, used_idx, __ATOMIC_RELEASE);
}

#endif
