/*
 * Memory for payload, recycled: what a loop's transports read into and write from.
 *
 * Buffers suit O_DIRECT. They are cut from slabs of 2 MiB, which lie in huge pages (hvcore/memory.h
 * tells why); larger ones are slabs of their own. A slab without a buffer in use is good for
 * buffers of any size; a few are kept, the others given back. One thread; no lock.
 */
#ifndef VSP_STORAGE_BUFFERS_H
#define VSP_STORAGE_BUFFERS_H

#include <stddef.h>

#include "hvcore/cleanup.h"

struct vsp_buffers;
struct vsp_slab;

/* All zeros: none. */
struct vsp_buffer {
	void *memory;
	struct vsp_slab *slab;
};

/* NULL: no memory. */
struct vsp_buffers *vsp_buffers_new(void);

/* All buffers have been put back. */
void vsp_buffers_free(struct vsp_buffers *buffers);
HV_DEFINE_CLEANUP(struct vsp_buffers, vsp_buffers_free)

/* At least size bytes (not 0), contents undefined. 0 or -ENOMEM. */
int vsp_buffers_get(struct vsp_buffers *buffers, size_t size, struct vsp_buffer *ret);

/* *buffer is none afterwards; of none: nothing. */
void vsp_buffers_put(struct vsp_buffers *buffers, struct vsp_buffer *buffer);

#endif
