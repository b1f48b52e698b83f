/*
 * virtio-blk requests. A request object belongs to a head of the ring, so that there are as many as
 * can be in flight, and nothing is allocated.
 */
#include "vsp-storage/vhost_blk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/checked.h"
#include "hvcore/iov.h"

#define PHYSICAL_BYTES 4096u
#define SEGMENT_SIZE_MAX (256u << 10)
#define SEGMENTS_MAX 126 /* with header and status in a ring of 128 */
#define DISCARD_SECTORS_MAX (1u << 21)

#define bit(feature) (UINT64_C(1) << (feature))

struct segment {
	uint64_t offset, length;
	bool unmap;
};

struct vsp_blk_request {
	struct vsp_request request;
	struct vsp_blk_queue *queue;
	uint8_t *status;
	uint32_t written;
	uint16_t head;
	uint8_t segment, segment_count; /* the next, and how many */
	struct segment segments[VSP_BLK_SEGMENTS_MAX];
	struct iovec iov[VSP_CHAIN_PIECES_MAX];
};

static_assert(VSP_BLK_REQUEST_BYTES_MAX >= (uint64_t)SEGMENTS_MAX * SEGMENT_SIZE_MAX,
	      "what the config space allows is served");

/* What the guest is told. */

uint64_t vsp_blk_features(const struct vsp_device *device)
{
	uint64_t features = bit(VIRTIO_BLK_SIZE_MAX) | bit(VIRTIO_BLK_SEG_MAX) |
			    bit(VIRTIO_BLK_BLK_SIZE) | bit(VIRTIO_BLK_FLUSH) |
			    bit(VIRTIO_BLK_TOPOLOGY) | bit(VIRTIO_BLK_CONFIG_WCE) |
			    bit(VIRTIO_BLK_MQ) | bit(VIRTIO_ANY_LAYOUT) | bit(VIRTIO_INDIRECT) |
			    bit(VIRTIO_EVENT_IDX) | bit(VIRTIO_VERSION_1);

	if (device->read_only)
		return features | bit(VIRTIO_BLK_RO);
	features |= bit(VIRTIO_BLK_WRITE_ZEROES);
	return device->discard ? features | bit(VIRTIO_BLK_DISCARD) : features;
}

static uint8_t exponent_of(uint32_t units)
{
	return (uint8_t)__builtin_ctz(units);
}

void vsp_blk_get_config(const struct vsp_blk *blk, unsigned queue_count, uint8_t *ret,
			uint32_t offset, uint32_t size)
{
	const struct vsp_device *device = blk->device;
	uint32_t per_physical = hv_max_u64(PHYSICAL_BYTES / device->sector_bytes, 1);
	struct virtio_blk_config config = {
		.capacity = hv_le64_make(device->size_bytes / VIRTIO_BLK_SECTOR),
		.size_max = hv_le32_make(SEGMENT_SIZE_MAX),
		.seg_max = hv_le32_make(SEGMENTS_MAX),
		.blk_size = hv_le32_make(device->sector_bytes),
		.physical_exponent = exponent_of(per_physical),
		.min_io_size = hv_le16_make((uint16_t)per_physical),
		.writeback = blk->writeback,
		.queue_count = hv_le16_make((uint16_t)queue_count),
		.max_discard_sectors = hv_le32_make(DISCARD_SECTORS_MAX),
		.max_discard_segments = hv_le32_make(VSP_BLK_SEGMENTS_MAX),
		.discard_alignment = hv_le32_make(PHYSICAL_BYTES / VIRTIO_BLK_SECTOR),
		.max_zeroes_sectors = hv_le32_make(DISCARD_SECTORS_MAX),
		.max_zeroes_segments = hv_le32_make(VSP_BLK_SEGMENTS_MAX),
		.zeroes_may_unmap = device->discard,
	};

	memset(ret, 0, size);
	if (offset < sizeof(config))
		memcpy(ret, (uint8_t *)&config + offset, hv_min_u64(size, sizeof(config) - offset));
}

int vsp_blk_set_config(struct vsp_blk *blk, const uint8_t *bytes, uint32_t offset, uint32_t size,
		       struct hv_err *err)
{
	if (offset != offsetof(struct virtio_blk_config, writeback) || size != 1 || *bytes > 1)
		return hv_fail(err, -EINVAL,
			       "%u bytes at %u of the config space cannot be changed so", size,
			       offset);
	blk->writeback = *bytes;
	return 0;
}

/* Without a flush command the guest takes every write for durable (5.2.6.2). */
static bool writes_through(const struct vsp_blk *blk)
{
	if (!(blk->features & bit(VIRTIO_BLK_FLUSH)))
		return true;
	return (blk->features & bit(VIRTIO_BLK_CONFIG_WCE)) && !blk->writeback;
}

/* Answers. */

static void answer(struct vsp_blk_request *request, enum virtio_blk_status status)
{
	struct vsp_blk_queue *queue = request->queue;

	*request->status = (uint8_t)status;
	vsp_virtqueue_complete(&queue->ring, request->head, request->written);
	queue->blk->completed(queue->blk);
}

