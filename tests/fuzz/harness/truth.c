/*
 * See truth.h.
 */
#include "tests/fuzz/harness/truth.h"

#include <stdlib.h>
#include <string.h>

#include "hvcore/checked.h"
#include "tests/fuzz/harness/fuzz.h"

#define RUN_SECTORS 48 /* of the parent: runs of data, and every third of zeros */

static uint64_t big(const struct sparse *sparse, uint64_t offset, size_t bytes)
{
	uint8_t raw[8];
	uint64_t value = 0;

	sparse_peek(sparse, offset, raw, bytes);
	for (size_t i = 0; i < bytes; i++)
		value = value << 8 | raw[i];
	return value;
}

/* Does the trailing footer, whole or of 511 bytes, or what Xen puts in its place, begin here? */
static bool is_footer(const struct sparse *sparse, uint64_t offset)
{
	uint8_t raw[511];
	size_t i = 0;

	sparse_peek(sparse, offset, raw, sizeof(raw));
	while (i < sizeof(raw) && raw[i] == 0xc7)
		i++;
	return i == sizeof(raw) || !memcmp(raw, "conectix", 8);
}

static uint64_t limit_of(const struct sparse *sparse, uint64_t size)
{
	if (size >= 512 && big(sparse, size - 512, 8) == UINT64_C(0x636f6e6563746978))
		return size - 512;
	if (size % 512 == 511)
		return is_footer(sparse, size - 511) ? size - 511 : size;
	return is_footer(sparse, size - 512) ? size - 512 : size;
}

void truth_init(struct truth *truth, const struct sparse *sparse, struct hv_disk *disk)
{
	const struct vhd_info *info = vhd_get_info(disk);

	*truth = (struct truth){
		.sparse = sparse,
		.type = info->type,
		.size_bytes = disk->size_bytes,
		.bat_offset = info->bat_offset,
		.block_bytes = info->block_bytes,
		.bitmap_bytes = hv_round_up(hv_div_up(info->block_bytes, 512 * 8), 512),
		.limit = limit_of(sparse, vhd_get_file(disk)->size_bytes),
		.footer_valid = info->trailing_footer_valid,
	};
}

static void parent_sector(uint64_t sector, uint8_t buf[HV_SECTOR_SIZE])
{
	memset(buf, sector / RUN_SECTORS % 3 == 2 ? 0 : (int)(sector * 37 % 255 + 1),
	       HV_SECTOR_SIZE);
}

static enum truth_kind of_parent(const struct truth *truth, uint64_t sector, uint64_t parent_bytes,
				 uint8_t buf[HV_SECTOR_SIZE])
{
	memset(buf, 0, HV_SECTOR_SIZE);
	if (truth->type == VHD_DYNAMIC)
		return TRUTH_ZERO;
	if (sector * HV_SECTOR_SIZE < parent_bytes)
		parent_sector(sector, buf);
	return TRUTH_PARENT;
}

enum truth_kind truth_sector(const struct truth *truth, uint64_t sector, uint64_t parent_bytes,
			     uint8_t buf[HV_SECTOR_SIZE])
{
	uint64_t block, within, place, at;
	uint8_t bits;

	if (truth->type == VHD_FIXED) {
		sparse_peek(truth->sparse, sector * HV_SECTOR_SIZE, buf, HV_SECTOR_SIZE);
		return TRUTH_DATA;
	}
	block = sector * HV_SECTOR_SIZE / truth->block_bytes;
	within = sector % (truth->block_bytes / HV_SECTOR_SIZE);
	if (truth->any && truth->any[block])
		return TRUTH_ANY;
	place = big(truth->sparse, truth->bat_offset + 4 * block, 4);
	if (place == UINT32_MAX)
		return of_parent(truth, sector, parent_bytes, buf);
	place *= HV_SECTOR_SIZE;
	sparse_peek(truth->sparse, place + within / 8, &bits, 1);
	if (!(bits >> (7 - within % 8) & 1))
		return of_parent(truth, sector, parent_bytes, buf);
	at = place + truth->bitmap_bytes + within * HV_SECTOR_SIZE;
	if (at + HV_SECTOR_SIZE <= truth->limit) {
		sparse_peek(truth->sparse, at, buf, HV_SECTOR_SIZE);
		return TRUTH_DATA;
	}
	memset(buf, 0, HV_SECTOR_SIZE);
	if (!truth->footer_valid)
		return TRUTH_LOST;
	/* An old footer need not begin where a sector does. */
	if (at < truth->limit)
		sparse_peek(truth->sparse, at, buf, truth->limit - at);
	return TRUTH_ZERO;
}

/* The parent. */

static void parent_submit(struct hv_disk *disk, struct hv_io *io)
{
	uint64_t sector = io->offset / HV_SECTOR_SIZE;

	for (int i = 0; i < io->iov_count; i++) {
		uint8_t *out = io->iov[i].iov_base;

		fuzz_assert(io->iov[i].iov_len % HV_SECTOR_SIZE == 0, "a vector of odd length");
		for (size_t at = 0; at < io->iov[i].iov_len; at += HV_SECTOR_SIZE)
			parent_sector(sector++, out + at);
	}
	hv_loop_finish(disk->loop, io, 0);
}

static int parent_extent(struct hv_disk *disk, uint64_t offset, uint64_t length, unsigned flags,
			 struct hv_extent *ret, struct hv_err *err)
{
	uint64_t run = offset / (RUN_SECTORS * HV_SECTOR_SIZE);
	uint64_t end = (run + 1) * RUN_SECTORS * HV_SECTOR_SIZE;

	(void)flags;
	(void)err;
	fuzz_assert(hv_range_inside(offset, length, disk->size_bytes),
		    "the parent is asked for more than it has");
	*ret = (struct hv_extent){ .offset = offset,
				   .length = hv_min_u64(length, end - offset),
				   .state = run % 3 == 2 ? HV_EXTENT_ZERO : HV_EXTENT_DATA,
				   .host_offset = HV_NO_HOST_OFFSET };
	return 0;
}

static void parent_close(struct hv_disk *disk)
{
	free(disk);
}

static const struct hv_disk_ops parent_ops = {
	.format = "raw",
	.submit = parent_submit,
	.extent = parent_extent,
	.close = parent_close,
};

struct hv_disk *fuzz_parent(uint64_t size_bytes)
{
	struct hv_disk *disk = calloc(1, sizeof(*disk));

	*disk = (struct hv_disk){ .ops = &parent_ops,
				  .loop = fuzz_loop(),
				  .path = "parent.vhd",
				  .size_bytes = size_bytes };
	return disk;
}
