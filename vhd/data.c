/*
 * Reads, writes and zeros of dynamic and differencing disks.
 *
 * A request is split by blocks; each part is routed by what its block is. The common case, a
 * request inside one block whose bitmap is full, is the same struct hv_io with another offset,
 * handed to the file: no memory, no second completion. A part that must wait (for a bitmap to be
 * loaded, for space) is queued and routed again from the start, so that it sees what has become of
 * the block meanwhile.
 *
 * Bits of a sector bitmap are set in memory when the data of their sectors has been written, and
 * reach the file by a commit, after a barrier (commit.c).
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include "hvcore/bitmap.h"
#include "hvcore/checked.h"
#include "hvcore/iov.h"
#include "vhd/image.h"

/* A request made of parts. */
struct split {
	struct vhd *vhd;
	struct hv_io *upper;
	unsigned pending; /* parts not done yet, and one for the splitting itself */
	int result;
};

/*
 * A piece of a request, or a whole one whose completion we need to see: afterwards sectors
 * [first, first + count) of bitmap are present.
 */
struct part {
	struct hv_io io;
	struct vhd *vhd;
	struct split *split; /* or: */
	struct hv_io *upper;
	struct vhd_bitmap *bitmap; /* pinned; NULL: nothing to mark */
	uint32_t first, count;
	struct iovec iov[];
};

void vhd_queue_push(struct vhd_io_queue *queue, struct hv_io *io)
{
	io->next = NULL;
	if (queue->tail)
		queue->tail->next = io;
	else
		queue->head = io;
	queue->tail = io;
}

struct hv_io *vhd_queue_pop(struct vhd_io_queue *queue)
{
	struct hv_io *io = queue->head;

	if (!io)
		return NULL;
	queue->head = io->next;
	if (!queue->head)
		queue->tail = NULL;
	io->next = NULL;
	return io;
}

static uint32_t block_of(const struct vhd *vhd, const struct hv_io *io)
{
	return (uint32_t)(io->offset >> vhd->layout.block_shift);
}

static uint32_t within_block(const struct vhd *vhd, const struct hv_io *io)
{
	return (uint32_t)(io->offset & (vhd->layout.block_bytes - 1));
}

static bool wants_durability(const struct hv_io *io)
{
	return io->flags & HV_IO_FUA && hv_io_changes_data(io->op);
}

/* Completes a request whose data is where it belongs. Called from completions only. */
static void finish(struct vhd *vhd, struct hv_io *io, int result)
{
	if (result == 0 && wants_durability(io))
		vhd_commit_add(vhd, io);
	else
		io->done(io, result);
}

/* The same from a submit function, whose caller must not be completed under its feet. */
static void finish_later(struct vhd *vhd, struct hv_io *io)
{
	if (wants_durability(io))
		vhd_commit_add(vhd, io);
	else
		hv_loop_finish(vhd->base.loop, io, 0);
}

static void no_memory(struct vhd *vhd, struct hv_io *io)
{
	hv_io_fail(&vhd->base, io, -ENOMEM, "%s: not enough memory", vhd->base.path);
}

/* Parts. */

static void part_done(struct hv_io *io, int result)
{
	struct part *part = (struct part *)io;
	struct split *split = part->split;

	free(part);
	if (result && !split->result)
		split->result = result;
	if (--split->pending == 0) {
		finish(split->vhd, split->upper, split->result);
		free(split);
	}
}

static struct split *split_begin(struct vhd *vhd, struct hv_io *upper)
{
	struct split *split = malloc(sizeof(*split));

	if (!split) {
		no_memory(vhd, upper);
		return NULL;
	}
	*split = (struct split){ .vhd = vhd, .upper = upper, .pending = 1 };
	return split;
}

/* Bytes [start, start + length) of the upper request; NULL (remembered) without memory. */
static struct part *split_part(struct split *split, uint64_t start, uint64_t length)
{
	const struct hv_io *upper = split->upper;
	struct part *part = malloc(sizeof(*part) + (size_t)upper->iov_count * sizeof(struct iovec));

	if (!part) {
		split->result = -ENOMEM;
		return NULL;
	}
	*part = (struct part){
		.io = { .op = upper->op,
			.offset = upper->offset + start,
			.length = length,
			.iov = upper->iov ? part->iov : NULL,
			.err = upper->err,
			.done = part_done },
		.vhd = split->vhd,
		.split = split,
	};
	if (upper->iov)
		part->io.iov_count =
			hv_iov_slice(upper->iov, upper->iov_count, start, length, part->iov);
	split->pending++;
	return part;
}