static enum virtio_blk_status status_of(int result)
{
	if (result == 0)
		return VIRTIO_BLK_OK;
	return result == -ENOTSUP ? VIRTIO_BLK_UNSUPP : VIRTIO_BLK_IOERR;
}

/* Without tracking, the guest would never hear of it again. */
static void give_back(struct vsp_blk_request *request)
{
	struct vsp_blk_queue *queue = request->queue;

	if (!queue->ring.inflight) {
		answer(request, VIRTIO_BLK_IOERR);
		return;
	}
	vsp_virtqueue_give_back(&queue->ring, request->head);
	queue->blk->completed(queue->blk);
}

static void end(struct vsp_blk_request *request, int result)
{
	if (result == -ECANCELED)
		give_back(request);
	else
		answer(request, status_of(result));
}

static void request_done(struct vsp_request *done, int result)
{
	end((struct vsp_blk_request *)done, result);
}

/* Reading and writing. */

/* Takes bytes off the beginning of a vector that holds more; returns how many elements are left. */
static int skip(struct iovec **iov, int count, uint64_t bytes)
{
	while (count && bytes >= (*iov)->iov_len) {
		bytes -= (*iov)->iov_len;
		++*iov;
		count--;
	}
	if (count) {
		(*iov)->iov_base = (uint8_t *)(*iov)->iov_base + bytes;
		(*iov)->iov_len -= bytes;
	}
	return count;
}

static void submit(struct vsp_blk_request *request, enum hv_io_op op, unsigned flags,
		   uint64_t offset, uint64_t length, const struct iovec *iov, int iov_count)
{
	struct hv_io *io = &request->request.io;

	io->op = op;
	io->flags = flags;
	io->offset = offset;
	io->length = length;
	io->iov = iov;
	io->iov_count = iov_count;
	vsp_device_submit(request->queue->blk->device, &request->request);
}

static void transfer(struct vsp_blk_request *request, enum hv_io_op op, uint64_t sector,
		     uint64_t length, const struct iovec *iov, int iov_count)
{
	bool durable = op == HV_WRITE && writes_through(request->queue->blk);

	if (length == 0 || length % VIRTIO_BLK_SECTOR || length > VSP_BLK_REQUEST_BYTES_MAX ||
	    sector > UINT64_MAX / VIRTIO_BLK_SECTOR) {
		answer(request, VIRTIO_BLK_IOERR);
		return;
	}
	request->request.done = request_done;
	submit(request, op, durable ? HV_IO_FUA : 0, sector * VIRTIO_BLK_SECTOR, length, iov,
	       iov_count);
}

/* Discarding and zeroing: a list of segments, done one after the other. */

static void next_segment(struct vsp_request *done, int result)
{
	struct vsp_blk_request *request = (struct vsp_blk_request *)done;
	const struct segment *segment = &request->segments[request->segment];

	if (result == 0 && request->segment < request->segment_count) {
		request->segment++;
		submit(request, segment->unmap ? HV_DISCARD : HV_ZERO, 0, segment->offset,
		       segment->length, NULL, 0);
	} else if (result == 0 && writes_through(request->queue->blk)) {
		request->request.done = request_done;
		submit(request, HV_FLUSH, 0, 0, 0, NULL, 0);
	} else {
		end(request, result);
	}
}

static bool is_of(const struct vsp_request *request, const void *blk)
{
	if (request->done != request_done && request->done != next_segment)
		return false;
	return ((const struct vsp_blk_request *)request)->queue->blk == blk;
}

void vsp_blk_give_back(struct vsp_blk *blk)
{
	vsp_on_error_give_back(blk->device, is_of, blk);
}

static enum virtio_blk_status decode_segment(const struct virtio_blk_segment *segment,
					     uint32_t type, const struct vsp_device *device,
					     struct segment *ret)
{
	uint64_t sector = hv_le64_get(segment->sector), count = hv_le32_get(segment->sector_count);
	uint32_t flags = hv_le32_get(segment->flags);

	if (flags & ~VIRTIO_BLK_SEGMENT_UNMAP || (flags && type == VIRTIO_BLK_DISCARD_OUT))
		return VIRTIO_BLK_UNSUPP;
	if (!hv_range_inside(sector, count, device->size_bytes / VIRTIO_BLK_SECTOR))
		return VIRTIO_BLK_IOERR;
	ret->offset = sector * VIRTIO_BLK_SECTOR;
	ret->length = count * VIRTIO_BLK_SECTOR;
	ret->unmap = flags || type == VIRTIO_BLK_DISCARD_OUT;
	return VIRTIO_BLK_OK;
}

