/*
 * Space for new blocks.
 *
 * Blocks are given out from room that an extension has made: a new trailing footer is written far
 * enough beyond, made durable, and only then is the old footer (and whatever else lay behind the
 * last block) zeroed and built over. So the file ends in a valid footer at every instant, and the
 * price is one barrier for a batch of blocks. The batch doubles with each extension. On close the
 * footer moves back to where it belongs and the rest of the room is given back.
 *
 * Places that other blocks have given up come first (space.c).
 *
 * New blocks lie as Windows 8 and later place them: payload on a 4 KiB boundary, the bitmap right
 * before it, the footer of a complete file where the next bitmap would go.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/bitmap.h"
#include "hvcore/checked.h"
#include "vhd/image.h"

#define BATCH_BYTES (128u << 20) /* the most that one extension makes room for, roughly */
#define AHEAD_BLOCKS 8           /* from this batch on, room is made before it is asked for */

uint64_t vhd_footer_place(uint64_t end)
{
	return hv_round_up(end, VHD_LAYOUT_ALIGN) + VHD_LAYOUT_ALIGN - VHD_FOOTER_BYTES;
}

static uint64_t payload_place(const struct vhd *vhd, uint64_t end)
{
	return hv_round_up(end, VHD_LAYOUT_ALIGN) +
	       hv_round_up(vhd->layout.bitmap_bytes, VHD_LAYOUT_ALIGN);
}

uint64_t vhd_alloc_place(const struct vhd *vhd, uint64_t end)
{
	return payload_place(vhd, end) - vhd->layout.bitmap_bytes;
}

/* Bytes from one new block to the next. */
static uint64_t stride(const struct vhd *vhd)
{
	return payload_place(vhd, vhd->layout.block_bytes);
}

/* Extending. */

/* For room_bytes more behind what has been given out. */
static void plan_extension(struct vhd *vhd, uint64_t room_bytes)
{
	struct vhd_alloc *alloc = &vhd->alloc;
	uint64_t base = hv_max_u64(alloc->limit, alloc->next_end);
	uint64_t old_size = vhd->file->size_bytes;

	alloc->junk_start = alloc->limit;
	alloc->junk_end = hv_max_u64(old_size, alloc->junk_start);
	alloc->new_footer =
		hv_max_u64(vhd_footer_place(base) + room_bytes, vhd_footer_place(old_size));
}

/*
 * May run on a pool thread: touches the file and its own fields only, and asks whether order is
 * needed. An unnamed file needs none; but a flush may end while this is under way, and then the
 * file gets its name as it is, after a barrier that has the footer, too.
 */
static int extend(struct vhd *vhd)
{
	struct vhd_alloc *alloc = &vhd->alloc;
	struct hv_file *file = vhd->file;
	uint64_t old_size = file->size_bytes, new_size = alloc->new_footer + VHD_FOOTER_BYTES;
	int rc = hv_file_reserve(file, alloc->junk_start, new_size - alloc->junk_start);

	if (rc && rc != -EOPNOTSUPP && rc != -EINVAL && rc != -ENOSYS)
		return hv_fail_errno(&alloc->err, rc, "%s: no room for more blocks", file->path);
	rc = hv_file_pwrite(file, &vhd->footer_raw, VHD_FOOTER_BYTES, alloc->new_footer,
			    &alloc->err);
	/* The new footer is durable before the old one is built over. */
	if (rc == 0 && !__atomic_load_n(&vhd->unordered, __ATOMIC_SEQ_CST)) {
		rc = hv_file_barrier(file, &alloc->err);
		alloc->barrier_failed = rc != 0;
	}
	if (rc) {
		hv_file_truncate(file, old_size, NULL);
		return rc;
	}
	return hv_file_zero(file, alloc->junk_start, alloc->junk_end - alloc->junk_start,
			    &alloc->err);
}

static void start_extension(struct vhd *vhd);

/* After a success: what lies before the new footer is zero and free. */
static void accept_extension(struct vhd_alloc *alloc)
{
	alloc->limit = alloc->new_footer;
	alloc->extended = true;
}

