/*
 * Compacting.
 *
 *	1  look at every block; those that hold nothing are dropped from the table (space.c)
 *	2  flush: the table in the file names them no more, their places are free
 *	3  the blocks that lie last are copied into the lowest free places; they enter the table by a
 *	   commit like new blocks, so that an entry never names a place before its data is durable;
 *	   the places they leave are free after it; as often as that gains something
 *	4  what is free behind the last block is cut off, after the footer has its new place
 *
 * A place that a block is moved to is overwritten whole, so that it need not be cleared before.
 */
#include "vhd/compact.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/bitmap.h"
#include "hvcore/checked.h"
#include "hvcore/scan.h"
#include "vhd/relocate.h"

#define LOOK_BYTES \
	(64u << 10) /* read at first: most blocks show at once that they hold something */
#define READ_BYTES (1u << 20)
#define PUNCH_BYTES (64u << 10) /* zeros of this length, aligned, become a hole */
#define MOVE_BYTES (64u << 20)  /* copied before each flush */

struct compaction {
	struct vhd *vhd;
	const struct vhd_compact_options *options;
	struct vhd_compact_result *result;
	uint8_t *memory; /* READ_BYTES */
	struct hv_err *err;
};

static void tell(const struct compaction *c, const char *phase, uint64_t done, uint64_t total)
{
	if (c->options->progress)
		c->options->progress(phase, done, total, c->options->arg);
}

/* Looking. Each answer is 1, 0 or -errno. */

/* Do [offset, offset + length) of the file hold zeros? Ends early when not. */
static int file_is_zero(struct compaction *c, uint64_t offset, uint64_t length)
{
	struct hv_file *file = c->vhd->file;
	uint64_t most = LOOK_BYTES;

	while (length) {
		struct hv_extent extent;
		uint64_t n = hv_min_u64(length, most);
		int rc = hv_file_extent(file, offset, length, 0, &extent, c->err);

		if (rc)
			return rc;
		if (extent.state == HV_EXTENT_ZERO) {
			offset += extent.length;
			length -= extent.length;
			continue;
		}
		n = hv_min_u64(n, extent.length);
		rc = hv_file_pread(file, c->memory, n, offset, c->err);
		if (rc)
			return rc;
		if (!hv_is_zero(c->memory, n))
			return 0;
		offset += n;
		length -= n;
		most = READ_BYTES;
	}
	return 1;
}

/* Would anybody miss sectors [first, first + count) of the block, which its bitmap calls present? */
static int run_holds_nothing(struct compaction *c, uint32_t block, uint32_t first, uint32_t count)
{
	const struct vhd *vhd = c->vhd;
	uint64_t offset =
		((uint64_t)block << vhd->layout.block_shift) + ((uint64_t)first << HV_SECTOR_SHIFT);
	uint64_t length = (uint64_t)count << HV_SECTOR_SHIFT;
	int zero;

	if (c->options->unused && c->options->unused(offset, length, c->options->arg))
		return 1;
	zero = file_is_zero(c, vhd_data_offset(vhd, block) + ((uint64_t)first << HV_SECTOR_SHIFT),
			    length);
	if (zero <= 0 || !vhd->differencing)
		return zero;
	if (offset >= vhd->backing->size_bytes)
		return 1;
	return hv_disk_is_zero(vhd->backing, offset,
			       hv_min_u64(length, vhd->backing->size_bytes - offset), c->err);
}

static int block_holds_nothing(struct compaction *c, uint32_t block)
{
	struct vhd *vhd = c->vhd;
	uint32_t count = vhd_block_sectors(vhd, block), done = 0;
	const uint8_t *bits;
	int rc = vhd_bitmap_bits_now(vhd, block, &bits, c->err);

	while (rc == 0 && done < count) {
		bool present;
		uint32_t run = (uint32_t)hv_bits_run(bits, done, count - done, &present);

		if (present) {
			int nothing = run_holds_nothing(c, block, done, run);

			if (nothing <= 0)
				return nothing;
		}
		done += run;
	}
	return rc ? rc : 1;
}

static int look(struct compaction *c)
{
	struct vhd *vhd = c->vhd;
	uint64_t total = (uint64_t)c->result->blocks << vhd->layout.block_shift, done = 0;

	for (uint32_t block = 0; block < vhd->layout.block_count; block++) {
		int nothing;

		if (vhd->bat[block] == VHD_UNUSED)
			continue;
		tell(c, "looking", done, total);
		done += vhd->layout.block_bytes;
		nothing = block_holds_nothing(c, block);
		if (nothing < 0)
			return nothing;
		if (!nothing)
			continue;
		c->result->freed_blocks++;
		if (!c->options->dry_run && !vhd_space_drop(vhd, block))
			return hv_fail(c->err, -ENOMEM, "%s: not enough memory", vhd->base.path);
	}
	tell(c, "looking", total, total);
	return 0;
}

/* Moving. */

