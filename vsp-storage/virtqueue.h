/*
 * The device's side of a split virtqueue (virtio 1.2, section 2.7) in memory that a guest writes
 * while we read.
 *
 * Everything is read once, and the copy is checked. What is not by the rules (an index that has run
 * away, a chain that is a loop, leaves memory or names a head that is in use) is -EBADMSG with a
 * sentence: the ring cannot be trusted any more, and the caller stops it.
 *
 * A request lasts from vsp_virtqueue_next, through vsp_virtqueue_chain, to vsp_virtqueue_complete,
 * vsp_virtqueue_give_back or vsp_virtqueue_abandon; the guest sees it as done after the next
 * vsp_virtqueue_publish. One thread does all of it.
 */
#ifndef VSP_STORAGE_VIRTQUEUE_H
#define VSP_STORAGE_VIRTQUEUE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "hvcore/err.h"
#include "vsp-storage/guest_memory.h"
#include "vsp-storage/inflight.h"

#define VSP_RING_SIZE_MAX 1024u
#define VSP_CHAIN_DESCRIPTORS_MAX 1024u /* in an indirect table; outside, the ring's size */
#define VSP_CHAIN_PIECES_MAX 256        /* of memory that is contiguous here */

struct vsp_ring_descriptor; /* those of the standard */
struct vsp_ring_avail;
struct vsp_ring_used;

/* What the front end says of a ring; addresses are the front end's own ("user"). */
struct vsp_ring_setup {
	uint16_t size; /* a power of two, at most VSP_RING_SIZE_MAX */
	uint16_t base; /* the next entry of the available ring; of no account with in-flight
			  tracking */
	uint64_t descriptors, avail, used;
	bool event_idx;
};

struct vsp_virtqueue {
	struct vsp_guest_memory *memory;
	const struct vsp_ring_descriptor *descriptors;
	struct vsp_ring_avail *avail;
	struct vsp_ring_used *used;
	struct vsp_inflight_ring *inflight; /* NULL: not tracked */
	uint64_t counter;
	uint16_t size;
	bool event_idx;
	bool owes_signal;            /* whatever the guest asks for */
	bool awake;                  /* the guest need not notify us */
	uint16_t next_avail;         /* the next to fetch */
	uint16_t seen_avail;         /* as far as we know that there are some */
	uint16_t used_idx;           /* published */
	unsigned in_flight;          /* fetched, and not completed */
	unsigned batch;              /* completed, and not published */
	unsigned again, again_count; /* fetched before, and not done: again[_heads] comes first */
	uint16_t last_answer;
	uint64_t taken[VSP_RING_SIZE_MAX / 64]; /* by head: fetched, and not published */
	uint16_t batch_heads[VSP_RING_SIZE_MAX];
	uint16_t again_heads[VSP_RING_SIZE_MAX];
};

/* A request's memory: first what the guest has written for us, then what we may write. */
struct vsp_chain {
	int readable_count, writable_count;
	uint64_t readable_bytes, writable_bytes;
};

/*
 * Takes up a ring; inflight may be NULL. The memory stays the caller's. -EINVAL for numbers that
 * are none or addresses outside memory.
 */
int vsp_virtqueue_start(struct vsp_virtqueue *queue, const struct vsp_ring_setup *setup,
			struct vsp_guest_memory *memory, struct vsp_inflight_ring *inflight,
			struct hv_err *err);

/* The same ring where memory lies now; nothing is in flight. */
int vsp_virtqueue_move(struct vsp_virtqueue *queue, const struct vsp_ring_setup *setup,
		       struct hv_err *err);

/* 1 and the next request's head, 0 when there is none, -EBADMSG. */
int vsp_virtqueue_next(struct vsp_virtqueue *queue, uint16_t *head, struct hv_err *err);

/* Its memory, in iov (room for VSP_CHAIN_PIECES_MAX). */
int vsp_virtqueue_chain(struct vsp_virtqueue *queue, uint16_t head, struct vsp_chain *ret,
			struct iovec *iov, struct hv_err *err);

/* A request that cannot be understood has ended, and will not be answered. */
void vsp_virtqueue_abandon(struct vsp_virtqueue *queue);

/*
 * A request has not been carried out, and comes again from vsp_virtqueue_next, or, where it is
 * tracked, to whoever takes up the ring then.
 */
void vsp_virtqueue_give_back(struct vsp_virtqueue *queue, uint16_t head);

/* written: how many bytes of the chain we have (or may have) written. */
void vsp_virtqueue_complete(struct vsp_virtqueue *queue, uint16_t head, uint32_t written);

/* Shows the guest what has been completed. Does it want to be interrupted? */
bool vsp_virtqueue_publish(struct vsp_virtqueue *queue);

/* From now on the guest need not tell us of new requests; we look by ourselves. */
void vsp_virtqueue_wake(struct vsp_virtqueue *queue);

/* From now on it has to. False: there are some already. */
bool vsp_virtqueue_rest(struct vsp_virtqueue *queue);

#endif
