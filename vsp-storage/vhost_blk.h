/*
 * virtio-blk requests (virtio 1.2, 5.2.6) between a ring and a device. Inside vsp-storage.
 *
 * Header and status may lie anywhere: the header is the first 16 bytes of what the guest has
 * written for us, the status the last byte of what we may write, and data is what remains. Guest
 * memory is read and written in place. Every request is answered but those that have no room for
 * header and status, which make the ring unusable.
 */
#ifndef VSP_STORAGE_VHOST_BLK_H
#define VSP_STORAGE_VHOST_BLK_H

#include "vsp-storage/device.h"
#include "vsp-storage/virtio_blk.h"
#include "vsp-storage/virtqueue.h"

/* More in one request is refused: it would hold memory and the disk for too long. */
#define VSP_BLK_REQUEST_BYTES_MAX (32u << 20)
#define VSP_BLK_SEGMENTS_MAX 16 /* of discard and write-zeroes */

/* What one front end sees of a device. */
struct vsp_blk {
	struct vsp_device *device;
	uint64_t features;                      /* agreed */
	bool writeback;                         /* by the config space */
	void (*completed)(struct vsp_blk *blk); /* some ring has something to publish */
};

struct vsp_blk_request;

struct vsp_blk_queue {
	struct vsp_virtqueue ring;
	struct vsp_blk *blk;
	struct vsp_blk_request *requests; /* one for each head */
};

/* Feature bits of the device itself, rings included. */
uint64_t vsp_blk_features(const struct vsp_device *device);

/* The config space, for which size bytes at offset are asked: zero where there is nothing. */
void vsp_blk_get_config(const struct vsp_blk *blk, unsigned queue_count, uint8_t *ret,
			uint32_t offset, uint32_t size);
/* -EINVAL for all but the write-cache byte. */
int vsp_blk_set_config(struct vsp_blk *blk, const uint8_t *bytes, uint32_t offset, uint32_t size,
		       struct hv_err *err);

/* Takes up a ring: as vsp_virtqueue_start; -ENOMEM. */
int vsp_blk_queue_start(struct vsp_blk_queue *queue, struct vsp_blk *blk,
			const struct vsp_ring_setup *setup, struct vsp_guest_memory *memory,
			struct vsp_inflight_ring *inflight, struct hv_err *err);
/* Nothing is in flight. */
void vsp_blk_queue_stop(struct vsp_blk_queue *queue);

/* Requests that are kept (on_error.h) are not waited for: see vsp_virtqueue_give_back. */
void vsp_blk_give_back(struct vsp_blk *blk);

/* Submits all that is available: how many, or -EBADMSG when the ring is not to be trusted. */
int vsp_blk_queue_process(struct vsp_blk_queue *queue, struct hv_err *err);

#endif