static void split_end(struct split *split)
{
	if (--split->pending)
		return;
	/* No part was made. */
	if (split->result)
		no_memory(split->vhd, split->upper);
	else
		finish_later(split->vhd, split->upper);
	free(split);
}

/* Whole requests that we need to see completed. */

static void tracked_done(struct hv_io *io, int result)
{
	struct part *part = (struct part *)io;
	struct vhd *vhd = part->vhd;
	struct hv_io *upper = part->upper;

	if (part->bitmap) {
		part->bitmap->pins--;
		if (result == 0)
			vhd_bitmap_mark(vhd, part->bitmap, part->first, part->count);
	}
	free(part);
	finish(vhd, upper, result);
	vhd_commit_soon(vhd);
}

/* Sends io to the file; when it is done, its sectors are marked in bitmap (unless NULL). */
static void send_tracked(struct vhd *vhd, struct hv_io *upper, struct vhd_bitmap *bitmap)
{
	struct part *part = malloc(sizeof(*part));
	uint32_t within = within_block(vhd, upper);

	if (!part) {
		no_memory(vhd, upper);
		return;
	}
	*part = (struct part){
		.io = { .op = upper->op,
			.offset = vhd_data_offset(vhd, block_of(vhd, upper)) + within,
			.length = upper->length,
			.iov = upper->iov,
			.iov_count = upper->iov_count,
			.err = upper->err,
			.done = tracked_done },
		.vhd = vhd,
		.upper = upper,
		.bitmap = bitmap,
		.first = within >> HV_SECTOR_SHIFT,
		.count = (uint32_t)(upper->length >> HV_SECTOR_SHIFT),
	};
	if (bitmap)
		bitmap->pins++;
	hv_file_submit(vhd->file, &part->io);
}

/* Hands the request itself to the file. */
static void send_down(struct vhd *vhd, struct hv_io *io)
{
	io->offset = vhd_data_offset(vhd, block_of(vhd, io)) + within_block(vhd, io);
	hv_file_submit(vhd->file, io);
}

/* Reading. */

static void read_beyond(struct vhd *vhd, struct hv_io *io)
{
	hv_io_fill_zero(io, 0, io->length);
	hv_loop_finish(vhd->base.loop, io, 0);
}

/* Sectors that this file does not hold. */
static void read_unmapped(struct vhd *vhd, struct hv_io *io)
{
	struct hv_disk *backing = vhd->backing;
	uint64_t inside;
	struct part *part;
	struct split *split;

	if (vhd->differencing && !backing) {
		hv_io_fail(&vhd->base, io, -ENOENT,
			   "%s: the sectors at byte %llu belong to the parent, which is not open",
			   vhd->base.path, (unsigned long long)io->offset);
		return;
	}
	if (!vhd->differencing || io->offset >= backing->size_bytes) {
		read_beyond(vhd, io);
		return;
	}
	inside = hv_min_u64(io->length, backing->size_bytes - io->offset);
	if (inside == io->length) {
		hv_disk_submit(backing, io);
		return;
	}
	split = split_begin(vhd, io);
	if (!split)
		return;
	part = split_part(split, 0, inside);
	if (part)
		hv_disk_submit(backing, &part->io);
	hv_io_fill_zero(io, inside, io->length - inside);
	split_end(split);
}

/*
 * Sectors that this file holds. A last block that was stored short ends at the footer; the rest of
 * it is zero. (For writing such a file has been put right when it was opened.) Where the footer is
 * missing, the file has been cut, and the rest is lost.
 */
static void read_mapped(struct vhd *vhd, struct hv_io *io)
{
	uint64_t start = vhd_data_offset(vhd, block_of(vhd, io)) + within_block(vhd, io);
	uint64_t end = vhd->base.writable ? UINT64_MAX : vhd->layout.file_end;
	struct split *split;
	struct part *part;

	if (start + io->length <= end) {
		send_down(vhd, io);
		return;
	}
	if (!vhd->info.trailing_footer_valid) {
		hv_io_fail(&vhd->base, io, -EBADMSG,
			   "%s: block %u is cut off by the file's end at %llu", vhd->base.path,
			   block_of(vhd, io), (unsigned long long)end);
		return;
	}
	if (start >= end) {
		read_beyond(vhd, io);
		return;
	}
	split = split_begin(vhd, io);
	if (!split)
		return;
	part = split_part(split, 0, end - start);
	if (part)
		send_down(vhd, &part->io);
	hv_io_fill_zero(io, end - start, io->length - (end - start));
	split_end(split);
}

