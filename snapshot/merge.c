/*
 * The merge itself.
 *
 * A cursor walks over the top by its extents. What layers above the target hold is read through the
 * top, chunk by chunk, and written to the target; the rest is passed over. A flush promises what
 * had been written when it was submitted: everything below the lowest chunk in flight at that time.
 */
#include "snapshot/merge.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/checked.h"
#include "hvcore/progress.h"
#include "snapshot/chain.h"

#define DEFAULT_DEPTH 8
#define DEFAULT_CHUNK (1u << 20)
#define DEFAULT_FLUSH_BYTES (UINT64_C(1) << 30)
#define DEFAULT_FLUSH_SECONDS 2
#define LOOK_BYTES (UINT64_C(64) << 20) /* that one look at extents is about, at most */
#define LOOKS 16                        /* in one step */
#define MEMORY_ALIGN 4096

struct slot {
	struct hv_io io;
	struct iovec iov;
	struct snap_merge *merge;
	bool busy;
	uint64_t offset, length;
	void *memory; /* NULL until first needed */
};

struct layer {
	uint32_t block_bytes;
	uint64_t last_block; /* that was counted */
};

struct snap_merge {
	struct hv_disk *top, *target;
	struct snap_merge_options options;
	unsigned levels;
	struct layer *layers;
	struct snap_merge_layer *counts;
	uint32_t target_block_bytes;
	uint64_t next;
	bool stopped;
	struct slot *slots;
	unsigned in_flight;
	uint64_t copied_bytes, zeroed_bytes;

	struct hv_io flush;
	bool flushing;
	uint64_t flush_promise, durable; /* offsets */
	uint64_t unflushed_bytes;
	double flushed_at;

	int result;
	struct hv_err err;
};

/* Slots. */

static struct slot *find_idle(struct snap_merge *merge)
{
	for (unsigned i = 0; i < merge->options.depth; i++) {
		if (!merge->slots[i].busy)
			return &merge->slots[i];
	}
	return NULL;
}

/* Everything before it has landed. */
static uint64_t frontier(const struct snap_merge *merge)
{
	uint64_t lowest = merge->next;

	for (unsigned i = 0; i < merge->options.depth; i++) {
		if (merge->slots[i].busy)
			lowest = hv_min_u64(lowest, merge->slots[i].offset);
	}
	return lowest;
}

static void fail(struct snap_merge *merge, int result)
{
	if (!merge->result)
		merge->result = result;
}

static void finish(struct slot *slot, int result)
{
	struct snap_merge *merge = slot->merge;

	slot->busy = false;
	merge->in_flight--;
	merge->unflushed_bytes += slot->length;
	if (result)
		fail(merge, result);
}

static void written(struct hv_io *io, int result)
{
	finish((struct slot *)io, result);
}

static void submit(struct slot *slot, struct hv_disk *disk, enum hv_io_op op,
		   void (*done)(struct hv_io *io, int result))
{
	bool data = op == HV_READ || op == HV_WRITE;

	slot->iov = (struct iovec){ slot->memory, slot->length };
	slot->io = (struct hv_io){ .op = op,
				   .offset = slot->offset,
				   .length = slot->length,
				   .iov = data ? &slot->iov : NULL,
				   .iov_count = data ? 1 : 0,
				   .err = &slot->merge->err,
				   .done = done };
	hv_disk_submit(disk, &slot->io);
}

static void was_read(struct hv_io *io, int result)
{
	struct slot *slot = (struct slot *)io;

	if (result)
		finish(slot, result);
	else
		submit(slot, slot->merge->target, HV_WRITE, written);
}

static void take(struct slot *slot, uint64_t offset, uint64_t length)
{
	slot->busy = true;
	slot->offset = offset;
	slot->length = length;
	slot->merge->in_flight++;
}

/* Walking. Each returns how far the cursor moves, or -errno. */

static void count(struct snap_merge *merge, unsigned depth, uint64_t offset, uint64_t length)
{
	struct layer *layer = &merge->layers[depth];
	struct snap_merge_layer *counts = &merge->counts[depth];
	uint64_t first = offset / layer->block_bytes;
	uint64_t last = (offset + length - 1) / layer->block_bytes;

	counts->copied_bytes += length;
	counts->copied_blocks += last - first + (first != layer->last_block);
	layer->last_block = last;
	merge->copied_bytes += length;
}

