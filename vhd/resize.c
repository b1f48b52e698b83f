/*
 * Another virtual size for a dynamic or differencing disk.
 *
 * Growing: the table first, then the size. Where the table has no room to grow in its place, a new
 * one is written behind everything; the header, whose first sector holds all that changes, then
 * names it. Meanwhile the file has a larger table than its size needs, which is no fault.
 *
 * Shrinking: the size first, then the blocks beyond it leave the table.
 *
 * The size stands in two footers, each in one sector. The trailing one, which is in force, is
 * written first; a copy that differs is put right when the file is opened for writing.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/bitmap.h"
#include "hvcore/checked.h"
#include "vhd/image.h"

#define ENTRY_BYTES sizeof(hv_be32)
#define PIECE_BYTES (1u << 20)

static bool busy(const struct vhd *vhd)
{
	return vhd->alloc.extending || vhd->commit.active || vhd->space.busy;
}

int vhd_quiesce(struct vhd *vhd, struct hv_err *err)
{
	int rc = hv_disk_flush(&vhd->base, err);

	while (busy(vhd))
		hv_loop_turn(vhd->base.loop, true);
	if (rc == 0 && !vhd_commit_clean(vhd))
		rc = hv_disk_flush(&vhd->base, err);
	return rc;
}

/* The table. */

static uint64_t table_bytes(uint32_t entries)
{
	return hv_round_up((uint64_t)entries * ENTRY_BYTES, HV_SECTOR_SIZE);
}

/*
 * Writes the table's sectors from that of entry `first` up to that of entry `count` to a table at
 * bat_offset; entries that the disk does not have yet are unused. The file holds what memory holds.
 */
static int write_table(struct vhd *vhd, uint64_t bat_offset, uint32_t first, uint32_t count,
		       struct hv_err *err)
{
	HV_AUTO(free) hv_be32 *piece = malloc(PIECE_BYTES);
	uint64_t at = hv_round_down((uint64_t)first * ENTRY_BYTES, HV_SECTOR_SIZE);
	int rc = 0;

	if (!piece)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", vhd->base.path);
	while (rc == 0 && at < table_bytes(count)) {
		uint64_t length = hv_min_u64(PIECE_BYTES, table_bytes(count) - at);

		for (uint64_t i = 0; i < length / ENTRY_BYTES; i++) {
			uint64_t block = at / ENTRY_BYTES + i;

			piece[i] = hv_be32_make(block < vhd->layout.block_count ? vhd->bat[block] :
										  VHD_UNUSED);
		}
		rc = hv_file_pwrite(vhd->file, piece, length, bat_offset + at, err);
		at += length;
	}
	return rc;
}

/* Where the room behind the table ends: at the next piece of metadata or block. */
static uint64_t room_end(const struct vhd *vhd)
{
	const struct vhd_layout *layout = &vhd->layout;
	uint64_t end = layout->file_end;

	for (unsigned i = 0; i < layout->region_count; i++) {
		if (layout->regions[i].offset > layout->bat_offset)
			end = hv_min_u64(end, layout->regions[i].offset);
	}
	for (unsigned i = 0; i < VHD_LOCATORS; i++) {
		if (vhd->info.locators[i].code && vhd->info.locators[i].offset > layout->bat_offset)
			end = hv_min_u64(end, vhd->info.locators[i].offset);
	}
	for (uint32_t block = 0; block < layout->block_count; block++) {
		if (vhd->bat[block] != VHD_UNUSED &&
		    vhd_bitmap_offset(vhd, block) > layout->bat_offset)
			end = hv_min_u64(end, vhd_bitmap_offset(vhd, block));
	}
	/* Behind it lie the trailing footer, or room for blocks. */
	return hv_min_u64(end, hv_round_down(vhd->alloc.next_end, HV_SECTOR_SIZE));
}

static int update_header(struct vhd *vhd, uint64_t bat_offset, uint32_t entries, struct hv_err *err)
{
	struct vhd_disk_header header;
	int rc = hv_file_pread(vhd->file, &header, sizeof(header), vhd->layout.header_offset, err);

	if (rc)
		return rc;
	header.bat_offset = hv_be64_make(bat_offset);
	header.max_entries = hv_be32_make(entries);
	vhd_header_seal(&header);
	/* All that changes lies in the first sector. */
	static_assert(offsetof(struct vhd_disk_header, checksum) < HV_SECTOR_SIZE,
		      "the header's numbers share a sector");
	rc = hv_file_pwrite(vhd->file, &header, HV_SECTOR_SIZE, vhd->layout.header_offset, err);
	/* The new size is written only when the table for it is in force. */
	return rc ? rc : hv_file_barrier(vhd->file, err);
}