static void extension_failed(struct vhd *vhd, int result)
{
	struct vhd_alloc *alloc = &vhd->alloc;
	struct vhd_io_queue waiters = alloc->waiters;
	struct hv_io *io;

	if (alloc->barrier_failed)
		vhd->poisoned = true;
	if (alloc->batch > 1 && !vhd->poisoned) { /* perhaps there is room for less */
		alloc->batch = 1;
		if (waiters.head)
			start_extension(vhd);
		return;
	}
	alloc->waiters = (struct vhd_io_queue){ 0 };
	while ((io = vhd_queue_pop(&waiters)))
		hv_io_fail(&vhd->base, io, result, "%s", hv_err_text(&alloc->err, result));
}

void vhd_alloc_retry(struct vhd *vhd)
{
	struct vhd_io_queue waiters = vhd->alloc.waiters;
	struct hv_io *io;

	vhd->alloc.waiters = (struct vhd_io_queue){ 0 };
	while ((io = vhd_queue_pop(&waiters)))
		vhd_route(vhd, io);
}

static void extension_done(struct hv_work *work, int result)
{
	struct vhd *vhd = (struct vhd *)((char *)work - offsetof(struct vhd, alloc.work));
	struct vhd_alloc *alloc = &vhd->alloc;

	alloc->extending = false;
	if (result) {
		extension_failed(vhd, result);
		return;
	}
	accept_extension(alloc);
	if (alloc->batch * stride(vhd) < BATCH_BYTES)
		alloc->batch *= 2;
	vhd_alloc_retry(vhd);
}

static int extension_run(struct hv_work *work)
{
	return extend((struct vhd *)((char *)work - offsetof(struct vhd, alloc.work)));
}

static void start_extension(struct vhd *vhd)
{
	struct vhd_alloc *alloc = &vhd->alloc;

	if (alloc->extending)
		return;
	if (!alloc->batch)
		alloc->batch = 1;
	plan_extension(vhd, alloc->batch * stride(vhd));
	hv_err_clear(&alloc->err);
	alloc->extending = true;
	alloc->work.run = extension_run;
	alloc->work.done = extension_done;
	hv_loop_work(vhd->base.loop, &alloc->work);
}

/* Giving out. */

/* A place behind all blocks; false when there is none yet, and then io is queued, or has failed. */
static bool take_from_end(struct vhd *vhd, struct hv_io *io, uint32_t *ret)
{
	struct vhd_alloc *alloc = &vhd->alloc;
	uint64_t place = vhd_alloc_place(vhd, alloc->next_end);
	uint64_t end = place + vhd->layout.bitmap_bytes + vhd->layout.block_bytes;

	if (place >> HV_SECTOR_SHIFT >= VHD_UNUSED) {
		hv_io_fail(&vhd->base, io, -EFBIG,
			   "%s: the file has reached 2 TiB, beyond which no block can lie",
			   vhd->base.path);
		return false;
	}
	if (end > alloc->limit) {
		vhd_queue_push(&alloc->waiters, io);
		start_extension(vhd);
		return false;
	}
	*ret = (uint32_t)(place >> HV_SECTOR_SHIFT);
	alloc->next_end = end;
	/*
	 * Make more room before the last is used up, so that a stream of new blocks does not have
	 * to wait for it; an unnamed file has no barrier to wait for.
	 */
	if (alloc->batch >= AHEAD_BLOCKS && !vhd->unordered &&
	    alloc->limit - end < alloc->batch * stride(vhd) / 4)
		start_extension(vhd);
	return true;
}

bool vhd_alloc_block(struct vhd *vhd, uint32_t block, struct hv_io *io)
{
	enum vhd_space_answer answer;
	uint32_t sector;

	if (!vhd_commit_remember(vhd, block)) {
		hv_io_fail(&vhd->base, io, -ENOMEM, "%s: not enough memory", vhd->base.path);
		return false;
	}
	answer = vhd_space_take(vhd, &sector);
	if (answer == VHD_SPACE_WAIT)
		vhd_queue_push(&vhd->alloc.waiters, io);
	if (answer == VHD_SPACE_WAIT ||
	    (answer == VHD_SPACE_NONE && !take_from_end(vhd, io, &sector)))
		return false;
	vhd->bat[block] = sector;
	vhd->info.allocated_blocks++;
	return true;
}

