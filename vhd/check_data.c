/*
 * Sector bitmaps against data (spec: "Data Block and Bitmap"): in a dynamic disk a clear bit reads
 * as zero, and the sector shall be zero in the file, because some programs never look at the bit.
 * And Xen's batmap, one bit for each block whose bitmap is full.
 *
 * Data is read in pieces of at most 1 MiB, and only where bits are clear and the file has no hole.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/bitmap.h"
#include "hvcore/checked.h"
#include "hvcore/scan.h"
#include "vhd/check_internal.h"

#define PIECE_BYTES (1u << 20)
#define MAX_BATMAP_BYTES (16u << 20) /* of which a full 2040 GiB disk of 2 MiB blocks needs 1/128 */

struct scan {
	struct check *check;
	uint8_t *bits; /* of the block looked at */
	uint8_t *piece;
	uint8_t *batmap;            /* NULL: none to compare with */
	uint64_t data, hole, asked; /* of the file: what next_data said of [asked, hole) */

	/* The block looked at. */
	uint32_t block, sectors;
	uint64_t payload;
	uint64_t wrong;       /* sectors */
	uint64_t first_wrong; /* in the file */
};

/* The first data of the file in [offset, end); false when there is none. */
static bool next_data(struct scan *scan, uint64_t offset, uint64_t end, uint64_t *start,
		      uint64_t *stop)
{
	if (offset < scan->asked || offset >= scan->hole) {
		scan->asked = offset;
		if (hv_file_next_data(scan->check->file, offset, &scan->data, &scan->hole))
			scan->data = offset, scan->hole = scan->check->file->size_bytes;
		if (scan->data == scan->hole) /* nothing up to the end of the file */
			scan->data = scan->hole = UINT64_MAX;
	}
	*start = hv_round_down(hv_max_u64(scan->data, offset), HV_SECTOR_SIZE);
	*stop = hv_min_u64(hv_round_up(hv_min_u64(scan->hole, end), HV_SECTOR_SIZE), end);
	return *start < *stop;
}

/* [from, to) are sectors of the block whose data is in scan->piece. */
static void look_at_piece(struct scan *scan, uint32_t from, uint32_t to)
{
	uint32_t at = from;

	while (at < to) {
		bool set;
		uint32_t run = (uint32_t)hv_bits_run(scan->bits, at, to - at, &set);

		for (uint32_t i = at; !set && i < at + run; i++) {
			if (hv_is_zero(scan->piece + (size_t)(i - from) * HV_SECTOR_SIZE,
				       HV_SECTOR_SIZE))
				continue;
			if (!scan->wrong++)
				scan->first_wrong = scan->payload + (uint64_t)i * HV_SECTOR_SIZE;
		}
		at += run;
	}
}

/* Sectors [from, to) of the block, some of them said to be absent; at most one piece. */
static int look_at_sectors(struct scan *scan, uint32_t from, uint32_t to, struct hv_err *err)
{
	uint64_t offset = scan->payload + (uint64_t)from * HV_SECTOR_SIZE;
	uint64_t end = scan->payload + (uint64_t)to * HV_SECTOR_SIZE;
	uint64_t start, stop;

	while (offset < end && next_data(scan, offset, end, &start, &stop)) {
		int rc = hv_file_pread(scan->check->file, scan->piece, stop - start, start, err);

		if (rc)
			return rc;
		look_at_piece(scan, (uint32_t)((start - scan->payload) / HV_SECTOR_SIZE),
			      (uint32_t)((stop - scan->payload) / HV_SECTOR_SIZE));
		offset = stop;
	}
	return 0;
}

/* Sectors of the block that lie in the disk. */
static uint32_t sectors_of(const struct check *check, uint32_t block)
{
	const struct vhd_layout *layout = &check->layout;
	uint64_t left = layout->size_bytes - (uint64_t)block * layout->block_bytes;

	return (uint32_t)(hv_min_u64(left, layout->block_bytes) / HV_SECTOR_SIZE);
}

static int look_for_data(struct scan *scan, struct hv_err *err)
{
	const uint32_t most = PIECE_BYTES / HV_SECTOR_SIZE;

	scan->wrong = 0;
	for (uint32_t at = 0; at < scan->sectors; at += most) {
		uint32_t count = (uint32_t)hv_min_u64(most, scan->sectors - at);
		int rc = 0;

		if (!hv_bits_all(scan->bits, at, count))
			rc = look_at_sectors(scan, at, at + count, err);
		if (rc)
			return rc;
	}
	if (scan->wrong)
		vhd_check_report(
			scan->check, BITMAP_DATA, scan->first_wrong, scan->block,
			"block %u has data in %llu sectors that its bitmap calls absent: they read as zero here, but not everywhere",
			scan->block, (unsigned long long)scan->wrong);
	return 0;
}

static int look_at_block(struct scan *scan, uint32_t block, struct hv_err *err)
{
	struct check *check = scan->check;
	uint64_t place = (uint64_t)check->bat[block] << HV_SECTOR_SHIFT;
	int rc = hv_file_pread(check->file, scan->bits, check->layout.bitmap_bytes, place, err);

	if (rc)
		return rc;
	scan->block = block;
	scan->payload = place + check->layout.bitmap_bytes;
	if (scan->batmap && hv_bit_get(scan->batmap, block) &&
	    !hv_bits_all(scan->bits, 0, sectors_of(check, block)))
		vhd_check_report(
			check, XEN_BATMAP, place, block,
			"Xen's batmap says that all sectors of block %u are there, its bitmap does not",
			block);
	/* The last block may be stored short. */
	scan->sectors =
		(uint32_t)hv_min_u64(sectors_of(check, block),
				     (check->layout.file_end - scan->payload) / HV_SECTOR_SIZE);
	return check->footer->type == VHD_DYNAMIC ? look_for_data(scan, err) : 0;
}