struct placed {
	uint32_t sector, block;
};

static int compare_placed(const void *a, const void *b)
{
	const struct placed *x = a, *y = b;

	return (x->sector < y->sector) - (x->sector > y->sector);
}

/* All blocks, the one that lies last first; malloc'ed. */
static struct placed *list_blocks(const struct vhd *vhd, uint32_t *count)
{
	struct placed *placed = malloc((vhd->info.allocated_blocks + 1) * sizeof(*placed));

	*count = 0;
	for (uint32_t block = 0; placed && block < vhd->layout.block_count; block++) {
		if (vhd->bat[block] != VHD_UNUSED)
			placed[(*count)++] = (struct placed){ vhd->bat[block], block };
	}
	if (placed)
		qsort(placed, *count, sizeof(*placed), compare_placed);
	return placed;
}

/* Moves some blocks, and makes that durable. */
static int move_batch(struct compaction *c, const struct placed *placed,
		      const struct vhd_move *moves, uint32_t count)
{
	struct vhd *vhd = c->vhd;
	int rc = vhd_relocate(vhd, moves, count, c->err);

	for (uint32_t i = 0; i < count && rc == 0; i++) {
		if (!vhd_space_move(vhd, placed[i].block, moves[i].to))
			rc = hv_fail(c->err, -ENOMEM, "%s: not enough memory", vhd->base.path);
	}
	if (rc == 0)
		rc = vhd_quiesce(vhd, c->err);
	if (rc == 0)
		c->result->moved_blocks += count;
	return rc;
}

/* How many of the blocks that lie last have a free place before them? */
static uint32_t count_moves(const struct vhd *vhd, const struct placed *placed, uint32_t count)
{
	HV_AUTO(free) uint32_t *free_places = vhd_space_list(vhd);
	uint32_t moves = 0, free_count = vhd->space.ready.count;

	while (free_places && moves < count && moves < free_count &&
	       free_places[moves] < placed[moves].sector)
		moves++;
	return moves;
}

static int move_blocks(struct compaction *c)
{
	struct vhd *vhd = c->vhd;
	uint32_t count, total, done = 0, batch;
	HV_AUTO(free) struct placed *placed = list_blocks(vhd, &count);
	HV_AUTO(free) struct vhd_move *moves = NULL;
	int rc = 0;

	batch = (uint32_t)hv_max_u64(MOVE_BYTES >> vhd->layout.block_shift, 1);
	moves = malloc(batch * sizeof(*moves));
	if (!placed || !moves)
		return hv_fail(c->err, -ENOMEM, "%s: not enough memory", vhd->base.path);
	total = count_moves(vhd, placed, count);
	while (rc == 0 && done < total) {
		uint32_t n = (uint32_t)hv_min_u64(batch, total - done);

		tell(c, "moving", (uint64_t)done << vhd->layout.block_shift,
		     (uint64_t)total << vhd->layout.block_shift);
		for (uint32_t i = 0; i < n; i++) {
			moves[i].from = placed[done + i].sector;
			vhd_space_take(vhd, &moves[i].to);
		}
		rc = move_batch(c, placed + done, moves, n);
		done += n;
	}
	return rc;
}

/* Giving back. */

/* Zeros between first and first + count, whatever the bitmap says of these sectors, become a hole. */
static int punch_run(struct compaction *c, uint64_t offset, uint64_t length)
{
	c->result->punched_bytes += length;
	if (c->options->dry_run)
		return 0;
	if (c->options->overwrite) {
		int rc = vhd_overwrite(c->vhd->file, offset, offset + length, c->err);

		/* The zeros have reached the medium before the filesystem gets its blocks back. */
		if (rc == 0)
			rc = hv_file_barrier(c->vhd->file, c->err);
		if (rc)
			return rc;
	}
	return hv_file_discard(c->vhd->file, offset, length, c->err);
}

/* Is the payload at `within` of no use: absent, unused, or zero? */
static int piece_is_free(struct compaction *c, uint32_t block, const uint8_t *bits, uint32_t within)
{
	const struct vhd *vhd = c->vhd;
	uint64_t offset = ((uint64_t)block << vhd->layout.block_shift) + within;

	if (hv_bits_none(bits, within >> HV_SECTOR_SHIFT, PUNCH_BYTES >> HV_SECTOR_SHIFT))
		return 1;
	if (c->options->unused && c->options->unused(offset, PUNCH_BYTES, c->options->arg))
		return 1;
	return file_is_zero(c, vhd_data_offset(vhd, block) + within, PUNCH_BYTES);
}