static void note_table(struct vhd *vhd, uint64_t bat_offset, uint32_t entries)
{
	struct vhd_layout *layout = &vhd->layout;

	for (unsigned i = 0; i < layout->region_count; i++) {
		if (layout->regions[i].offset == layout->bat_offset) {
			layout->regions[i].offset = bat_offset;
			layout->regions[i].length = table_bytes(entries);
		}
	}
	layout->bat_offset = bat_offset;
	layout->max_entries = entries;
	layout->metadata_end = hv_max_u64(layout->metadata_end, bat_offset + table_bytes(entries));
	vhd->info.bat_offset = bat_offset;
	vhd->info.max_entries = entries;
}

static int extend_table(struct vhd *vhd, uint32_t entries, struct hv_err *err)
{
	uint64_t bat_offset = vhd->layout.bat_offset, end = bat_offset + table_bytes(entries);
	uint32_t first = vhd->layout.block_count;
	int rc = 0;

	if (entries > vhd->layout.max_entries && end > room_end(vhd)) {
		if (vhd->layout.batmap_version)
			return hv_fail(
				err, -ENOTSUP,
				"%s: the block map of Xen's tools leaves the table no room to grow; convert the disk",
				vhd->base.path);
		rc = vhd_alloc_room(vhd, table_bytes(entries), &bat_offset, err);
		first = 0;
	}
	if (rc == 0)
		rc = write_table(vhd, bat_offset, first, entries, err);
	/* The table is durable before the header names it. */
	if (rc == 0)
		rc = hv_file_barrier(vhd->file, err);
	if (rc || entries <= vhd->layout.max_entries)
		return rc;
	rc = update_header(vhd, bat_offset, entries, err);
	if (rc == 0)
		note_table(vhd, bat_offset, entries);
	return rc;
}

/* Memory. */

static bool grow_map(uint8_t **map, uint32_t old_count, uint32_t count)
{
	uint8_t *grown;

	if (!*map)
		return true;
	grown = realloc(*map, count / 8 + 1);
	if (!grown)
		return false;
	memset(grown + old_count / 8 + 1, 0, count / 8 - old_count / 8);
	*map = grown;
	return true;
}

/* More blocks in memory: none of them allocated. */
static int grow_maps(struct vhd *vhd, uint32_t count, struct hv_err *err)
{
	uint32_t old_count = vhd->layout.block_count;
	uint32_t *bat = realloc(vhd->bat, (size_t)count * sizeof(*bat));

	if (bat)
		vhd->bat = bat;
	if (!bat || !grow_map(&vhd->full, old_count, count) ||
	    !grow_map(&vhd->unpublished, old_count, count))
		return hv_fail(err, -ENOMEM, "%s: not enough memory", vhd->base.path);
	for (uint32_t block = old_count; block < count; block++)
		bat[block] = VHD_UNUSED;
	return 0;
}

static void set_size(struct vhd *vhd, uint64_t size_bytes)
{
	vhd->base.size_bytes = size_bytes;
	vhd->layout.size_bytes = size_bytes;
	vhd->layout.block_count = (uint32_t)hv_div_up(size_bytes, vhd->layout.block_bytes);
	vhd->info.block_count = vhd->layout.block_count;
}

/* The two footers. */

static int write_footers(struct vhd *vhd, uint64_t size_bytes, struct hv_err *err)
{
	struct vhd_disk_footer footer = vhd->footer_raw;
	int rc;

	vhd_footer_set_size(&footer, size_bytes);
	rc = hv_file_pwrite(vhd->file, &footer, sizeof(footer),
			    vhd->file->size_bytes - VHD_FOOTER_BYTES, err);
	/* One of the two is valid and whole at every instant. */
	if (rc == 0)
		rc = hv_file_barrier(vhd->file, err);
	if (rc)
		return rc;
	vhd->footer_raw = footer;
	vhd_footer_decode(&footer, &vhd->info.footer);
	vhd->info.size_from_geometry = false;
	rc = hv_file_pwrite(vhd->file, &footer, sizeof(footer), 0, err);
	return rc ? rc : hv_file_barrier(vhd->file, err);
}