static int need_memory(struct slot *slot, struct hv_err *err)
{
	struct snap_merge *merge = slot->merge;

	if (slot->memory ||
	    !posix_memalign(&slot->memory, MEMORY_ALIGN, merge->options.chunk_bytes))
		return 0;
	slot->memory = NULL;
	return hv_fail(err, -ENOMEM, "%s: not enough memory", merge->target->path);
}

static int64_t copy(struct snap_merge *merge, struct slot *slot, const struct hv_extent *extent,
		    struct hv_err *err)
{
	uint64_t chunk = merge->options.chunk_bytes;
	uint64_t length = hv_min_u64(extent->length, chunk - extent->offset % chunk);
	int rc;

	if (merge->options.dry_run) {
		count(merge, extent->depth, extent->offset, extent->length);
		return (int64_t)extent->length;
	}
	rc = need_memory(slot, err);
	if (rc)
		return rc;
	count(merge, extent->depth, extent->offset, length);
	take(slot, extent->offset, length);
	submit(slot, merge->top, HV_READ, was_read);
	return (int64_t)length;
}

/*
 * The top reads as zero. Where the target does not, it is told so, in pieces of whole blocks where
 * that is possible, because those can be dropped.
 */
static int64_t clear(struct snap_merge *merge, struct slot *slot, const struct hv_extent *extent,
		     struct hv_err *err)
{
	bool overwrite = merge->options.overwrite;
	uint64_t unit = overwrite ? merge->options.chunk_bytes : merge->target_block_bytes;
	uint64_t start = extent->offset;
	uint64_t length = hv_min_u64(extent->length, unit - start % unit);
	struct hv_extent below;
	int rc;

	if (extent->offset >= merge->target->size_bytes) /* a dry run, before the target grows */
		return (int64_t)extent->length;
	rc = hv_disk_extent(merge->target, extent->offset, extent->length, 0, &below, err);
	if (rc)
		return rc;
	if (below.state == HV_EXTENT_ZERO)
		return (int64_t)below.length;
	rc = overwrite ? need_memory(slot, err) : 0;
	if (rc)
		return rc;
	merge->zeroed_bytes += length;
	if (merge->options.dry_run)
		return (int64_t)length;
	if (overwrite)
		memset(slot->memory, 0, length);
	take(slot, start, length);
	submit(slot, merge->target, overwrite ? HV_WRITE : HV_DISCARD, written);
	return (int64_t)length;
}

static int64_t look(struct snap_merge *merge, struct slot *slot, struct hv_err *err)
{
	uint64_t left = merge->top->size_bytes - merge->next;
	struct hv_extent extent;
	int rc = hv_disk_extent(merge->top, merge->next, hv_min_u64(left, LOOK_BYTES), 0, &extent,
				err);

	if (rc)
		return rc;
	if (extent.state == HV_EXTENT_ZERO)
		return clear(merge, slot, &extent, err);
	if (extent.depth < merge->levels)
		return copy(merge, slot, &extent, err);
	return (int64_t)extent.length;
}

static void advance(struct snap_merge *merge)
{
	for (int i = 0; i < LOOKS && merge->next < merge->top->size_bytes; i++) {
		struct slot *slot = find_idle(merge);
		int64_t length = slot ? look(merge, slot, &merge->err) : 0;

		if (length < 0)
			fail(merge, (int)length);
		if (length <= 0)
			return;
		merge->next += (uint64_t)length;
	}
}

/* Flushing. */

static void flushed(struct hv_io *io, int result)
{
	struct snap_merge *merge =
		(struct snap_merge *)((char *)io - offsetof(struct snap_merge, flush));

	merge->flushing = false;
	merge->in_flight--;
	if (result)
		fail(merge, result);
	else
		merge->durable = merge->flush_promise;
}

static void flush(struct snap_merge *merge)
{
	merge->flush_promise = frontier(merge);
	merge->unflushed_bytes = 0;
	merge->flushed_at = hv_now();
	merge->flushing = true;
	merge->in_flight++;
	merge->flush = (struct hv_io){ .op = HV_FLUSH, .err = &merge->err, .done = flushed };
	hv_disk_submit(merge->target, &merge->flush);
}

static bool flush_is_due(const struct snap_merge *merge)
{
	return merge->unflushed_bytes >= merge->options.flush_bytes ||
	       (frontier(merge) > merge->durable &&
		hv_now() - merge->flushed_at >= merge->options.flush_seconds);
}

/* For the driver. */

static bool all_is_sent(const struct snap_merge *merge)
{
	return merge->stopped || merge->next >= merge->top->size_bytes;
}