/* The ends of a session. */

static int extend_now(struct vhd *vhd, uint64_t room_bytes, struct hv_err *err)
{
	struct vhd_alloc *alloc = &vhd->alloc;
	int rc;

	plan_extension(vhd, room_bytes);
	hv_err_clear(&alloc->err);
	rc = extend(vhd);
	if (alloc->barrier_failed)
		vhd->poisoned = true;
	if (rc)
		return hv_fail(err, rc, "%s", hv_err_text(&alloc->err, rc));
	accept_extension(alloc);
	return 0;
}

/* Somebody was interrupted between the two footers: the trailing one is in force. */
static int mend_copy(struct vhd *vhd, struct hv_err *err)
{
	/* It is durable before the other one goes. */
	int rc = hv_file_barrier(vhd->file, err);

	if (rc == 0)
		rc = hv_file_pwrite(vhd->file, &vhd->footer_raw, VHD_FOOTER_BYTES, 0, err);
	if (rc == 0)
		vhd->copy_stale = false;
	return rc;
}

int vhd_alloc_settle(struct vhd *vhd, struct hv_err *err)
{
	struct vhd_alloc *alloc = &vhd->alloc;
	bool cut = vhd->info.data_end > vhd->layout.file_end;

	/*
	 * What lies between the last block and the footer may be anything: the first extension
	 * zeroes it, so that until then there is no room. It leaves alone the page in which that
	 * block ends: no payload will begin there, and where O_DIRECT wants whole pages, zeroing
	 * the rest of it would undo a write to the block that is under way.
	 */
	alloc->next_end = vhd->info.data_end;
	alloc->limit =
		cut ? vhd->layout.file_end : hv_round_up(vhd->info.data_end, VHD_LAYOUT_ALIGN);
	if (!vhd->differencing) {
		void *ones;

		if (posix_memalign(&ones, VHD_LAYOUT_ALIGN, vhd->layout.bitmap_bytes))
			return hv_fail(err, -ENOMEM, "%s: not enough memory", vhd->base.path);
		vhd->ones = ones;
		memset(ones, 0, vhd->layout.bitmap_bytes);
		hv_bits_set(ones, 0, vhd->layout.block_bytes / HV_SECTOR_SIZE);
	}
	if (vhd->copy_stale) {
		int rc = mend_copy(vhd, err);

		if (rc)
			return rc;
	}
	if (!cut && vhd->info.trailing_footer_valid &&
	    vhd->layout.file_end + VHD_FOOTER_BYTES == vhd->file->size_bytes)
		return 0;
	/* A footer that is damaged, old or in a block's way: write a good one behind everything. */
	return extend_now(vhd, stride(vhd), err);
}

int vhd_alloc_room(struct vhd *vhd, uint64_t bytes, uint64_t *ret, struct hv_err *err)
{
	struct vhd_alloc *alloc = &vhd->alloc;
	uint64_t place = hv_round_up(alloc->next_end, VHD_LAYOUT_ALIGN);
	int rc = 0;

	if (place + bytes > alloc->limit)
		rc = extend_now(vhd, place + bytes - alloc->next_end, err);
	if (rc)
		return rc;
	alloc->next_end = place + bytes;
	*ret = place;
	return 0;
}

int vhd_alloc_trim(struct vhd *vhd, struct hv_err *err)
{
	struct vhd_alloc *alloc = &vhd->alloc;
	uint64_t place = vhd_footer_place(alloc->next_end);
	int rc;

	if (alloc->extending || (!vhd->unordered && (!alloc->extended || place >= alloc->limit)))
		return 0;
	rc = hv_file_pwrite(vhd->file, &vhd->footer_raw, VHD_FOOTER_BYTES, place, err);
	/* The footer in its place is durable before the one behind it goes. */
	if (rc == 0 && !vhd->unordered)
		rc = hv_file_barrier(vhd->file, err);
	if (rc == 0)
		rc = hv_file_truncate(vhd->file, place + VHD_FOOTER_BYTES, err);
	if (rc)
		return rc;
	alloc->limit = place;
	alloc->extended = false;
	return 0;
}