/* Whoever gives the block a place later makes a lie of it. */
static void look_for_claim(struct scan *scan, uint32_t block)
{
	if (scan->batmap && hv_bit_get(scan->batmap, block))
		vhd_check_report(
			scan->check, XEN_BATMAP, HV_NO_HOST_OFFSET, block,
			"Xen's batmap says that all sectors of block %u are there, which the table does not have",
			block);
}

static int look_at_blocks(struct scan *scan, struct hv_err *err)
{
	struct check *check = scan->check;
	uint64_t total = (uint64_t)check->summary.allocated * check->layout.block_bytes;
	uint64_t done = 0;

	for (uint32_t block = 0; block < check->layout.block_count; block++) {
		int rc = 0;

		if (check->bat[block] == VHD_UNUSED) {
			look_for_claim(scan, block);
			continue;
		}
		if (!hv_bit_get(check->bad, block))
			rc = look_at_block(scan, block, err);
		if (rc)
			return rc;
		done += check->layout.block_bytes;
		if (check->options->progress)
			check->options->progress(done, total, check->options->arg);
	}
	return 0;
}

/* Xen's batmap. */

struct batmap {
	uint64_t place;                  /* of its header */
	uint64_t offset, length, needed; /* of the map; needed: bytes that the disk has bits for */
	uint32_t version, checksum;
};

/* Version 1.1 added the bytes up as signed numbers. */
static bool sum_matches(const struct batmap *batmap, const uint8_t *map, uint64_t length)
{
	uint32_t plain = 0, with_sign = 0;

	for (uint64_t i = 0; i < length; i++) {
		plain += map[i];
		with_sign += (uint32_t)(int8_t)map[i];
	}
	return batmap->checksum == ~plain ||
	       (batmap->version == 0x00010001 && batmap->checksum == ~with_sign);
}

static int read_map(struct check *check, const struct batmap *batmap, uint8_t **ret,
		    struct hv_err *err)
{
	uint64_t covered = hv_min_u64(hv_round_up(hv_div_up(batmap->needed, 8), HV_SECTOR_SIZE),
				      batmap->length);
	HV_AUTO(free) uint8_t *map = malloc(batmap->length);
	int rc;

	if (!map)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", check->file->path);
	rc = hv_file_pread(check->file, map, batmap->length, batmap->offset, err);
	if (rc)
		return rc;
	/* Writers differ in how much of the last sectors they add up. */
	if (sum_matches(batmap, map, batmap->length) || sum_matches(batmap, map, covered))
		*ret = hv_steal(map);
	else
		vhd_check_report(check, XEN_BATMAP, batmap->place, -1,
				 "the checksum of Xen's batmap is wrong");
	return 0;
}

/* *ret stays NULL when the map says nothing that can be compared. */
static int check_batmap(struct check *check, uint8_t **ret, struct hv_err *err)
{
	const struct vhd_layout *layout = &check->layout;
	struct batmap batmap = {
		.place = layout->bat_offset +
			 hv_round_up((uint64_t)layout->max_entries * 4, HV_SECTOR_SIZE),
		.needed = layout->block_count,
	};
	struct vhd_disk_batmap disk;
	int rc = hv_file_pread(check->file, &disk, sizeof(disk), batmap.place, err);

	if (rc)
		return rc;
	batmap.offset = hv_be64_get(disk.offset);
	batmap.length = (uint64_t)hv_be32_get(disk.sectors) * HV_SECTOR_SIZE;
	batmap.version = hv_be32_get(disk.version);
	batmap.checksum = hv_be32_get(disk.checksum);
	vhd_check_report_as(check, VHD_NOTE, XEN_BATMAP, batmap.place, -1,
			    "the disk has a batmap of Xen's, version %u.%u", batmap.version >> 16,
			    batmap.version & 0xffff);
	if (layout->batmap_encrypted)
		vhd_check_report(
			check, XEN_ENCRYPTED, batmap.place, -1,
			"the contents are encrypted by Xen's tools; without the key everybody reads noise");
	if (batmap.length * 8 < batmap.needed || batmap.length > MAX_BATMAP_BYTES ||
	    !hv_range_inside(batmap.offset, batmap.length, layout->file_end)) {
		vhd_check_report(
			check, XEN_BATMAP, batmap.place, -1,
			"Xen's batmap of %llu bytes at byte %llu cannot be that of a disk of %u blocks",
			(unsigned long long)batmap.length, (unsigned long long)batmap.offset,
			layout->block_count);
		return 0;
	}
	return read_map(check, &batmap, ret, err);
}

int vhd_check_data(struct check *check, struct hv_err *err)
{
	HV_AUTO(free) uint8_t *bits = NULL;
	HV_AUTO(free) uint8_t *piece = NULL;
	struct scan scan = { .check = check };
	int rc = 0;

	if (!check->bat)
		return 0;
	if (check->layout.batmap_version)
		rc = check_batmap(check, &check->batmap, err);
	if (rc || !check->options->data || check->layout.batmap_encrypted ||
	    check->counts[XEN_BITMAP_ORDER])
		return rc;
	if (check->footer->type != VHD_DYNAMIC && !check->batmap)
		return 0;
	bits = malloc(check->layout.bitmap_bytes);
	piece = malloc(PIECE_BYTES);
	if (!bits || !piece)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", check->file->path);
	scan.bits = bits;
	scan.piece = piece;
	scan.batmap = check->batmap;
	return look_at_blocks(&scan, err);
}