int snap_merge_step(struct snap_merge *merge, struct hv_err *err)
{
	if (!merge->result && !merge->stopped)
		advance(merge);
	if (merge->result)
		return merge->in_flight ? 1 :
					  hv_fail(err, merge->result, "%s",
						  hv_err_text(&merge->err, merge->result));
	if (merge->options.dry_run) {
		merge->durable = merge->next;
		return !all_is_sent(merge);
	}
	if (!merge->flushing && (flush_is_due(merge) || (all_is_sent(merge) && !merge->in_flight &&
							 merge->durable < merge->next)))
		flush(merge);
	return merge->in_flight || !all_is_sent(merge);
}

void snap_merge_stop(struct snap_merge *merge)
{
	merge->stopped = true;
}

void snap_merge_get_progress(const struct snap_merge *merge, struct snap_merge_progress *ret)
{
	*ret = (struct snap_merge_progress){
		.total_bytes = merge->top->size_bytes,
		.reached_bytes = merge->next,
		.durable_bytes = merge->durable,
		.copied_bytes = merge->copied_bytes,
		.zeroed_bytes = merge->zeroed_bytes,
		.in_flight = merge->in_flight,
		.levels = merge->levels,
		.layers = merge->counts,
	};
}

void snap_merge_free(struct snap_merge *merge)
{
	if (!merge)
		return;
	while (merge->in_flight)
		hv_loop_turn(merge->target->loop, true);
	for (unsigned i = 0; merge->slots && i < merge->options.depth; i++)
		free(merge->slots[i].memory);
	free(merge->slots);
	free(merge->layers);
	free(merge->counts);
	free(merge);
}

/* Beginning. */

static uint32_t block_bytes_of(struct hv_disk *disk)
{
	const struct vhd_info *info = vhd_is_vhd(disk) ? vhd_get_info(disk) : NULL;

	return info && info->block_bytes ? info->block_bytes : VHD_DEFAULT_BLOCK_BYTES;
}

static int find_levels(struct snap_merge *merge, struct hv_err *err)
{
	struct hv_disk *layer = merge->top;
	unsigned levels = 0;

	while (layer && layer != merge->target)
		layer = snap_layer_at(merge->top, ++levels);
	if (!layer || !levels)
		return hv_fail(err, -EINVAL, "%s: is no layer below '%s'", merge->target->path,
			       merge->top->path);
	if (merge->target->size_bytes < merge->top->size_bytes && !merge->options.dry_run)
		return hv_fail(err, -EINVAL, "%s: is smaller than '%s'", merge->target->path,
			       merge->top->path);
	merge->levels = levels;
	return 0;
}

static int prepare(struct snap_merge *merge, struct hv_err *err)
{
	int rc = find_levels(merge, err);

	if (rc)
		return rc;
	merge->slots = calloc(merge->options.depth, sizeof(*merge->slots));
	merge->layers = calloc(merge->levels, sizeof(*merge->layers));
	merge->counts = calloc(merge->levels, sizeof(*merge->counts));
	if (!merge->slots || !merge->layers || !merge->counts)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", merge->target->path);
	for (unsigned i = 0; i < merge->options.depth; i++)
		merge->slots[i].merge = merge;
	for (unsigned i = 0; i < merge->levels; i++) {
		merge->layers[i].block_bytes = block_bytes_of(snap_layer_at(merge->top, i));
		merge->layers[i].last_block = UINT64_MAX;
	}
	merge->target_block_bytes = block_bytes_of(merge->target);
	return 0;
}

int snap_merge_begin(struct hv_disk *top, struct hv_disk *target,
		     const struct snap_merge_options *options, struct snap_merge **ret,
		     struct hv_err *err)
{
	HV_AUTO(snap_merge_free) struct snap_merge *merge = calloc(1, sizeof(*merge));
	int rc;

	if (!merge)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", top->path);
	merge->top = top;
	merge->target = target;
	merge->options = *options;
	if (!merge->options.depth)
		merge->options.depth = DEFAULT_DEPTH;
	if (!merge->options.chunk_bytes)
		merge->options.chunk_bytes = DEFAULT_CHUNK;
	if (!merge->options.flush_bytes)
		merge->options.flush_bytes = DEFAULT_FLUSH_BYTES;
	if (merge->options.flush_seconds <= 0)
		merge->options.flush_seconds = DEFAULT_FLUSH_SECONDS;
	merge->next = merge->durable = hv_min_u64(options->start_bytes, top->size_bytes);
	merge->flushed_at = hv_now();
	rc = prepare(merge, err);
	if (rc == 0)
		*ret = hv_steal(merge);
	return rc;
}