/* A request over present and absent sectors: one part for each run. */
static void read_runs(struct vhd *vhd, struct hv_io *io, const uint8_t *bits)
{
	uint32_t first = within_block(vhd, io) >> HV_SECTOR_SHIFT;
	uint32_t count = (uint32_t)(io->length >> HV_SECTOR_SHIFT);
	struct split *split = split_begin(vhd, io);
	uint32_t done = 0;

	if (!split)
		return;
	while (done < count && !split->result) {
		bool present;
		uint32_t run = (uint32_t)hv_bits_run(bits, first + done, count - done, &present);
		struct part *part = split_part(split, (uint64_t)done << HV_SECTOR_SHIFT,
					       (uint64_t)run << HV_SECTOR_SHIFT);

		if (part && present)
			read_mapped(vhd, &part->io);
		else if (part)
			read_unmapped(vhd, &part->io);
		done += run;
	}
	split_end(split);
}

static void read_block(struct vhd *vhd, struct hv_io *io, uint32_t block)
{
	uint32_t first = within_block(vhd, io) >> HV_SECTOR_SHIFT;
	uint32_t count = (uint32_t)(io->length >> HV_SECTOR_SHIFT);
	struct vhd_bitmap *bitmap;
	bool present;

	if (vhd->bat[block] == VHD_UNUSED) {
		read_unmapped(vhd, io);
		return;
	}
	if (hv_bit_get(vhd->full, block)) {
		read_mapped(vhd, io);
		return;
	}
	bitmap = vhd_bitmap_get(vhd, block, io);
	if (!bitmap)
		return;
	if (hv_bits_run(bitmap->bits, first, count, &present) < count)
		read_runs(vhd, io, bitmap->bits);
	else if (present)
		read_mapped(vhd, io);
	else
		read_unmapped(vhd, io);
}

/* Writing. */

/*
 * The request's sectors are present already. Durability comes with the data alone when no metadata
 * waits; otherwise the block itself may not be in the file's table yet.
 */
static void write_present(struct vhd *vhd, struct hv_io *io)
{
	if (wants_durability(io) && !vhd_commit_clean(vhd))
		send_tracked(vhd, io, NULL);
	else
		send_down(vhd, io);
}

/*
 * Gives an unallocated block a place. A new block of a dynamic disk is all present (its space is
 * zero); one of a differencing disk is all the parent's until sectors are written.
 */
static bool allocate(struct vhd *vhd, uint32_t block, struct hv_io *io)
{
	struct vhd_bitmap *bitmap = NULL;

	if (vhd->differencing) {
		bitmap = vhd_bitmap_make(vhd, block);
		if (!bitmap) {
			no_memory(vhd, io);
			return false;
		}
	}
	if (!vhd_alloc_block(vhd, block, io)) {
		if (bitmap)
			vhd_bitmap_drop(vhd, bitmap);
		return false;
	}
	if (bitmap)
		vhd_bitmap_dirty(vhd, bitmap);
	else
		hv_bit_set(vhd->full, block);
	vhd_commit_soon(vhd);
	return true;
}

static void change_allocated(struct vhd *vhd, struct hv_io *io, uint32_t block)
{
	uint32_t first = within_block(vhd, io) >> HV_SECTOR_SHIFT;
	uint32_t count = (uint32_t)(io->length >> HV_SECTOR_SHIFT);
	struct vhd_bitmap *bitmap;

	if (hv_bit_get(vhd->full, block)) {
		write_present(vhd, io);
		return;
	}
	bitmap = vhd_bitmap_get(vhd, block, io);
	if (!bitmap)
		return;
	/* Absent sectors of a dynamic disk are zero, and zeroing leaves them absent. */
	if (hv_bits_all(bitmap->bits, first, count) || (io->op != HV_WRITE && !vhd->differencing))
		write_present(vhd, io);
	else
		send_tracked(vhd, io, bitmap);
}

static void write_block(struct vhd *vhd, struct hv_io *io, uint32_t block)
{
	if (vhd->bat[block] == VHD_UNUSED && !allocate(vhd, block, io))
		return;
	change_allocated(vhd, io, block);
}

