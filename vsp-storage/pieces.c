/*
 * Requests in pieces: edges first, whole sectors last.
 */
#include "vsp-storage/pieces.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/checked.h"
#include "hvcore/iov.h"

enum step { READ_HEAD, WRITE_HEAD, READ_TAIL, WRITE_TAIL, MIDDLE, STEPS };

struct pieces {
	struct hv_io io;
	struct vsp_request *request;
	enum step step;        /* under way */
	uint64_t first, last;  /* the whole sectors that are left: [first, last), if any */
	uint64_t middle_bytes; /* of them, in flight */
	struct iovec sector_iov;
	uint8_t sector[HV_SECTOR_SIZE];
	struct iovec iov[]; /* of the whole sectors */
};

static void next_step(struct pieces *pieces);

static bool is_read(const struct pieces *pieces)
{
	return pieces->request->op == HV_READ;
}

/* The part of the request in the edge sector at hand: [*start, *start + length) of the request. */
static uint64_t edge(const struct pieces *pieces, uint64_t *start, uint64_t *within)
{
	const struct vsp_request *request = pieces->request;
	uint64_t end = request->offset + request->length, sector_end;

	if (pieces->step <= WRITE_HEAD) {
		*start = 0;
		*within = request->offset % HV_SECTOR_SIZE;
		sector_end = hv_round_up(request->offset + 1, HV_SECTOR_SIZE);
		return hv_min_u64(end, sector_end) - request->offset;
	}
	*within = 0;
	*start = pieces->last - request->offset;
	return end - pieces->last;
}

/* Between the sector's bytes and the request's. */
static void move_edge(struct pieces *pieces)
{
	const struct vsp_request *request = pieces->request;
	uint64_t start, within, length = edge(pieces, &start, &within);

	if (is_read(pieces))
		hv_iov_scatter(request->io.iov, request->io.iov_count, start,
			       pieces->sector + within, length);
	else if (request->op == HV_WRITE)
		hv_iov_gather(request->io.iov, request->io.iov_count, start,
			      pieces->sector + within, length);
	else
		memset(pieces->sector + within, 0, length);
}

static void step_done(struct hv_io *io, int result)
{
	struct pieces *pieces = (struct pieces *)io;
	struct vsp_request *request = pieces->request;

	if (result == 0 && (pieces->step == READ_HEAD || pieces->step == READ_TAIL))
		move_edge(pieces);
	if (result == 0 && pieces->step == MIDDLE)
		pieces->first += pieces->middle_bytes;
	if (result == 0 && (pieces->step != MIDDLE || pieces->first >= pieces->last))
		pieces->step++;
	if (result == 0 && pieces->step < STEPS) {
		next_step(pieces);
		return;
	}
	free(pieces);
	request->io.done(&request->io, result);
}

static bool has_head(const struct pieces *pieces)
{
	return pieces->request->offset % HV_SECTOR_SIZE;
}

/* What lies within one sector is all head. */
static bool has_tail(const struct pieces *pieces)
{
	const struct vsp_request *request = pieces->request;

	return (request->offset + request->length) % HV_SECTOR_SIZE &&
	       pieces->last >= request->offset;
}

/* Is there nothing to do in this step? */
static bool passes(const struct pieces *pieces)
{
	switch (pieces->step) {
	case READ_HEAD:
		return !has_head(pieces);
	case WRITE_HEAD:
		return !has_head(pieces) || is_read(pieces);
	case READ_TAIL:
		return !has_tail(pieces);
	case WRITE_TAIL:
		return !has_tail(pieces) || is_read(pieces);
	default:
		return pieces->first >= pieces->last;
	}
}

static void send_edge(struct pieces *pieces)
{
	bool reads = pieces->step == READ_HEAD || pieces->step == READ_TAIL;

	pieces->io.op = reads ? HV_READ : HV_WRITE;
	pieces->io.flags = reads ? 0 : pieces->request->flags;
	pieces->io.offset = pieces->step <= WRITE_HEAD ?
				    hv_round_down(pieces->request->offset, HV_SECTOR_SIZE) :
				    pieces->last;
	pieces->io.length = HV_SECTOR_SIZE;
	pieces->io.iov = &pieces->sector_iov;
	pieces->io.iov_count = 1;
}

static void send_middle(struct pieces *pieces)
{
	const struct vsp_request *request = pieces->request;

	pieces->io.op = request->op;
	pieces->io.flags = request->flags;
	pieces->io.offset = pieces->first;
	pieces->io.length = pieces->middle_bytes =
		hv_min_u64(pieces->last - pieces->first, VSP_PIECE_BYTES);
	pieces->io.iov = request->io.iov ? pieces->iov : NULL;
	pieces->io.iov_count = 0;
	if (request->io.iov)
		pieces->io.iov_count = hv_iov_slice(request->io.iov, request->io.iov_count,
						    pieces->first - request->offset,
						    pieces->io.length, pieces->iov);
}

static void next_step(struct pieces *pieces)
{
	struct vsp_device *device = pieces->request->device;

	while (pieces->step < MIDDLE && passes(pieces))
		pieces->step++;
	if (pieces->step == MIDDLE && passes(pieces)) {
		hv_loop_finish(device->loop, &pieces->io, 0);
		return;
	}
	if (pieces->step == MIDDLE)
		send_middle(pieces);
	else
		send_edge(pieces);
	hv_disk_submit(device->disk, &pieces->io);
}

void vsp_pieces_submit(struct vsp_request *request)
{
	size_t iov_bytes = (size_t)request->io.iov_count * sizeof(struct iovec);
	struct pieces *pieces = malloc(sizeof(*pieces) + iov_bytes);

	if (!pieces) {
		hv_loop_finish(request->device->loop, &request->io, -ENOMEM);
		return;
	}
	*pieces = (struct pieces){
		.io = { .err = &request->device->err, .done = step_done },
		.request = request,
		.first = hv_round_up(request->offset, HV_SECTOR_SIZE),
		.last = hv_round_down(request->offset + request->length, HV_SECTOR_SIZE),
	};
	pieces->sector_iov = (struct iovec){ pieces->sector, HV_SECTOR_SIZE };
	next_step(pieces);
}