static int punch_block(struct compaction *c, uint32_t block)
{
	struct vhd *vhd = c->vhd;
	uint64_t payload = vhd_data_offset(vhd, block);
	/* Only whole pages of the file can be given back. */
	uint32_t within = (uint32_t)(hv_round_up(payload, VHD_LAYOUT_ALIGN) - payload);
	const uint8_t *bits;
	int rc = vhd_bitmap_bits_now(vhd, block, &bits, c->err);

	for (; rc == 0 && within + PUNCH_BYTES <= vhd->layout.block_bytes; within += PUNCH_BYTES) {
		struct hv_extent extent;

		rc = hv_file_extent(vhd->file, payload + within, PUNCH_BYTES, 0, &extent, c->err);
		if (rc || (extent.state == HV_EXTENT_ZERO && extent.length == PUNCH_BYTES))
			continue;
		rc = piece_is_free(c, block, bits, within);
		if (rc > 0)
			rc = punch_run(c, payload + within, PUNCH_BYTES);
	}
	return rc;
}

static int punch(struct compaction *c)
{
	struct vhd *vhd = c->vhd;
	uint32_t total = vhd->info.allocated_blocks, done = 0;

	for (uint32_t block = 0; block < vhd->layout.block_count; block++) {
		int rc;

		if (vhd->bat[block] == VHD_UNUSED)
			continue;
		tell(c, "punching", (uint64_t)done++ << vhd->layout.block_shift,
		     (uint64_t)total << vhd->layout.block_shift);
		rc = punch_block(c, block);
		if (rc)
			return rc;
	}
	return 0;
}

static int give_back(struct compaction *c)
{
	struct vhd *vhd = c->vhd;
	int rc = vhd_quiesce(vhd, c->err);

	if (rc == 0 && !c->options->punch)
		rc = move_blocks(c);
	if (rc)
		return rc;
	vhd_space_lower(vhd);
	if (c->options->overwrite)
		rc = vhd_overwrite_free(vhd, c->err);
	if (rc == 0)
		vhd_space_clear_ready(vhd);
	if (rc == 0 && c->options->punch)
		rc = punch(c);
	if (rc == 0)
		rc = vhd_alloc_trim(vhd, c->err);
	return rc ? rc : hv_file_barrier(vhd->file, c->err);
}

static int judge(struct hv_disk *disk, const struct vhd_compact_options *options,
		 struct hv_err *err)
{
	struct vhd *vhd = vhd_of(disk);

	if (vhd_is_fixed(disk))
		return hv_fail(
			err, -EINVAL,
			"%s: a fixed disk always takes all its space; convert it to --to dynamic",
			disk->path);
	if (!options->dry_run && !disk->writable)
		return hv_fail(err, -EROFS, "%s: the disk is open read-only", disk->path);
	if (vhd->layout.batmap_version)
		return hv_fail(
			err, -ENOTSUP,
			"%s: has a block map of Xen's tools, which would go on calling freed blocks full; convert the disk",
			disk->path);
	if (vhd->bad)
		return hv_fail(
			err, -EBADMSG,
			"%s: the block allocation table is damaged; vhdtool check tells more",
			disk->path);
	if (vhd->differencing && !vhd->backing)
		return hv_fail(err, -EINVAL,
			       "%s: what the parent holds must be known, and it is not open",
			       disk->path);
	return 0;
}

/* The file's size when no gap is left: blocks one after another behind the metadata. */
static uint64_t expected_size(const struct vhd *vhd, const struct vhd_compact_result *result)
{
	uint64_t end = vhd->layout.metadata_end;

	for (uint32_t i = result->freed_blocks; i < result->blocks; i++)
		end = vhd_alloc_place(vhd, end) + vhd->layout.bitmap_bytes +
		      vhd->layout.block_bytes;
	return hv_min_u64(vhd_footer_place(end) + VHD_FOOTER_BYTES, vhd->file->size_bytes);
}

int vhd_compact(struct hv_disk *disk, const struct vhd_compact_options *options,
		struct vhd_compact_result *ret, struct hv_err *err)
{
	struct vhd *vhd = vhd_of(disk);
	HV_AUTO(free) void *memory = NULL;
	struct vhd_compact_result result = { 0 };
	struct compaction c = { .vhd = vhd, .options = options, .result = &result, .err = err };
	int rc = judge(disk, options, err);

	if (rc)
		return rc;
	if (posix_memalign(&memory, VHD_LAYOUT_ALIGN, READ_BYTES)) {
		memory = NULL;
		return hv_fail(err, -ENOMEM, "%s: not enough memory", disk->path);
	}
	c.memory = memory;
	result.blocks = vhd->info.allocated_blocks;
	result.file_bytes_before = vhd->file->size_bytes;
	if (!options->dry_run) {
		rc = vhd_quiesce(vhd, err);
		vhd_space_take_whole(vhd);
	}
	if (rc == 0)
		rc = look(&c);
	if (rc == 0 && !options->dry_run)
		rc = give_back(&c);
	else if (rc == 0 && options->punch)
		rc = punch(&c);
	vhd->space.whole = false;
	result.file_bytes_after = options->dry_run && !options->punch ?
					  expected_size(vhd, &result) :
					  vhd->file->size_bytes;
	*ret = result;
	return rc;
}
