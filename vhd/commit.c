/*
 * Making metadata durable.
 *
 * Blocks get their place, and sectors their bits, in memory only; a commit brings them to the file.
 * It begins when a flush is asked for (or much has gathered) and serves every flush that was asked
 * for before. What it writes is what stood in memory when it began (an entry that has changed since
 * is written as unused unless this commit has another for it: it is on its way in or out):
 *
 *	1  the bitmaps of new blocks, which nothing in the file points to yet
 *	2  barrier: data, and those bitmaps, are durable
 *	3  the bitmaps of older blocks, and the BAT entries of the new ones
 *	4  barrier
 *
 * So a bit or an entry never reaches the file before what it stands for. A power cut in 3 leaves
 * some of them written, each valid by itself. Without metadata only 4 remains, without new blocks
 * 1 is empty; after 4 the flushes complete.
 *
 * A failed write of metadata leaves it dirty in memory, to be written by the next commit. A failed
 * barrier poisons the disk: the kernel may have dropped what it could not write, and does not tell.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/bitmap.h"
#include "hvcore/bytes.h"
#include "hvcore/checked.h"
#include "vhd/image.h"

#define ENTRIES_PER_SECTOR (HV_SECTOR_SIZE / 4)
#define RUN_SECTORS 128 /* BAT sectors written by one request at most */

enum phase { WRITE_NEW_BITMAPS, BARRIER_DATA, WRITE_METADATA, BARRIER_METADATA };

/* A write of a bitmap or of a run of BAT sectors. */
struct vhd_commit_op {
	struct hv_io io;
	struct iovec iov;
	struct vhd *vhd;
	struct vhd_commit_op *next;
	struct vhd_bitmap *bitmap; /* pinned; NULL for the BAT and for bitmaps of all ones */
	bool of_new_block;
	void *memory; /* freed with the op */
};

static void enter_phase(struct vhd *vhd, enum phase phase);
static void start(struct vhd *vhd);

bool vhd_commit_clean(const struct vhd *vhd)
{
	return !vhd->commit.active && !vhd->pending_count && !vhd->cache.dirty_count;
}

/* One more result; when nothing is in flight any more, on to the next phase. */
static void arrived(struct vhd *vhd, int result)
{
	struct vhd_commit *commit = &vhd->commit;

	if (result && !commit->result)
		commit->result = result;
	if (--commit->in_flight == 0)
		enter_phase(vhd, (enum phase)commit->phase + 1);
}

static void op_done(struct hv_io *io, int result)
{
	arrived(((struct vhd_commit_op *)io)->vhd, result);
}

static struct vhd_commit_op *add_op(struct vhd *vhd, uint64_t offset, void *data, size_t length)
{
	struct vhd_commit_op *op = calloc(1, sizeof(*op));

	if (!op)
		return NULL;
	op->iov = (struct iovec){ data, length };
	op->io = (struct hv_io){ .op = HV_WRITE,
				 .offset = offset,
				 .length = length,
				 .iov = &op->iov,
				 .iov_count = 1,
				 .err = &vhd->commit.err,
				 .done = op_done };
	op->vhd = vhd;
	op->next = vhd->commit.ops;
	vhd->commit.ops = op;
	return op;
}

static void *aligned_memory(size_t size)
{
	void *memory;

	return posix_memalign(&memory, VHD_LAYOUT_ALIGN, size) ? NULL : memory;
}