/* Growing. */

/*
 * Space beyond the old size may hold what was there before the disk was made smaller: in the last
 * block, and in a parent that is larger.
 */
static int zero_new_space(struct vhd *vhd, uint64_t old_size, struct hv_err *err)
{
	uint64_t mask = vhd->layout.block_bytes - 1, end = vhd->base.size_bytes;
	uint64_t below = vhd->backing ? vhd->backing->size_bytes : 0;
	uint64_t offset = old_size;
	int rc = 0;

	while (rc == 0 && offset < end && (offset & mask || offset < below)) {
		uint64_t length = hv_min_u64(end - offset, mask + 1 - (offset & mask));

		rc = hv_disk_zero(&vhd->base, length, offset, err);
		offset += length;
	}
	return rc ? rc : vhd_quiesce(vhd, err);
}

static int grow(struct vhd *vhd, uint64_t size_bytes, struct hv_err *err)
{
	uint64_t old_size = vhd->base.size_bytes;
	uint32_t count = (uint32_t)hv_div_up(size_bytes, vhd->layout.block_bytes);
	int rc = grow_maps(vhd, count, err);

	if (rc == 0 && count > vhd->layout.block_count)
		rc = extend_table(vhd, count, err);
	if (rc)
		return rc;
	/* A bitmap that is full up to the old end need not be full up to the new one. */
	hv_bit_clear(vhd->full, vhd->layout.block_count - 1);
	set_size(vhd, size_bytes);
	rc = zero_new_space(vhd, old_size, err);
	if (rc == 0)
		rc = write_footers(vhd, size_bytes, err);
	if (rc)
		set_size(vhd, hv_be64_get(vhd->footer_raw.current_size));
	return rc;
}

/* Shrinking. */

static int shrink(struct vhd *vhd, uint64_t size_bytes, unsigned flags, struct hv_err *err)
{
	uint32_t count = (uint32_t)hv_div_up(size_bytes, vhd->layout.block_bytes);
	int rc = write_footers(vhd, size_bytes, err);

	vhd_space_take_whole(vhd);
	for (uint32_t block = count; rc == 0 && block < vhd->layout.block_count; block++) {
		if (vhd->bat[block] != VHD_UNUSED)
			vhd_space_drop(vhd, block);
	}
	if (rc == 0)
		rc = vhd_quiesce(vhd, err);
	if (rc == 0)
		vhd_space_lower(vhd);
	if (rc == 0 && flags & VHD_RESIZE_OVERWRITE)
		rc = vhd_overwrite_free(vhd, err);
	vhd_space_clear_ready(vhd);
	if (hv_be64_get(vhd->footer_raw.current_size) == size_bytes)
		set_size(vhd, size_bytes);
	return rc;
}

static int judge_size(struct hv_disk *disk, uint64_t size_bytes, struct hv_err *err)
{
	uint64_t most = vhd_is_fixed(disk) ? VHD_MAX_FIXED_BYTES : VHD_MAX_SPARSE_BYTES;

	if (!size_bytes || size_bytes % HV_SECTOR_SIZE)
		return hv_fail(err, -EINVAL, "%s: a size of %llu bytes is not a multiple of 512",
			       disk->path, (unsigned long long)size_bytes);
	if (size_bytes > most)
		return hv_fail(err, -EINVAL,
			       "%s: %llu bytes are too many for a %s disk, whose limit is %llu GiB",
			       disk->path, (unsigned long long)size_bytes, disk->ops->format,
			       (unsigned long long)(most >> 30));
	if (!disk->writable)
		return hv_fail(err, -EROFS, "%s: the disk is open read-only", disk->path);
	return 0;
}

int vhd_resize(struct hv_disk *disk, uint64_t size_bytes, unsigned flags, struct hv_err *err)
{
	struct vhd *vhd = vhd_of(disk);
	int rc = judge_size(disk, size_bytes, err);

	if (rc || size_bytes == disk->size_bytes)
		return rc;
	if (vhd_is_fixed(disk))
		return vhd_fixed_resize(disk, size_bytes, flags, err);
	rc = vhd_quiesce(vhd, err);
	if (rc)
		return rc;
	return size_bytes > disk->size_bytes ? grow(vhd, size_bytes, err) :
					       shrink(vhd, size_bytes, flags, err);
}
