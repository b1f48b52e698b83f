/*
 * Comparing what is below a child, piece by piece, several in flight. A piece is read on both
 * sides; what differs is written to the child, one run of pages after the other.
 */
#include "snapshot/keep_view.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/checked.h"
#include "hvcore/scan.h"
#include "snapshot/chain.h"

#define DEFAULT_DEPTH 8
#define PIECE_BYTES (1u << 20)
#define PAGE 4096u /* what is compared, and written, together */
#define LOOK_BYTES (UINT64_C(64) << 20)

struct piece;

struct half {
	struct hv_io io;
	struct iovec iov;
	struct piece *piece;
	char *memory;
};

struct piece {
	struct half old_half, new_half; /* the first also writes */
	struct work *work;
	bool busy;
	unsigned reading;
	uint64_t offset, length, at; /* at: of length, how far it is compared */
};

struct work {
	const struct snap_keep_view *options;
	struct snap_kept_view *ret;
	struct piece *pieces;
	unsigned depth, in_flight;
	uint64_t next;
	int result;
	struct hv_err *err;
};

static void compare_on(struct piece *piece);

static void fail(struct work *work, int result)
{
	if (!work->result)
		work->result = result;
}

static void finish(struct piece *piece)
{
	piece->busy = false;
	piece->work->in_flight--;
}

/* Writing what differs. */

static void written(struct hv_io *io, int result)
{
	struct piece *piece = ((struct half *)io)->piece;

	if (result) {
		fail(piece->work, result);
		finish(piece);
	} else {
		compare_on(piece);
	}
}

static void write_run(struct piece *piece, uint64_t start, uint64_t length)
{
	struct half *half = &piece->old_half;
	bool zero = hv_is_zero(half->memory + start, length);

	half->iov = (struct iovec){ half->memory + start, length };
	half->io = (struct hv_io){ .op = zero ? HV_ZERO : HV_WRITE,
				   .offset = piece->offset + start,
				   .length = length,
				   .iov = zero ? NULL : &half->iov,
				   .iov_count = zero ? 0 : 1,
				   .err = piece->work->err,
				   .done = written };
	piece->work->ret->copied_bytes += length;
	if (zero)
		piece->work->ret->zeroed_bytes += length;
	if (piece->work->options->dry_run)
		hv_loop_finish(piece->work->options->child->loop, &half->io, 0);
	else
		hv_disk_submit(piece->work->options->child, &half->io);
}

/* Up to the end of the page that the offset lies in. */
static uint64_t page_left(const struct piece *piece, uint64_t at)
{
	return hv_min_u64(PAGE - (piece->offset + at) % PAGE, piece->length - at);
}

static bool differs(const struct piece *piece, uint64_t at)
{
	return memcmp(piece->old_half.memory + at, piece->new_half.memory + at,
		      page_left(piece, at)) != 0;
}

/* The next run of pages that differ is written; without one, the piece is done. */
static void compare_on(struct piece *piece)
{
	uint64_t start = piece->at, end;

	while (start < piece->length && !differs(piece, start))
		start += page_left(piece, start);
	end = start;
	while (end < piece->length && differs(piece, end))
		end += page_left(piece, end);
	piece->at = end;
	if (start < end && !piece->work->result)
		write_run(piece, start, end - start);
	else
		finish(piece);
}

/* Reading. */

static void was_read(struct hv_io *io, int result)
{
	struct piece *piece = ((struct half *)io)->piece;

	if (result)
		fail(piece->work, result);
	if (--piece->reading)
		return;
	if (piece->work->result)
		finish(piece);
	else
		compare_on(piece);
}

static void read_half(struct half *half, struct hv_disk *disk, bool zero)
{
	struct piece *piece = half->piece;

	half->iov = (struct iovec){ half->memory, piece->length };
	half->io = (struct hv_io){ .op = HV_READ,
				   .offset = piece->offset,
				   .length = piece->length,
				   .iov = &half->iov,
				   .iov_count = 1,
				   .err = piece->work->err,
				   .done = was_read };
	if (zero) {
		memset(half->memory, 0, piece->length);
		hv_loop_finish(disk->loop, &half->io, 0);
	} else {
		hv_disk_submit(disk, &half->io);
	}
}

/* Walking. */

/* Beyond a disk's end is zero. */
static int extent_at(struct hv_disk *disk, uint64_t offset, uint64_t length, struct hv_extent *ret,
		     struct hv_err *err)
{
	if (offset < disk->size_bytes)
		return hv_disk_extent(disk, offset, length, 0, ret, err);
	*ret = (struct hv_extent){ .offset = offset,
				   .length = length,
				   .state = HV_EXTENT_ZERO,
				   .host_offset = HV_NO_HOST_OFFSET };
	return 0;
}