/* What the commit brings to the file of a block's entry, or NULL. */
static const struct vhd_change *find_change(const struct vhd_commit *commit, uint32_t block)
{
	uint32_t low = 0, high = commit->change_count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (commit->changes[middle].block == block)
			return &commit->changes[middle];
		if (commit->changes[middle].block < block)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

bool vhd_commit_remember(struct vhd *vhd, uint32_t block)
{
	if (hv_bit_get(vhd->unpublished, block))
		return true;
	if (vhd->pending_count == vhd->pending_limit) {
		uint32_t limit = vhd->pending_limit ? vhd->pending_limit * 2 : 256;
		uint32_t *pending = realloc(vhd->pending, limit * sizeof(*pending));

		if (!pending)
			return false;
		vhd->pending = pending;
		vhd->pending_limit = limit;
	}
	vhd->pending[vhd->pending_count++] = block;
	hv_bit_set(vhd->unpublished, block);
	return true;
}

/* Gathering what stands in memory. */

static int stage_bitmap(struct vhd *vhd, struct vhd_bitmap *bitmap)
{
	size_t bytes = vhd->layout.bitmap_bytes;
	uint8_t *copy = aligned_memory(bytes);
	struct vhd_commit_op *op =
		copy ? add_op(vhd, vhd_bitmap_offset(vhd, bitmap->block), copy, bytes) : NULL;

	if (!op) {
		free(copy);
		return -ENOMEM;
	}
	memcpy(copy, bitmap->bits, bytes);
	op->memory = copy;
	op->bitmap = bitmap;
	op->of_new_block = find_change(&vhd->commit, bitmap->block) != NULL;
	bitmap->pins++;
	return 0;
}

static int stage_bitmaps(struct vhd *vhd)
{
	struct vhd_bitmap *bitmap = vhd->cache.dirty;
	int rc = 0;

	vhd->cache.dirty = NULL;
	vhd->cache.dirty_count = 0;
	while (bitmap) {
		struct vhd_bitmap *next = bitmap->dirty_next;

		bitmap->dirty = false;
		if (rc == 0)
			rc = stage_bitmap(vhd, bitmap);
		if (rc)
			vhd_bitmap_dirty(vhd, bitmap);
		bitmap = next;
	}
	return rc;
}

static int stage_ones(struct vhd *vhd)
{
	for (uint32_t i = 0; i < vhd->commit.change_count; i++) {
		const struct vhd_change *change = &vhd->commit.changes[i];
		struct vhd_commit_op *op;

		/* A block that was moved has brought its bitmap along. */
		if (change->entry == VHD_UNUSED || !hv_bit_get(vhd->full, change->block))
			continue;
		op = add_op(vhd, (uint64_t)change->entry << HV_SECTOR_SHIFT, vhd->ones,
			    vhd->layout.bitmap_bytes);
		if (!op)
			return -ENOMEM;
		op->of_new_block = true;
	}
	return 0;
}

static int compare_changes(const void *a, const void *b)
{
	const struct vhd_change *x = a, *y = b;

	return (x->block > y->block) - (x->block < y->block);
}

static int take_changes(struct vhd *vhd)
{
	struct vhd_commit *commit = &vhd->commit;
	struct vhd_change *changes;

	if (!vhd->pending_count)
		return 0;
	changes = malloc(vhd->pending_count * sizeof(*changes));
	if (!changes)
		return -ENOMEM;
	for (uint32_t i = 0; i < vhd->pending_count; i++) {
		uint32_t block = vhd->pending[i];

		changes[i] = (struct vhd_change){ block, vhd->bat[block] };
		hv_bit_clear(vhd->unpublished, block);
	}
	qsort(changes, vhd->pending_count, sizeof(*changes), compare_changes);
	commit->changes = changes;
	commit->change_count = vhd->pending_count;
	vhd->pending_count = 0;
	return 0;
}

/* The entry that the file shall have: what has changed since the commit began is not in it. */
static uint32_t entry_of(const struct vhd *vhd, uint64_t block)
{
	const struct vhd_change *change;

	if (block >= vhd->layout.block_count)
		return VHD_UNUSED;
	if (!hv_bit_get(vhd->unpublished, block))
		return vhd->bat[block];
	change = find_change(&vhd->commit, (uint32_t)block);
	return change ? change->entry : VHD_UNUSED;
}

/* BAT sectors first .. first + count - 1 as they shall stand in the file. */
static int stage_bat_run(struct vhd *vhd, uint32_t first, uint32_t count)
{
	hv_be32 *entries = aligned_memory((size_t)count * HV_SECTOR_SIZE);
	struct vhd_commit_op *op;

	if (!entries)
		return -ENOMEM;
	op = add_op(vhd, vhd->layout.bat_offset + (uint64_t)first * HV_SECTOR_SIZE, entries,
		    (size_t)count * HV_SECTOR_SIZE);
	if (!op) {
		free(entries);
		return -ENOMEM;
	}
	op->memory = entries;
	for (uint32_t i = 0; i < count * ENTRIES_PER_SECTOR; i++)
		entries[i] = hv_be32_make(entry_of(vhd, (uint64_t)first * ENTRIES_PER_SECTOR + i));
	return 0;
}

static uint32_t bat_sector(const struct vhd_commit *commit, uint32_t change)
{
	return commit->changes[change].block / ENTRIES_PER_SECTOR;
}

static int stage_bat(struct vhd *vhd)
{
	const struct vhd_commit *commit = &vhd->commit;
	uint32_t i = 0;

	while (i < commit->change_count) {
		uint32_t first = bat_sector(commit, i), last = first;
		int rc;

		while (i < commit->change_count && bat_sector(commit, i) <= last + 1 &&
		       bat_sector(commit, i) < first + RUN_SECTORS)
			last = bat_sector(commit, i++);
		rc = stage_bat_run(vhd, first, last - first + 1);
		if (rc)
			return rc;
	}
	return 0;
}

/* The phases. */

static void submit_ops(struct vhd *vhd, bool of_new_blocks)
{
	struct vhd_commit *commit = &vhd->commit;

	for (struct vhd_commit_op *op = commit->ops; op; op = op->next) {
		if (op->of_new_block != of_new_blocks)
			continue;
		commit->in_flight++;
		hv_file_submit(vhd->file, &op->io);
	}
}

static void barrier_done(struct hv_io *io, int result)
{
	struct vhd *vhd = (struct vhd *)((char *)io - offsetof(struct vhd, commit.barrier));

	if (!result && vhd->poisoned)
		result = hv_fail(&vhd->commit.err, -EIO, "%s: a flush failed meanwhile",
				 vhd->base.path);
	if (result)
		vhd->poisoned = true;
	arrived(vhd, result);
}

static void submit_barrier(struct vhd *vhd)
{
	struct vhd_commit *commit = &vhd->commit;

	commit->barrier =
		(struct hv_io){ .op = HV_FLUSH, .err = &commit->err, .done = barrier_done };
	commit->in_flight++;
	hv_file_submit(vhd->file, &commit->barrier);
}

/* Puts back what did not reach the file; memory stays the truth. */
static void put_back(struct vhd *vhd)
{
	struct vhd_commit *commit = &vhd->commit;

	for (struct vhd_commit_op *op = commit->ops; op; op = op->next) {
		if (op->bitmap)
			vhd_bitmap_dirty(vhd, op->bitmap);
	}
	for (uint32_t i = 0; i < commit->change_count; i++) {
		/* Without memory for it the disk cannot be brought to the file any more. */
		if (!vhd_commit_remember(vhd, commit->changes[i].block))
			vhd->poisoned = true;
	}
}

static void release(struct vhd *vhd)
{
	struct vhd_commit *commit = &vhd->commit;

	while (commit->ops) {
		struct vhd_commit_op *op = commit->ops;

		commit->ops = op->next;
		if (op->bitmap)
			op->bitmap->pins--;
		free(op->memory);
		free(op);
	}
	free(commit->changes);
	commit->changes = NULL;
	commit->change_count = 0;
}

static void finish(struct vhd *vhd)
{
	struct vhd_commit *commit = &vhd->commit;
	struct vhd_io_queue joined = commit->joined;
	struct hv_io *io;

	if (commit->result)
		put_back(vhd);
	else
		__atomic_store_n(&vhd->unordered, false, __ATOMIC_SEQ_CST); /* extend may look */
	vhd_space_commit_ends(vhd, commit->result);
	release(vhd);
	commit->active = false;
	commit->joined = (struct vhd_io_queue){ 0 };
	while ((io = vhd_queue_pop(&joined))) {
		if (commit->result)
			hv_io_fail(&vhd->base, io, commit->result, "%s",
				   hv_err_text(&commit->err, commit->result));
		else
			hv_loop_finish(vhd->base.loop, io, 0);
	}
	if (!commit->active && (commit->waiting.head || commit->wanted))
		start(vhd);
}

static void enter_phase(struct vhd *vhd, enum phase phase)
{
	struct vhd_commit *commit = &vhd->commit;

	for (; !commit->result && phase <= BARRIER_METADATA; phase++) {
		commit->phase = phase;
		if (phase == WRITE_NEW_BITMAPS) {
			submit_ops(vhd, true);
		} else if (phase == BARRIER_DATA) {
			/* Orders data and new bitmaps before what points to them. */
			if (!vhd->unordered && (commit->ops || commit->change_count))
				submit_barrier(vhd);
		} else if (phase == WRITE_METADATA) {
			commit->result = stage_bat(vhd);
			if (commit->result)
				break;
			submit_ops(vhd, false);
		} else {
			/* A file that gets its name after this flush has its final form now. */
			if (vhd->unordered)
				commit->result = vhd_alloc_trim(vhd, &commit->err);
			if (commit->result)
				break;
			/* What the flushes promised. */
			submit_barrier(vhd);
		}
		if (commit->in_flight)
			return;
	}
	finish(vhd);
}

static void start(struct vhd *vhd)
{
	struct vhd_commit *commit = &vhd->commit;

	commit->active = true;
	commit->wanted = false;
	commit->result = 0;
	commit->joined = commit->waiting;
	commit->waiting = (struct vhd_io_queue){ 0 };
	hv_err_clear(&commit->err);
	vhd_space_commit_begins(vhd);
	commit->result = take_changes(vhd);
	if (commit->result == 0)
		commit->result = stage_bitmaps(vhd);
	if (commit->result == 0 && !vhd->differencing)
		commit->result = stage_ones(vhd);
	enter_phase(vhd, WRITE_NEW_BITMAPS);
}

void vhd_commit_add(struct vhd *vhd, struct hv_io *io)
{
	if (vhd->poisoned) {
		hv_io_fail(&vhd->base, io, -EIO,
			   "%s: an earlier flush failed, so nothing more can be promised",
			   vhd->base.path);
		return;
	}
	vhd_queue_push(&vhd->commit.waiting, io);
	if (!vhd->commit.active)
		start(vhd);
}

void vhd_commit_soon(struct vhd *vhd)
{
	struct vhd_commit *commit = &vhd->commit;

	if (vhd->unordered || vhd->poisoned ||
	    (vhd->pending_count < VHD_COMMIT_BLOCKS &&
	     vhd->cache.dirty_count < vhd->cache.limit / 2))
		return;
	if (commit->active)
		commit->wanted = true;
	else
		start(vhd);
}