/* Zeros in a block of a child that the child does not have: the parent may hold data there. */
static void zero_unallocated(struct vhd *vhd, struct hv_io *io, uint32_t block)
{
	int zero =
		!vhd->differencing ? 1 : vhd_backing_is_zero(vhd, io->offset, io->length, io->err);
	struct vhd_bitmap *bitmap;

	if (zero > 0) {
		finish_later(vhd, io);
		return;
	}
	if (zero < 0) {
		hv_io_fail(&vhd->base, io, zero, "%s: cannot look into the parent", vhd->base.path);
		return;
	}
	if (!allocate(vhd, block, io))
		return;
	/* The new block's space is zero: to mark the sectors is enough. */
	bitmap = vhd_bitmap_peek(vhd, block);
	vhd_bitmap_mark(vhd, bitmap, within_block(vhd, io) >> HV_SECTOR_SHIFT,
			(uint32_t)(io->length >> HV_SECTOR_SHIFT));
	finish_later(vhd, io);
}

static void zero_block(struct vhd *vhd, struct hv_io *io, uint32_t block)
{
	if (vhd->bat[block] == VHD_UNUSED)
		zero_unallocated(vhd, io, block);
	else
		change_allocated(vhd, io, block);
}

/* Does zeroing io's range need nothing of the block any more? 1, 0 or -errno. */
static int leaves_nothing(struct vhd *vhd, const struct hv_io *io, uint32_t block)
{
	if (vhd->bat[block] == VHD_UNUSED ||
	    io->length >> HV_SECTOR_SHIFT < vhd_block_sectors(vhd, block))
		return 0;
	if (!vhd->differencing)
		return 1;
	return vhd_backing_is_zero(vhd, io->offset, io->length, io->err);
}

/*
 * A whole block goes out of the table if what is below reads as zero; else the range is zeroed, and
 * the file below gives back what it can.
 */
static void discard_block(struct vhd *vhd, struct hv_io *io, uint32_t block)
{
	int nothing = leaves_nothing(vhd, io, block);

	if (nothing < 0) {
		hv_io_fail(&vhd->base, io, nothing, "%s: cannot look into the parent",
			   vhd->base.path);
	} else if (nothing && vhd_space_drop(vhd, block)) {
		finish_later(vhd, io);
		vhd_commit_soon(vhd);
	} else {
		zero_block(vhd, io, block);
	}
}

/* The way in. */

void vhd_route(struct vhd *vhd, struct hv_io *io)
{
	uint32_t block = block_of(vhd, io);

	if (vhd->bad && hv_bit_get(vhd->bad, block)) {
		hv_io_fail(
			&vhd->base, io, -EBADMSG,
			"%s: the table entry of block %u cannot be right; vhdtool check tells more",
			vhd->base.path, block);
		return;
	}
	if (io->op == HV_READ) {
		read_block(vhd, io, block);
		return;
	}
	if (vhd->poisoned) {
		hv_io_fail(&vhd->base, io, -EIO,
			   "%s: an earlier flush failed, so the disk takes no more writes",
			   vhd->base.path);
		return;
	}
	if (io->op == HV_WRITE)
		write_block(vhd, io, block);
	else if (io->op == HV_ZERO)
		zero_block(vhd, io, block);
	else
		discard_block(vhd, io, block);
}

static void route_by_blocks(struct vhd *vhd, struct hv_io *io)
{
	struct split *split = split_begin(vhd, io);
	uint64_t done = 0;

	if (!split)
		return;
	while (done < io->length && !split->result) {
		uint64_t offset = io->offset + done;
		uint64_t room = vhd->layout.block_bytes - (offset & (vhd->layout.block_bytes - 1));
		uint64_t length = hv_min_u64(io->length - done, room);
		struct part *part = split_part(split, done, length);

		if (part)
			vhd_route(vhd, &part->io);
		done += length;
	}
	split_end(split);
}

void vhd_submit(struct hv_disk *disk, struct hv_io *io)
{
	struct vhd *vhd = vhd_of(disk);

	if (io->op == HV_FLUSH)
		vhd_commit_add(vhd, io);
	else if (within_block(vhd, io) + io->length > vhd->layout.block_bytes)
		route_by_blocks(vhd, io);
	else
		vhd_route(vhd, io);
}