/* Do both extents lie at the same place of the same file? */
static bool same_place(const struct work *work, const struct hv_extent *a,
		       const struct hv_extent *b)
{
	struct hv_disk *x, *y;

	if (a->state != HV_EXTENT_DATA || b->state != HV_EXTENT_DATA ||
	    a->host_offset == HV_NO_HOST_OFFSET || a->host_offset != b->host_offset)
		return false;
	x = snap_layer_at(work->options->old_parent, a->depth);
	y = snap_layer_at(work->options->new_parent, b->depth);
	return vhd_is_vhd(x) && vhd_is_vhd(y) && vhd_get_file(x)->dev == vhd_get_file(y)->dev &&
	       vhd_get_file(x)->ino == vhd_get_file(y)->ino;
}

static struct piece *find_idle(struct work *work)
{
	for (unsigned i = 0; i < work->depth; i++) {
		if (!work->pieces[i].busy)
			return &work->pieces[i];
	}
	return NULL;
}

/* A range that the child does not hold: how far it is dealt with, or -errno. */
static int64_t compare_range(struct work *work, struct piece *piece, uint64_t length)
{
	const struct snap_keep_view *options = work->options;
	struct hv_extent a, b;
	int rc = extent_at(options->old_parent, work->next, length, &a, work->err);

	if (rc == 0)
		rc = extent_at(options->new_parent, work->next, a.length, &b, work->err);
	if (rc)
		return rc;
	length = b.length;
	if ((a.state == HV_EXTENT_ZERO && b.state == HV_EXTENT_ZERO) || same_place(work, &a, &b))
		return (int64_t)length;
	length = hv_min_u64(length, PIECE_BYTES - work->next % PIECE_BYTES);
	piece->busy = true;
	piece->offset = work->next;
	piece->length = length;
	piece->at = 0;
	piece->reading = 2;
	work->in_flight++;
	work->ret->compared_bytes += length;
	read_half(&piece->old_half, options->old_parent, a.state == HV_EXTENT_ZERO);
	read_half(&piece->new_half, options->new_parent, b.state == HV_EXTENT_ZERO);
	return (int64_t)length;
}

static int64_t look(struct work *work, struct piece *piece)
{
	struct hv_disk *child = work->options->child;
	uint64_t left = hv_min_u64(child->size_bytes - work->next, LOOK_BYTES);
	struct hv_extent extent;
	int rc = hv_disk_extent(child, work->next, left, 0, &extent, work->err);

	if (rc)
		return rc;
	if (extent.state != HV_EXTENT_UNMAPPED)
		return (int64_t)extent.length;
	return compare_range(work, piece, extent.length);
}

static void run(struct work *work)
{
	const struct snap_keep_view *options = work->options;
	uint64_t total = options->child->size_bytes;

	while (!work->result && work->next < total) {
		struct piece *piece = find_idle(work);
		int64_t length = piece ? look(work, piece) : 0;

		if (length < 0)
			fail(work, (int)length);
		else
			work->next += (uint64_t)length;
		if (!piece || work->in_flight)
			hv_loop_turn(options->child->loop, !piece);
		if (options->progress && !options->progress(work->next, total, options->arg))
			fail(work, -EINTR);
	}
	while (work->in_flight)
		hv_loop_turn(options->child->loop, true);
}

static int prepare(struct work *work)
{
	work->pieces = calloc(work->depth, sizeof(*work->pieces));
	for (unsigned i = 0; work->pieces && i < work->depth; i++) {
		struct half *halves[] = { &work->pieces[i].old_half, &work->pieces[i].new_half };

		work->pieces[i].work = work;
		for (unsigned j = 0; j < 2; j++) {
			void *memory;

			if (posix_memalign(&memory, PAGE, PIECE_BYTES))
				return -ENOMEM;
			halves[j]->memory = memory;
			halves[j]->piece = &work->pieces[i];
		}
	}
	return work->pieces ? 0 : -ENOMEM;
}

int snap_keep_view(const struct snap_keep_view *options, struct snap_kept_view *ret,
		   struct hv_err *err)
{
	struct work work = { .options = options,
			     .ret = ret,
			     .depth = options->depth ? options->depth : DEFAULT_DEPTH,
			     .err = err };
	int rc = prepare(&work);

	*ret = (struct snap_kept_view){ 0 };
	if (rc == 0)
		run(&work);
	for (unsigned i = 0; work.pieces && i < work.depth; i++) {
		free(work.pieces[i].old_half.memory);
		free(work.pieces[i].new_half.memory);
	}
	free(work.pieces);
	if (rc)
		return hv_fail(err, rc, "%s: not enough memory", options->child->path);
	return work.result;
}
