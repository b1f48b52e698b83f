/*
 * Block status: what is where, told from the extents of the disk.
 *
 * A question must not hold up the other clients of the loop, so the answer is bounded, and shorter
 * than what was asked for if need be, which the protocol allows. base:allocation is told from
 * memory: what would take a look at a sector bitmap in the file is data. hvkit:depth would be wrong
 * then: where the table alone does not tell, bitmaps are read, at most EXACT_LOOKS of them.
 *
 * Flags of hvkit:depth: 0 where no layer holds anything, else 1 for the disk itself, 2 for its
 * parent, and so on, as qemu:allocation-depth has it.
 */
#include <errno.h>
#include <string.h>

#include "hvcore/checked.h"
#include "vsp-storage/nbd_connection.h"
#include "vsp-storage/nbd_wire.h"

#define LOOKS 512
#define EXACT_LOOKS 16
#define EXACT_BYTES (UINT64_C(2) << 20) /* a block of most disks, with one bitmap */
#define EXTENTS 256
#define BUFFER_BYTES (NBD_CONTEXTS * (48 + EXTENTS * sizeof(struct nbd_extended_status)))

struct extent {
	uint64_t length, flags;
};

/* Runs of equal flags, of one context. */
struct extents {
	struct extent list[EXTENTS];
	unsigned count;
};

struct walk {
	struct vsp_device *device;
	unsigned contexts;
	uint64_t first, last; /* what is asked for: [first, last) */
	uint64_t at, end;     /* what is left of its sectors */
	unsigned exact_left;
	struct extents extents[NBD_CONTEXTS];
};

static bool wants(const struct walk *walk, enum nbd_context context)
{
	return walk->contexts & 1u << context;
}

static uint64_t flags_of(enum nbd_context context, const struct hv_extent *extent)
{
	bool zero = extent->state == HV_EXTENT_ZERO;

	if (context == NBD_CONTEXT_ALLOCATION)
		return zero ? NBD_STATE_HOLE | NBD_STATE_ZERO : 0;
	return zero && extent->host_offset == HV_NO_HOST_OFFSET ? 0 : extent->depth + 1;
}

static bool room(const struct walk *walk)
{
	for (unsigned i = 0; i < NBD_CONTEXTS; i++)
		if (walk->extents[i].count == EXTENTS)
			return false;
	return true;
}

static void add(struct walk *walk, const struct hv_extent *extent)
{
	uint64_t length = hv_min_u64(walk->at + extent->length, walk->last) -
			  hv_max_u64(walk->at, walk->first);

	for (unsigned i = 0; i < NBD_CONTEXTS; i++) {
		struct extents *extents = &walk->extents[i];
		uint64_t flags = flags_of(i, extent);

		if (!wants(walk, i))
			continue;
		if (extents->count && extents->list[extents->count - 1].flags == flags)
			extents->list[extents->count - 1].length += length;
		else
			extents->list[extents->count++] = (struct extent){ length, flags };
	}
	walk->at += extent->length;
}

/* The extent at walk->at; -EAGAIN when that would take one more exact look than there may be. */
static int look(struct walk *walk, struct hv_extent *ret)
{
	struct vsp_device *device = walk->device;
	uint64_t length = walk->end - walk->at;
	int rc = vsp_device_extent(device, walk->at, length, HV_EXTENT_COARSE, ret);

	if (rc || ret->state != HV_EXTENT_DATA || !wants(walk, NBD_CONTEXT_DEPTH))
		return rc;
	if (!walk->exact_left--)
		return -EAGAIN;
	return vsp_device_extent(device, walk->at, hv_min_u64(ret->length, EXACT_BYTES), 0, ret);
}

static int run(struct walk *walk)
{
	int rc = 0;

	for (unsigned looks = 0; looks < LOOKS && walk->at < walk->end && room(walk); looks++) {
		struct hv_extent extent;

		rc = look(walk, &extent);
		if (rc)
			break;
		add(walk, &extent);
	}
	return rc;
}

/* The wire. */

static size_t put_extents(const struct nbd_request *request, const struct extents *extents,
			  unsigned context, bool last, uint8_t *out)
{
	bool extended = request->connection->extended;
	size_t each = extended ? sizeof(struct nbd_extended_status) : sizeof(struct nbd_status);
	hv_be32 head[2] = { hv_be32_make(context + 1), hv_be32_make(extents->count) };
	size_t head_bytes = extended ? 8 : 4;
	size_t size = nbd_put_chunk(request, out, last ? NBD_REPLY_FLAG_DONE : 0,
				    extended ? NBD_REPLY_TYPE_BLOCK_STATUS_EXT :
					       NBD_REPLY_TYPE_BLOCK_STATUS,
				    head_bytes + extents->count * each);

	memcpy(out + size, head, head_bytes);
	size += head_bytes;
	for (unsigned i = 0; i < extents->count; i++, size += each) {
		const struct extent *extent = &extents->list[i];
		struct nbd_extended_status wide = { hv_be64_make(extent->length),
						    hv_be64_make(extent->flags) };
		struct nbd_status narrow = { hv_be32_make((uint32_t)extent->length),
					     hv_be32_make((uint32_t)extent->flags) };

		memcpy(out + size, extended ? (void *)&wide : (void *)&narrow, each);
	}
	return size;
}

static void reply(struct nbd_request *request, struct walk *walk)
{
	uint8_t *out = request->buffer.memory;
	size_t size = 0;

	for (unsigned i = 0; i < NBD_CONTEXTS; i++) {
		if (request->flags & NBD_CMD_FLAG_REQ_ONE)
			walk->extents[i].count = 1;
		if (wants(walk, i))
			size += put_extents(request, &walk->extents[i], i,
					    !(walk->contexts >> (i + 1)), out + size);
	}
	nbd_reply_chunks(request, size);
}

void nbd_block_status(struct nbd_request *request)
{
	struct nbd_connection *connection = request->connection;
	struct vsp_device *device = connection->device;
	struct walk walk = { .device = device,
			     .contexts = connection->contexts,
			     .first = request->offset,
			     .at = hv_round_down(request->offset, HV_SECTOR_SIZE),
			     .exact_left = EXACT_LOOKS };
	int rc;

	if (!request->length ||
	    !hv_range_inside(request->offset, request->length, device->size_bytes)) {
		nbd_reply(request, NBD_EINVAL);
		return;
	}
	if (vsp_buffers_get(nbd_buffers(connection->nbd), BUFFER_BYTES, &request->buffer)) {
		nbd_reply(request, NBD_ENOMEM);
		return;
	}
	walk.last = request->offset + request->length;
	walk.end = hv_round_up(walk.last, HV_SECTOR_SIZE);
	rc = run(&walk);
	if (walk.at <= walk.first)
		nbd_reply(request, rc == -ENOMEM ? NBD_ENOMEM : NBD_EIO);
	else
		reply(request, &walk);
}