/* All of them are looked at before the first takes effect. */
static void clear(struct vsp_blk_request *request, uint32_t type, const struct iovec *iov,
		  int count, uint64_t bytes)
{
	struct virtio_blk_segment list[VSP_BLK_SEGMENTS_MAX];
	enum virtio_blk_status status = VIRTIO_BLK_OK;

	if (bytes == 0 || bytes % sizeof(list[0]) || bytes > sizeof(list)) {
		answer(request, VIRTIO_BLK_IOERR);
		return;
	}
	hv_iov_gather(iov, count, 0, list, bytes);
	request->segment = 0;
	request->segment_count = (uint8_t)(bytes / sizeof(list[0]));
	for (unsigned i = 0; i < request->segment_count && status == VIRTIO_BLK_OK; i++)
		status = decode_segment(&list[i], type, request->queue->blk->device,
					&request->segments[i]);
	if (status != VIRTIO_BLK_OK) {
		answer(request, status);
		return;
	}
	request->request.done = next_segment;
	next_segment(&request->request, 0);
}

static void identify(struct vsp_blk_request *request, const struct iovec *iov, int count,
		     uint64_t bytes)
{
	char id[VIRTIO_BLK_ID_BYTES] = { 0 };
	const char *serial = request->queue->blk->device->serial;

	memcpy(id, serial, strnlen(serial, sizeof(id)));
	hv_iov_scatter(iov, count, 0, id, hv_min_u64(bytes, sizeof(id)));
	answer(request, VIRTIO_BLK_OK);
}

/* By the header; chain is what remains without header and status. */
static void dispatch(struct vsp_blk_request *request, const struct virtio_blk_header *header,
		     const struct vsp_chain *chain, struct iovec *readable, struct iovec *writable)
{
	uint32_t type = hv_le32_get(header->type);
	uint64_t sector = hv_le64_get(header->sector);

	switch (type) {
	case VIRTIO_BLK_IN:
		transfer(request, HV_READ, sector, chain->writable_bytes, writable,
			 chain->writable_count);
		break;
	case VIRTIO_BLK_OUT:
		transfer(request, HV_WRITE, sector, chain->readable_bytes, readable,
			 chain->readable_count);
		break;
	case VIRTIO_BLK_FLUSH_OUT:
		request->request.done = request_done;
		submit(request, HV_FLUSH, 0, 0, 0, NULL, 0);
		break;
	case VIRTIO_BLK_GET_ID:
		identify(request, writable, chain->writable_count, chain->writable_bytes);
		break;
	case VIRTIO_BLK_DISCARD_OUT:
	case VIRTIO_BLK_WRITE_ZEROES_OUT:
		clear(request, type, readable, chain->readable_count, chain->readable_bytes);
		break;
	default:
		answer(request, VIRTIO_BLK_UNSUPP);
	}
}

static int start_request(struct vsp_blk_queue *queue, uint16_t head, struct hv_err *err)
{
	struct vsp_blk_request *request = &queue->requests[head];
	struct iovec *readable = request->iov, *writable, *last;
	struct virtio_blk_header header;
	struct vsp_chain chain;
	int rc = vsp_virtqueue_chain(&queue->ring, head, &chain, request->iov, err);

	if (rc)
		return rc;
	if (chain.readable_bytes < sizeof(header) || chain.writable_bytes < 1)
		return hv_fail(err, -EBADMSG, "a request has no room for header and status");
	writable = request->iov + chain.readable_count;
	last = &writable[chain.writable_count - 1];
	request->queue = queue;
	request->head = head;
	request->written = (uint32_t)hv_min_u64(chain.writable_bytes, UINT32_MAX);
	hv_iov_gather(readable, chain.readable_count, 0, &header, sizeof(header));
	chain.readable_count = skip(&readable, chain.readable_count, sizeof(header));
	chain.readable_bytes -= sizeof(header);
	chain.writable_bytes--;
	last->iov_len--;
	request->status = (uint8_t *)last->iov_base + last->iov_len;
	if (last->iov_len == 0)
		chain.writable_count--;
	dispatch(request, &header, &chain, readable, writable);
	return 0;
}

int vsp_blk_queue_process(struct vsp_blk_queue *queue, struct hv_err *err)
{
	int count = 0, rc;
	uint16_t head;

	vsp_virtqueue_wake(&queue->ring);
	while ((rc = vsp_virtqueue_next(&queue->ring, &head, err)) > 0) {
		rc = start_request(queue, head, err);
		if (rc) {
			vsp_virtqueue_abandon(&queue->ring);
			break;
		}
		count++;
	}
	return rc ? rc : count;
}

int vsp_blk_queue_start(struct vsp_blk_queue *queue, struct vsp_blk *blk,
			const struct vsp_ring_setup *setup, struct vsp_guest_memory *memory,
			struct vsp_inflight_ring *inflight, struct hv_err *err)
{
	int rc = vsp_virtqueue_start(&queue->ring, setup, memory, inflight, err);

	if (rc)
		return rc;
	queue->blk = blk;
	queue->requests = calloc(setup->size, sizeof(*queue->requests));
	if (!queue->requests)
		return hv_fail(err, -ENOMEM, "not enough memory for a ring of %u", setup->size);
	return 0;
}

void vsp_blk_queue_stop(struct vsp_blk_queue *queue)
{
	free(hv_steal(queue->requests));
}
